import * as tf from '@tensorflow/tfjs-core';
import { CHANNELS_FIRST, FILTER_OIHW } from '../layout.js';
import { fusedActivation } from './activation.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

type Conv2DInfo = tf.backend_util.Conv2DInfo;
type Shape4D = [number, number, number, number];

interface ConvAttributes {
  readonly strides: number | [number, number];
  readonly pad: Parameters<typeof tf.backend_util.computeConv2DInfo>[4];
  readonly dilations?: number | [number, number];
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** Logical HWIO filters held as IOHW. */
const FILTER_IOHW = [2, 3, 0, 1];
/** Images as channels and channels as images: logical NHWC held as CNHW. */
const CHANNELS_AS_BATCH = [3, 0, 1, 2];
/** Up to this many input channels, the filter gradient is a convolution with the images as channels. */
const FEW_CHANNELS = 4;
/** Up to this many positions, a transposed convolution that reads its weights once for every image is too slow. */
const FEW_POSITIONS = 16;
/** End of a Slice that runs backwards through the first element. */
const BEFORE_START = -2147483648;

function convInfo(call: KernelCall, xShape: number[], filterShape: number[], depthwise = false): Conv2DInfo {
  const { strides, pad, dilations, dimRoundingMode } = call.attrs as unknown as ConvAttributes;
  return tf.backend_util.computeConv2DInfo(
    xShape as Shape4D,
    filterShape as Shape4D,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
    depthwise,
  );
}

function convAttributes(info: Conv2DInfo): Record<string, number[]> {
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    pads: padsOf(info),
  };
}

function padsOf({ padInfo }: Conv2DInfo): number[] {
  return [padInfo.top, padInfo.left, padInfo.bottom, padInfo.right];
}

function convolve(call: KernelCall, bias?: tf.TensorInfo): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const filter = input(call, 'filter');
  const info = convInfo(call, x.shape, filter.shape);
  const operands = [tracer.name(x, CHANNELS_FIRST), tracer.name(filter, FILTER_OIHW)];
  if (bias) operands.push(tracer.name(bias));
  const name = graph.add('Conv', operands, convAttributes(info));
  return tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
}

/** d(loss)/d(input): a plain convolution with turned filters at stride 1, else a transposed convolution. */
function inputGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const dy = input(call, 'dy');
  const filter = input(call, 'filter');
  const { inputShape } = call.attrs as unknown as { inputShape: number[] };
  const info = convInfo(call, inputShape, filter.shape);
  const { filterHeight, filterWidth, padInfo } = info;
  const layout = { order: CHANNELS_FIRST };
  const gradient = tracer.name(dy, CHANNELS_FIRST);
  if (info.strideHeight === 1 && info.strideWidth === 1) {
    const held = tracer.name(filter, FILTER_IOHW);
    const weights = filterHeight > 1 || filterWidth > 1 ? turned(call, held, info) : held;
    const name = graph.add('Conv', [gradient, weights], {
      kernel_shape: [filterHeight, filterWidth],
      pads: [
        filterHeight - 1 - padInfo.top,
        filterWidth - 1 - padInfo.left,
        filterHeight - 1 - padInfo.bottom,
        filterWidth - 1 - padInfo.right,
      ],
    });
    return tracer.result(name, inputShape, 'float32', layout);
  }
  if (splitsIntoPhases(info)) {
    return tracer.result(inputGradientByPhases(call, gradient, info), inputShape, 'float32', layout);
  }
  const reach = (out: number, stride: number, size: number, pads: number): number =>
    (out - 1) * stride + size - pads;
  const name = graph.add('ConvTranspose', [gradient, tracer.name(filter, FILTER_OIHW)], {
    kernel_shape: [filterHeight, filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    pads: padsOf(info),
    output_padding: [
      info.inHeight - reach(info.outHeight, info.strideHeight, filterHeight, padInfo.top + padInfo.bottom),
      info.inWidth - reach(info.outWidth, info.strideWidth, filterWidth, padInfo.left + padInfo.right),
    ],
  });
  return tracer.result(name, inputShape, 'float32', layout);
}

/** Whether phases pay, every position modulo the stride is reached by filter taps, and the stride divides the image. */
function splitsIntoPhases(info: Conv2DInfo): boolean {
  return (
    info.outHeight * info.outWidth <= FEW_POSITIONS &&
    info.inChannels > FEW_CHANNELS &&
    info.strideHeight === info.strideWidth &&
    info.filterHeight >= info.strideHeight &&
    info.filterWidth >= info.strideWidth &&
    info.inHeight === info.outHeight * info.strideHeight &&
    info.inWidth === info.outWidth * info.strideWidth
  );
}

