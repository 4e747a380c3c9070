import { EngineError } from './errors.js';

/** TensorFlow.js kernels that are left out together, why, and what takes their place. */
export interface LeftOut {
  readonly what: string;
  readonly kernels: readonly string[];
  readonly instead: string;
}

/** Every kernel of TensorFlow.js that is not traced; no CNN, GAN, U-Net or RetinaNet needs one. */
export const LEFT_OUT: readonly LeftOut[] = [
  {
    what: 'complex numbers and Fourier transforms',
    kernels: ['Complex', 'Real', 'Imag', 'ComplexAbs', 'FFT', 'IFFT'],
    instead: 'carry real and imaginary parts as two float32 tensors',
  },
  {
    what: 'volumes',
    kernels: [
      ...['Conv3D', 'Conv3DBackpropInputV2', 'Conv3DBackpropFilterV2'],
      ...['AvgPool3D', 'AvgPool3DGrad', 'MaxPool3D', 'MaxPool3DGrad'],
    ],
    instead: 'put the slices into the batch and use the 2-D op',
  },
  {
    what: 'results whose size depends on values',
    kernels: ['NonMaxSuppressionV3', 'NonMaxSuppressionV5', 'Unique'],
    instead:
      'use an op of fixed size: tf.image.nonMaxSuppressionPadded with padToMaxOutputSize = true, tf.topk, or a mask with tf.where',
  },
  {
    what: 'random numbers',
    kernels: ['Multinomial'],
    instead: 'draw them outside and pass them in as an input',
  },
  {
    what: 'geometry of images',
    kernels: ['CropAndResize', 'Transform', 'RotateWithOffset', 'FromPixels', 'Draw'],
    instead: 'prepare the pixels before the traced function, or use tf.slice and tf.image.resizeBilinear',
  },
  {
    what: 'sparse and ragged tensors',
    kernels: [
      ...['SparseFillEmptyRows', 'SparseReshape', 'SparseSegmentMean', 'SparseSegmentSum', 'SparseToDense'],
      ...['RaggedGather', 'RaggedRange', 'RaggedTensorToTensor'],
    ],
    instead: 'use dense tensors: tf.gather, tf.scatterND, tf.unsortedSegmentSum',
  },
  {
    what: 'strings',
    kernels: ['StaticRegexReplace', 'StringNGrams', 'StringSplit', 'StringToHashBucketFast'],
    instead: 'work on strings before the traced function',
  },
  {
    what: 'counting and searching',
    kernels: ['Bincount', 'DenseBincount', 'SearchSorted', 'LowerBound', 'UpperBound'],
    instead: 'sum tf.oneHot or comparisons over the values',
  },
  {
    what: 'rarer ops of networks',
    kernels: [
      'Dilation2D',
      'Dilation2DBackpropInput',
      'Dilation2DBackpropFilter',
      'LRN',
      'LRNGrad',
      'MaxPoolWithArgmax',
    ],
    instead: 'use tf.maxPool and tf.batchNorm',
  },
  {
    what: 'rarer ops of matrices and bits',
    kernels: ['BitwiseAnd', 'BroadcastArgs', 'Cumprod', 'Diag', 'MatrixBandPart'],
    instead: 'use tf.cumsum of logarithms, tf.mul with a constant mask such as tf.eye, and tf.broadcastTo',
  },
];

/**
 * The error for a kernel or gradient that TensorFlow.js did not find, or undefined for any other error. It names the op,
 * the place of the call and what to use instead.
 */
export function missingKernel(error: Error): EngineError | undefined {
  const kernel = /Kernel '([^']+)' not registered for backend/.exec(error.message)?.[1];
  if (kernel !== undefined) {
    const leftOut = LEFT_OUT.find(({ kernels }) => kernels.includes(kernel));
    const instead = leftOut
      ? `Instead, ${leftOut.instead}.`
      : 'Use another op, or add a kernel under src/engine/kernels (docs/engine.md says how).';
    return new EngineError(
      'missing-kernel',
      `The TensorFlow.js kernel "${kernel}" has no ONNX translation (called ${caller(error)}). ${instead}`,
      { cause: error },
    );
  }
  const gradient = /gradient function not found for (\w+)/.exec(error.message)?.[1];
  if (gradient === undefined) return undefined;
  return new EngineError(
    'missing-kernel',
    `The TensorFlow.js kernel "${gradient}" has no gradient (asked for ${caller(error)}). Keep it out of what is ` +
      'differentiated, or add a rule under src/engine/gradients (docs/engine.md says how).',
    { cause: error },
  );
}

/** The first places of a stack that are neither TensorFlow.js nor the engine. */
function caller({ stack = '' }: Error): string {
  const engine = new URL('.', import.meta.url).pathname;
  const frames = stack
    .split('\n')
    .filter(
      (line) =>
        /^\s+at /.test(line) && !/tfjs-core|@tensorflow|node:internal/.test(line) && !line.includes(engine),
    )
    .map((line) => line.trim());
  return frames.slice(0, 2).join(', ') || 'at a place that is not known';
}
