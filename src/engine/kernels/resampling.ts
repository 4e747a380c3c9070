import type * as tf from '@tensorflow/tfjs-core';
import { CHANNELS_FIRST } from '../layout.js';
import { asFloat } from './arithmetic.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

interface ResizeAttributes {
  readonly size: [number, number];
  readonly alignCorners: boolean;
  readonly halfPixelCenters: boolean;
}

type Mode = 'nearest' | 'linear';

function resize(call: KernelCall, mode: Mode): tf.TensorInfo {
  const { tracer, graph } = call;
  const given = input(call, 'images');
  const images = mode === 'linear' ? asFloat(call, given) : given;
  const { size, alignCorners, halfPixelCenters } = call.attrs as unknown as ResizeAttributes;
  const [n = 1, height = 1, width = 1, c = 1] = images.shape;
  const scales = [size[0] / height, size[1] / width];
  // Sizes are exact for every ratio; scales keep a symbolic batch out of it.
  const target = scales.every(Number.isInteger)
    ? ['', graph.constant(Float32Array.of(1, 1, ...scales), [4])]
    : ['', '', graph.dimensions([n, c, ...size])];
  const coordinates = alignCorners ? 'align_corners' : halfPixelCenters ? 'half_pixel' : 'asymmetric';
  const name = graph.add('Resize', [tracer.name(images, CHANNELS_FIRST), ...target], {
    mode,
    // TensorFlow's nearest pixel of half-pixel centres is floor((i + 0.5) · scale).
    nearest_mode: coordinates === 'asymmetric' ? 'floor' : 'round_prefer_ceil',
    coordinate_transformation_mode: coordinates,
  });
  const dtype = images.dtype === 'int32' ? 'int32' : 'float32';
  return tracer.result(name, [n, ...size, c], dtype, { order: CHANNELS_FIRST });
}

/** Resizing is a matrix product along each axis; its gradient multiplies with the transposed matrices. */
function resizeGradient(call: KernelCall, mode: Mode): tf.TensorInfo {
  const { tracer, graph } = call;
  const dy = input(call, 'dy');
  const shape = input(call, 'images').shape;
  const [, height = 1, width = 1] = shape;
  const [, outHeight = 1, outWidth = 1] = dy.shape;
  const attrs = call.attrs as unknown as ResizeAttributes;
  const columns = graph.constant(weights(mode, outWidth, width, attrs), [outWidth, width]);
  const rows = graph.constant(weights(mode, outHeight, height, attrs), [outHeight, height]);
  const acrossWidth = graph.add('MatMul', [tracer.name(dy, CHANNELS_FIRST), columns]);
  const upright = graph.add('Transpose', [rows], { perm: [1, 0] });
  return tracer.result(graph.add('MatMul', [upright, acrossWidth]), shape, 'float32', {
    order: CHANNELS_FIRST,
  });
}

/** How much each of `size` pixels gives to each of `outSize`, [outSize, size]. */
function weights(mode: Mode, outSize: number, size: number, attrs: ResizeAttributes): Float32Array {
  const { alignCorners, halfPixelCenters } = attrs;
  const step = alignCorners && outSize > 1 ? (size - 1) / (outSize - 1) : size / outSize;
  const matrix = new Float32Array(outSize * size);
  const give = (out: number, pixel: number, weight: number): void => {
    const index = out * size + Math.min(size - 1, pixel);
    matrix[index] = (matrix[index] ?? 0) + weight;
  };
  for (let out = 0; out < outSize; out++) {
    if (mode === 'nearest') {
      const position = halfPixelCenters ? (out + 0.5) * step : out * step;
      give(out, alignCorners ? Math.round(position) : Math.floor(position), 1);
    } else {
      const position = Math.max(0, halfPixelCenters ? (out + 0.5) * step - 0.5 : out * step);
      const before = Math.floor(position);
      give(out, before, 1 - (position - before));
      give(out, before + 1, position - before);
    }
  }
  return matrix;
}

/** Resizing of images and its gradients. */
export const resampling: readonly KernelDefinition[] = [
  kernel('ResizeNearestNeighbor', 'Resize', (call) => resize(call, 'nearest')),
  kernel('ResizeBilinear', 'Resize', (call) => resize(call, 'linear')),
  kernel('ResizeNearestNeighborGrad', 'MatMul', (call) => resizeGradient(call, 'nearest')),
  kernel('ResizeBilinearGrad', 'MatMul', (call) => resizeGradient(call, 'linear')),
];
