import * as tf from '@tensorflow/tfjs-core';
import { mirroredIndices } from '../kernels/rearranging.js';
import { rule, ruleOfX, saved, type GradientRule } from './gradient.js';

const x = (call: Parameters<GradientRule['gradients']>[0]): tf.Tensor => saved(call, 'x');

/** Adds slices of `gradient` along `axis` up to a tensor with `size` slices: slice i goes to `indices[i]`. */
function addAlong(gradient: tf.Tensor, indices: tf.Tensor, size: number, axis: number): tf.Tensor {
  const others = gradient.shape.map((_, index) => index).filter((index) => index !== axis);
  const order = [axis, ...others];
  const summed = tf.unsortedSegmentSum(
    tf.transpose(gradient, order),
    tf.cast(indices, 'int32') as tf.Tensor1D,
    size,
  );
  return tf.transpose(
    summed,
    order.map((_, index) => order.indexOf(index)),
  );
}

/** Gradients of picking, splitting, joining and rearranging. */
export const indexingGradients: readonly GradientRule[] = [
  rule('GatherV2', ['x', 'indices'], (call) => {
    const { axis, batchDims } = call.attrs as { axis: number; batchDims: number };
    const source = x(call);
    const at = tf.util.parseAxisParam(axis, source.shape)[0] ?? 0;
    const indices = saved(call, 'indices');
    const shared = batchDims < 0 ? batchDims + indices.rank : batchDims;
    const batch = source.shape.slice(0, shared);
    const lead = batch.reduce((product, dim) => product * dim, 1);
    const between = source.shape.slice(shared, at).reduce((product, dim) => product * dim, 1);
    const count = indices.size / lead;
    const size = source.shape[at] ?? 1;
    const rest = source.shape.slice(at + 1).reduce((product, dim) => product * dim, 1);
    return {
      // Batch b picks among the rows b·size … (b+1)·size − 1 of all batches.
      x: () => {
        const picked = tf.transpose(tf.reshape(call.dy, [lead, between, count, rest]), [0, 2, 1, 3]);
        const offsets = tf.mul(
          tf.reshape(tf.range(0, lead, 1, 'int32'), [lead, 1]),
          tf.scalar(size, 'int32'),
        );
        const rows = tf.add(tf.reshape(tf.cast(indices, 'int32'), [lead, count]), offsets);
        const flat = tf.reshape(picked, [lead * count, between * rest]);
        const summed = tf.unsortedSegmentSum(flat, tf.reshape<tf.Rank.R1>(rows, [lead * count]), lead * size);
        const apart = tf.transpose(tf.reshape(summed, [lead, size, between, rest]), [0, 2, 1, 3]);
        return tf.reshape(apart, source.shape);
      },
      indices: () => indices,
    };
  }),
  rule('GatherNd', ['params', 'indices'], (call) => ({
    params: () => tf.scatterND(saved(call, 'indices'), call.dy, saved(call, 'params').shape),
    indices: () => saved(call, 'indices'),
  })),
  rule('ScatterNd', ['indices'], (call) => ({
    updates: () => tf.gatherND(call.dy, saved(call, 'indices')),
    indices: () => saved(call, 'indices'),
  })),
  rule('UnsortedSegmentSum', ['segmentIds'], (call) => {
    const ids = saved(call, 'segmentIds');
    return {
      x: () => {
        const known = tf.greaterEqual(ids, tf.scalar(0, 'int32'));
        const rows = tf.gather(call.dy, tf.maximum(ids, tf.scalar(0, 'int32')));
        const weights = tf.reshape(tf.cast(known, 'float32'), [
          ids.size,
          ...rows.shape.slice(1).map(() => 1),
        ]);
        return tf.mul(rows, weights);
      },
      segmentIds: () => ids,
    };
  }),
  rule('TopK', ['x'], (call) => {
    const { k } = call.attrs as { k: number };
    const source = x(call);
    return {
      x: () => {
        const indices = tf.topk(source, k).indices;
        const hot = tf.oneHot(tf.cast(indices, 'int32'), source.shape.at(-1) ?? 1, 1, 0, 'float32');
        return tf.sum(tf.mul(hot, tf.expandDims(call.dy, -1)), -2);
      },
    };
  }),
  rule('SplitV', [], (call) => ({ x: () => tf.concat([...call.dys], call.attrs['axis'] as number) })),
  rule('Unpack', [], (call) => ({ value: () => tf.stack([...call.dys], call.attrs['axis'] as number) })),
  ruleOfX('Reverse', [], (call) => tf.reverse(call.dy, call.attrs['dims'] as number[])),
  rule('MirrorPad', ['x'], (call) => {
    const { paddings, mode } = call.attrs as { paddings: [number, number][]; mode: 'reflect' | 'symmetric' };
    return {
      x: () =>
        paddings.reduce((gradient, padding, axis) => {
          const size = x(call).shape[axis] ?? 1;
          if (gradient.shape[axis] === size) return gradient;
          return addAlong(gradient, tf.tensor1d(mirroredIndices(size, padding, mode), 'int32'), size, axis);
        }, call.dy),
    };
  }),
  ruleOfX('SpaceToBatchND', [], (call) => {
    const { blockShape, paddings } = call.attrs as { blockShape: number[]; paddings: [number, number][] };
    return tf.batchToSpaceND(call.dy, blockShape, paddings);
  }),
  ruleOfX('BatchToSpaceND', [], (call) => {
    const { blockShape, crops } = call.attrs as { blockShape: number[]; crops: [number, number][] };
    return tf.spaceToBatchND(call.dy, blockShape, crops);
  }),
  ruleOfX('Cumsum', [], (call) => {
    const { axis, exclusive, reverse } = call.attrs as { axis: number; exclusive: boolean; reverse: boolean };
    return tf.cumsum(call.dy, axis, exclusive, !reverse);
  }),
  rule('ResizeBilinear', ['images'], (call) => ({ images: () => resized(call, 'ResizeBilinearGrad') })),
  rule('ResizeNearestNeighbor', ['images'], (call) => ({
    images: () => resized(call, 'ResizeNearestNeighborGrad'),
  })),
];

function resized(call: Parameters<GradientRule['gradients']>[0], kernel: string): tf.Tensor {
  return tf
    .engine()
    .runKernel(kernel, { images: saved(call, 'images'), dy: call.dy }, call.attrs as tf.NamedAttrMap);
}
