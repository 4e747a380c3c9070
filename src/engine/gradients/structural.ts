import * as tf from '@tensorflow/tfjs-core';
import { rule, ruleOfX, saved, spread, type GradientCall, type GradientRule } from './gradient.js';

const x = (call: GradientCall): tf.Tensor => saved(call, 'x');

/** Gradients of reductions, reshapes, slices and matrix products. */
export const structuralGradients: readonly GradientRule[] = [
  ruleOfX('Sum', ['x'], (call) =>
    spread(call.dy, x(call).shape, call.attrs['axis'] as number | number[] | undefined),
  ),
  ruleOfX('Mean', ['x'], (call) => {
    const spreadDy = (dy: tf.Tensor): tf.Tensor =>
      spread(dy, x(call).shape, call.attrs['axis'] as number | number[] | undefined);
    return spreadDy(tf.div(call.dy, x(call).size / call.dy.size));
  }),
  rule('Max', ['x', 'y'], (call) => {
    const { reductionIndices } = call.attrs as { reductionIndices?: number | number[] };
    const mask = tf.cast(
      tf.equal(x(call), spread(saved(call, 'y'), x(call).shape, reductionIndices)),
      'float32',
    );
    return { x: () => tf.mul(spread(call.dy, x(call).shape, reductionIndices), mask) };
  }),
  rule('Softmax', ['y'], (call) => {
    const probabilities = saved(call, 'y');
    const weighted = tf.mul(call.dy, probabilities);
    const { dim } = call.attrs as { dim: number };
    return { logits: () => tf.sub(weighted, tf.mul(tf.sum(weighted, dim, true), probabilities)) };
  }),
  rule('LogSoftmax', ['y'], (call) => {
    const { axis } = call.attrs as { axis: number };
    return {
      logits: () => tf.sub(call.dy, tf.mul(tf.sum(call.dy, axis, true), tf.exp(saved(call, 'y')))),
    };
  }),
  ruleOfX('Reshape', ['x'], (call) => tf.reshape(call.dy, x(call).shape)),
  rule('ExpandDims', ['input'], (call) => ({ input: () => tf.reshape(call.dy, saved(call, 'input').shape) })),
  ruleOfX('Transpose', [], (call) => {
    const perm = call.attrs['perm'] as number[];
    return tf.transpose(
      call.dy,
      perm.map((_, axis) => perm.indexOf(axis)),
    );
  }),
  ruleOfX('Tile', ['x'], (call) => {
    const reps = call.attrs['reps'] as number[];
    const parts = x(call).shape.flatMap((dim, axis) => [reps[axis] ?? 1, dim]);
    const summed = tf.sum(
      tf.reshape(call.dy, parts),
      x(call).shape.map((_, axis) => 2 * axis),
    );
    return tf.reshape(summed, x(call).shape);
  }),
  ruleOfX('Slice', ['x'], (call) => {
    const { begin, size } = call.attrs as { begin: number[]; size: number[] };
    const paddings = x(call).shape.map((dim, axis): [number, number] => {
      const low = begin[axis] ?? 0;
      const given = size[axis] ?? -1;
      return [low, given < 0 ? 0 : dim - low - given];
    });
    return tf.pad(call.dy, paddings);
  }),
  ruleOfX('PadV2', ['x'], (call) => {
    const paddings = call.attrs['paddings'] as [number, number][];
    return tf.slice(
      call.dy,
      paddings.map(([low]) => low),
      x(call).shape,
    );
  }),
  rule('BatchMatMul', ['a', 'b'], (call) => {
    const { dy } = call;
    const a = saved(call, 'a');
    const b = saved(call, 'b');
    const { transposeA, transposeB } = call.attrs as { transposeA: boolean; transposeB: boolean };
    return {
      a: () => (transposeA ? tf.matMul(b, dy, transposeB, true) : tf.matMul(dy, b, false, !transposeB)),
      b: () => (transposeB ? tf.matMul(dy, a, true, transposeA) : tf.matMul(a, dy, !transposeA, false)),
    };
  }),
];

/** Concat takes a list, whose gradient is the list of pieces. */
export function registerConcatGradient(): void {
  if ((tf.getGradient('Concat') as tf.GradConfig | undefined) !== undefined) return;
  tf.registerGradient({
    kernelName: 'Concat',
    saveAllInputs: true,
    gradFunc: (dy, pieces, attrs) => {
      const axis = tf.util.parseAxisParam(attrs['axis'] as number, pieces[0]?.shape ?? [])[0] ?? 0;
      const parts = tf.split(
        dy as tf.Tensor,
        pieces.map((piece) => piece.shape[axis] ?? 0),
        axis,
      );
      return Object.fromEntries(parts.map((part, index) => [index, () => part]));
    },
  });
}