/** Taps of one axis that reach the positions `phase` modulo the stride, and the padding of a convolution with them. */
function phaseOf(
  phase: number,
  stride: number,
  size: number,
  pad: number,
): { first: number; taps: number; before: number; after: number } {
  const first = (phase + pad) % stride;
  const taps = Math.ceil((size - first) / stride);
  const reach = Math.floor((phase + pad) / stride);
  return { first, taps, before: taps - 1 - reach, after: reach };
}

/**
 * A transposed convolution as one plain convolution for each position modulo the stride (Shi et al. 2016).
 */
function inputGradientByPhases(call: KernelCall, gradient: string, info: Conv2DInfo): string {
  const { graph } = call;
  const weights = call.tracer.name(input(call, 'filter'), FILTER_IOHW);
  const stride = info.strideHeight;
  const phases: string[] = [];
  for (let row = 0; row < stride; row++) {
    const vertical = phaseOf(row, stride, info.filterHeight, info.padInfo.top);
    for (let column = 0; column < stride; column++) {
      const horizontal = phaseOf(column, stride, info.filterWidth, info.padInfo.left);
      // From the last tap of the phase backwards: turned, as every input gradient's filters.
      const taps = graph.add('Slice', [
        weights,
        graph.integers([lastTap(vertical, stride), lastTap(horizontal, stride)]),
        graph.integers([BEFORE_START, BEFORE_START]),
        graph.integers([2, 3]),
        graph.integers([-stride, -stride]),
      ]);
      phases.push(
        graph.add('Conv', [gradient, taps], {
          kernel_shape: [vertical.taps, horizontal.taps],
          pads: [vertical.before, horizontal.before, vertical.after, horizontal.after],
        }),
      );
    }
  }
  const joined = graph.add('Concat', phases, { axis: 1 });
  return graph.add('DepthToSpace', [joined], { blocksize: stride, mode: 'DCR' });
}

function lastTap({ first, taps }: { first: number; taps: number }, stride: number): number {
  return first + (taps - 1) * stride;
}

/**
 * IOHW filters turned by 180°. A product with the reversed unit matrix does it: ONNX Runtime copies element by element
 * where an axis of a few elements is reversed or moved.
 */
function turned({ graph }: KernelCall, weights: string, info: Conv2DInfo): string {
  const { filterHeight, filterWidth, inChannels, outChannels } = info;
  const taps = filterHeight * filterWidth;
  const reversed = Float32Array.from({ length: taps * taps }, (_, index) =>
    (index % taps) + Math.floor(index / taps) === taps - 1 ? 1 : 0,
  );
  const rows = graph.add('Reshape', [weights, graph.integers([inChannels * outChannels, taps])]);
  const product = graph.add('Gemm', [rows, graph.constant(reversed, [taps, taps])]);
  return graph.add('Reshape', [
    product,
    graph.integers([inChannels, outChannels, filterHeight, filterWidth]),
  ]);
}

/** d(loss)/d(filter). */
function filterGradient(call: KernelCall): tf.TensorInfo {
  const { filterShape } = call.attrs as unknown as { filterShape: number[] };
  const info = convInfo(call, input(call, 'x').shape, filterShape);
  return info.inChannels <= FEW_CHANNELS
    ? filterGradientByConv(call, info, filterShape)
    : filterGradientByGemm(call, info, filterShape);
}

/** x as [C,N,H,W] convolved with dy as [O,N,H',W'] gives [C,O,kh,kw]: one wide product when C is small. */
function filterGradientByConv(call: KernelCall, info: Conv2DInfo, filterShape: number[]): tf.TensorInfo {
  const { tracer, graph } = call;
  const conv = graph.add(
    'Conv',
    [tracer.name(input(call, 'x'), CHANNELS_AS_BATCH), tracer.name(input(call, 'dy'), CHANNELS_AS_BATCH)],
    {
      kernel_shape: [info.outHeight, info.outWidth],
      dilations: [info.strideHeight, info.strideWidth],
      pads: padsOf(info),
    },
  );
  // A stride that does not divide the input leaves rows that belong to no filter tap.
  const name = graph.add('Slice', [
    conv,
    graph.integers([0, 0]),
    graph.integers([info.filterHeight, info.filterWidth]),
    graph.integers([2, 3]),
  ]);
  return tracer.result(name, filterShape, 'float32', { order: FILTER_IOHW });
}

