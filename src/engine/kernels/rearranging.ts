import type * as tf from '@tensorflow/tfjs-core';
import { sizeOf } from '../host-tensor.js';
import { identityOrder } from '../layout.js';
import { dtypeOf } from '../tracer.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';
import { reshape, reverse, slice, transpose } from './shape.js';

function pad(
  call: KernelCall,
  x: tf.TensorInfo,
  paddings: readonly (readonly [number, number])[],
): tf.TensorInfo {
  const pads = call.graph.integers([...paddings.map(([low]) => low), ...paddings.map(([, high]) => high)]);
  const name = call.graph.add('Pad', [call.tracer.name(x), pads, call.graph.scalar(0, dtypeOf(x))]);
  const shape = x.shape.map((dim, axis) => dim + (paddings[axis]?.[0] ?? 0) + (paddings[axis]?.[1] ?? 0));
  return call.tracer.result(name, shape, dtypeOf(x));
}

/** One Gather per padded axis: ONNX reflects, but it does not repeat the edge. */
function mirrorPad(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const { paddings, mode } = call.attrs as { paddings: [number, number][]; mode: 'reflect' | 'symmetric' };
  return paddings.reduce(
    (x, padding, axis) => {
      const indices = mirroredIndices(x.shape[axis] ?? 1, padding, mode);
      if (indices.length === x.shape[axis]) return x;
      const name = graph.add('Gather', [tracer.name(x), graph.integers(indices)], { axis });
      return tracer.result(name, x.shape.with(axis, indices.length), dtypeOf(x));
    },
    input(call, 'x'),
  );
}

/** For each position of a mirrored axis, the position that it repeats. */
export function mirroredIndices(
  size: number,
  [before, after]: readonly [number, number],
  mode: 'reflect' | 'symmetric',
): number[] {
  const edge = mode === 'symmetric' ? 1 : 0;
  return Array.from({ length: before + size + after }, (_, index) => {
    const position = index - before;
    if (position < 0) return -position - edge;
    return position < size ? position : 2 * (size - 1) - position + edge;
  });
}

function spaceToBatch(call: KernelCall): tf.TensorInfo {
  const x = input(call, 'x');
  const { blockShape, paddings } = call.attrs as { blockShape: number[]; paddings: [number, number][] };
  const rest = x.shape.slice(1 + blockShape.length);
  const padded = pad(call, x, [[0, 0], ...paddings, ...rest.map((): [number, number] => [0, 0])]);
  const [n = 1] = padded.shape;
  const blocks = blockShape.map((block, axis) => (padded.shape[axis + 1] ?? 1) / block);
  const split = reshape(call, padded, [
    n,
    ...blocks.flatMap((dim, axis) => [dim, blockShape[axis] ?? 1]),
    ...rest,
  ]);
  const inBlock = blockShape.map((_, axis) => 2 * axis + 2);
  const ofBlock = blockShape.map((_, axis) => 2 * axis + 1);
  const tail = rest.map((_, axis) => 1 + 2 * blockShape.length + axis);
  const moved = transpose(call, split, [...inBlock, 0, ...ofBlock, ...tail]);
  return reshape(call, moved, [n * sizeOf(blockShape), ...blocks, ...rest]);
}

function batchToSpace(call: KernelCall): tf.TensorInfo {
  const x = input(call, 'x');
  const { blockShape, crops } = call.attrs as { blockShape: number[]; crops: [number, number][] };
  const rank = blockShape.length;
  const [batch = 1, ...dims] = x.shape;
  const n = batch / sizeOf(blockShape);
  const split = reshape(call, x, [...blockShape, n, ...dims]);
  const pairs = blockShape.flatMap((_, axis) => [rank + 1 + axis, axis]);
  const tail = identityOrder(split.shape.length).slice(2 * rank + 1);
  const moved = transpose(call, split, [rank, ...pairs, ...tail]);
  const rest = dims.slice(rank);
  const whole = blockShape.map((block, axis) => block * (dims[axis] ?? 1));
  const joined = reshape(call, moved, [n, ...whole, ...rest]);
  const begin = [0, ...crops.map(([low]) => low), ...rest.map(() => 0)];
  const size = [
    n,
    ...whole.map((dim, axis) => dim - (crops[axis]?.[0] ?? 0) - (crops[axis]?.[1] ?? 0)),
    ...rest,
  ];
  return slice(call, joined, begin, size);
}

function depthToSpace(call: KernelCall): tf.TensorInfo {
  const { blockSize, dataFormat } = call.attrs as { blockSize: number; dataFormat: 'NHWC' | 'NCHW' };
  const given = input(call, 'x');
  const x = dataFormat === 'NCHW' ? transpose(call, given, [0, 2, 3, 1]) : given;
  const [n = 1, h = 1, w = 1, c = 1] = x.shape;
  const depth = c / (blockSize * blockSize);
  const split = reshape(call, x, [n, h, w, blockSize, blockSize, depth]);
  const moved = transpose(call, split, [0, 1, 3, 2, 4, 5]);
  const y = reshape(call, moved, [n, h * blockSize, w * blockSize, depth]);
  return dataFormat === 'NCHW' ? transpose(call, y, [0, 3, 1, 2]) : y;
}

/** Elements in other places: mirrored borders, blocks, flips. */
export const rearranging: readonly KernelDefinition[] = [
  kernel('MirrorPad', 'Gather', mirrorPad),
  kernel('SpaceToBatchND', 'Pad, Reshape', spaceToBatch),
  kernel('BatchToSpaceND', 'Reshape, Slice', batchToSpace),
  kernel('DepthToSpace', 'Reshape', depthToSpace),
  kernel('FlipLeftRight', 'Slice', (call) => reverse(call, input(call, 'image'), [2])),
];
