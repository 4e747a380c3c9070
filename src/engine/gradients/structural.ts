import * as tf from '@tensorflow/tfjs-core';
import {
  rule,
  ruleOfX,
  saved,
  spread,
  unbroadcast,
  type GradientCall,
  type GradientRule,
} from './gradient.js';

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
  // Max takes its axes as `reductionIndices`, Min as `axis`.
  ...['Max', 'Min'].map((kernel) =>
    ruleOfX(kernel, ['x', 'y'], (call) => {
      const { axis, reductionIndices } = call.attrs as Record<
        'axis' | 'reductionIndices',
        number[] | undefined
      >;
      const axes = reductionIndices ?? axis;
      const extreme = tf.equal(x(call), spread(saved(call, 'y'), x(call).shape, axes));
      return tf.mul(spread(call.dy, x(call).shape, axes), tf.cast(extreme, 'float32'));
    }),
  ),
  ruleOfX('Prod', ['x'], (call) => {
    // The product of all other elements, without a division by the element, which may be zero.
    const { shape } = x(call);
    const axes = tf.util.parseAxisParam(call.attrs['axis'] as number | number[], shape);
    const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const order = [...kept, ...axes];
    const moved = tf.transpose(x(call), order);
    const count = axes.reduce((product, axis) => product * (shape[axis] ?? 1), 1);
    const rows = tf.reshape(moved, [x(call).size / count, 1, count]);
    const others = tf.prod(tf.where(tf.cast(tf.eye(count), 'bool'), tf.onesLike(rows), rows), -1);
    const slopes = tf.transpose(
      tf.reshape(others, moved.shape),
      order.map((_, axis) => order.indexOf(axis)),
    );
    return tf.mul(spread(call.dy, shape, axes), slopes);
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
  ruleOfX('BroadcastTo', ['x'], (call) => unbroadcast(call.dy, x(call).shape)),
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

/** Kernels that take a list: their gradient is the list of the pieces' gradients. */
const OF_LISTS: Record<string, (dy: tf.Tensor, pieces: tf.Tensor[], attrs: tf.NamedAttrMap) => tf.Tensor[]> =
  {
    Concat: (dy, pieces, attrs) => {
      const axis = tf.util.parseAxisParam(attrs['axis'] as number, pieces[0]?.shape ?? [])[0] ?? 0;
      return tf.split(
        dy,
        pieces.map((piece) => piece.shape[axis] ?? 0),
        axis,
      );
    },
    Pack: (dy, _pieces, attrs) => tf.unstack(dy, attrs['axis'] as number),
    AddN: (dy, pieces) => pieces.map(() => dy),
  };

/** The kernels of {@link registerListGradients}, for the documentation. */
export const KERNELS_OF_LISTS = Object.keys(OF_LISTS);

/** Registers the gradients of kernels that take a list. */
export function registerListGradients(): void {
  for (const [kernelName, gradients] of Object.entries(OF_LISTS)) {
    tf.registerGradient({
      kernelName,
      saveAllInputs: true,
      gradFunc: (dy, pieces, attrs) =>
        Object.fromEntries(
          gradients(dy as tf.Tensor, pieces, attrs).map((part, index) => [index, () => part]),
        ),
    });
  }
}