/** One matrix product per filter tap: dy as rows, transposed, times the shifted input as rows. */
function filterGradientByGemm(call: KernelCall, info: Conv2DInfo, filterShape: number[]): tf.TensorInfo {
  const { tracer, graph } = call;
  const { filterHeight, filterWidth, strideHeight, strideWidth, padInfo } = info;
  const rows = info.batchSize * info.outHeight * info.outWidth;
  const gradientRows = graph.add('Reshape', [
    tracer.name(input(call, 'dy')),
    graph.dimensions([rows, info.outChannels]),
  ]);
  const spanHeight = (info.outHeight - 1) * strideHeight;
  const spanWidth = (info.outWidth - 1) * strideWidth;
  const bottom = Math.max(0, spanHeight + filterHeight - info.inHeight - padInfo.top);
  const right = Math.max(0, spanWidth + filterWidth - info.inWidth - padInfo.left);
  let x = tracer.name(input(call, 'x'));
  if (padInfo.top + padInfo.left + bottom + right > 0) {
    const pads = graph.integers([0, padInfo.top, padInfo.left, 0, 0, bottom, right, 0]);
    x = graph.add('Pad', [x, pads, graph.scalar(0)]);
  }
  const taps: string[] = [];
  for (let i = 0; i < filterHeight; i++) {
    for (let j = 0; j < filterWidth; j++) {
      const whole = filterHeight === 1 && filterWidth === 1 && strideHeight === 1 && strideWidth === 1;
      const patch = whole
        ? x
        : graph.add('Slice', [
            x,
            graph.integers([i, j]),
            graph.integers([i + spanHeight + 1, j + spanWidth + 1]),
            graph.integers([1, 2]),
            graph.integers([strideHeight, strideWidth]),
          ]);
      const rowsOfPatch = graph.add('Reshape', [patch, graph.dimensions([rows, info.inChannels])]);
      taps.push(graph.add('Gemm', [gradientRows, rowsOfPatch], { transA: 1 }));
    }
  }
  const order = { order: FILTER_OIHW };
  const [out, inner] = [info.outChannels, info.inChannels];
  const shape = graph.integers([out, inner, filterHeight, filterWidth]);
  if (taps.length === 1)
    return tracer.result(graph.add('Reshape', [taps[0] ?? '', shape]), filterShape, 'float32', order);
  const stacked = graph.add('Concat', taps, { axis: 0 });
  const rowsOfTaps = graph.add('Reshape', [stacked, graph.integers([taps.length, out * inner])]);
  // As a product, because ONNX Runtime would merge a Transpose here with the Reshape into a slow one.
  const tapsLast = graph.add(
    'Gemm',
    [rowsOfTaps, graph.constant(unitMatrix(taps.length), [taps.length, taps.length])],
    {
      transA: 1,
    },
  );
  return tracer.result(graph.add('Reshape', [tapsLast, shape]), filterShape, 'float32', order);
}

function unitMatrix(size: number): Float32Array {
  return Float32Array.from({ length: size * size }, (_, index) => (index % (size + 1) === 0 ? 1 : 0));
}

/** Convolutions and their gradients. */
export const convolution: readonly KernelDefinition[] = [
  kernel('Conv2D', 'Conv', (call) => convolve(call)),
  kernel('FusedConv2D', 'Conv, activation', (call) =>
    fusedActivation(call, convolve(call, call.inputs['bias'])),
  ),
  kernel(
    'Conv2DBackpropInput',
    'Conv with turned filters (stride 1); Conv, DepthToSpace; ConvTranspose',
    inputGradient,
  ),
  kernel('Conv2DBackpropFilter', 'Pad, Slice, Gemm, Concat; Conv for few channels', filterGradient),
  kernel('DepthwiseConv2dNative', 'Conv (group)', (call) => {
    const { tracer, graph } = call;
    const x = input(call, 'x');
    const filter = input(call, 'filter');
    const info = convInfo(call, x.shape, filter.shape, true);
    const [height = 1, width = 1, channels = 1, multiplier = 1] = filter.shape;
    const weights = graph.add('Reshape', [
      tracer.name(filter, FILTER_IOHW),
      graph.integers([channels * multiplier, 1, height, width]),
    ]);
    const name = graph.add('Conv', [tracer.name(x, CHANNELS_FIRST), weights], {
      ...convAttributes(info),
      group: channels,
    });
    return tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
  }),
];
