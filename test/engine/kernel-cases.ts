import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { sizeOf, type HostTensor, type HostTensors, type TensorMap } from '../../src/engine/index.js';
import { batchNormTraining } from '../../src/engine/index.js';

/** One call of one kernel: what to compute, on which tensors, and by which inputs it can be differentiated. */
export interface KernelCase {
  readonly fn: (inputs: TensorMap) => tf.Tensor | tf.Tensor[];
  readonly inputs: HostTensors;
  readonly differentiable: readonly string[];
}

/** A kernel and a source of calls with random shapes. */
export interface KernelCases {
  readonly kernel: string;
  readonly title: string;
  readonly cases: fc.Arbitrary<KernelCase>;
}

type Values = (random: () => number) => number;
export const normal: Values = (random) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
export const positive: Values = (random) => 0.2 + 2 * random();
const within: Values = (random) => 1.6 * random() - 0.8;
/** Far from 0, where kinks are. */
export const offZero: Values = (random) => (random() < 0.5 ? -1 : 1) * (0.1 + random());

/** Reproducible values for a shape; fast-check draws the seed. */
export function fill(dims: readonly number[], seed: number, values: Values = normal): HostTensor {
  let state = (seed * 2654435761) >>> 0;
  const random = (): number => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return (state ^ (state >>> 12)) / 4294967296 - Math.floor((state ^ (state >>> 12)) / 4294967296);
  };
  for (let index = 0; index < 4; index++) random();
  return { dims, data: Float32Array.from({ length: sizeOf(dims) }, () => values(random)) };
}

export const seed = fc.integer({ min: 1, max: 1_000_000 });
export const dim = (max: number, min = 1): fc.Arbitrary<number> => fc.integer({ min, max });
const anyShape = fc.array(dim(5), { minLength: 0, maxLength: 4 });
export const shape = (rank: number, max = 5): fc.Arbitrary<number[]> =>
  fc.array(dim(max), { minLength: rank, maxLength: rank });
/** Two shapes that broadcast: axes are dropped to 1 or cut off at the front. */
const broadcastPair = fc
  .tuple(
    fc.array(dim(4), { minLength: 1, maxLength: 4 }),
    fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    dim(4, 0),
    fc.boolean(),
  )
  .map(([full, ones, cut, swap]): [number[], number[]] => {
    const other = full.map((size, axis) => (ones[axis] ? 1 : size)).slice(Math.min(cut, full.length));
    return swap ? [other, full] : [full, other];
  });

export function unary(
  kernel: string,
  fn: (x: tf.Tensor) => tf.Tensor,
  { values = normal, differentiable = true }: { values?: Values; differentiable?: boolean } = {},
): KernelCases {
  return {
    kernel,
    title: 'any shape',
    cases: fc.tuple(anyShape, seed).map(([dims, s]) => ({
      fn: ({ x }) => fn(x as tf.Tensor),
      inputs: { x: fill(dims, s, values) },
      differentiable: differentiable ? ['x'] : [],
    })),
  };
}

function binary(
  kernel: string,
  fn: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor,
  { values = normal, differentiable = true }: { values?: Values; differentiable?: boolean } = {},
): KernelCases {
  return {
    kernel,
    title: 'shapes that broadcast',
    cases: fc.tuple(broadcastPair, seed).map(([[a, b], s]) => ({
      fn: (inputs) => fn(inputs['a'] as tf.Tensor, inputs['b'] as tf.Tensor),
      inputs: { a: fill(a, s, values), b: fill(b, s + 1, values) },
      differentiable: differentiable ? ['a', 'b'] : [],
    })),
  };
}

function reduce(
  kernel: string,
  fn: (x: tf.Tensor, axes: number[], keep: boolean) => tf.Tensor,
  differentiable = true,
): KernelCases {
  return {
    kernel,
    title: 'any axes, kept or not',
    cases: fc
      .tuple(
        fc.array(dim(4), { minLength: 1, maxLength: 4 }),
        fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
        fc.boolean(),
        seed,
      )
      .map(([dims, chosen, keep, s]) => {
        const axes = dims.flatMap((_, axis) => (chosen[axis] ? [axis] : []));
        return {
          fn: ({ x }) => fn(x as tf.Tensor, axes.length > 0 ? axes : [0], keep),
          inputs: { x: fill(dims, s) },
          differentiable: differentiable ? ['x'] : [],
        };
      }),
  };
}

export function onShape(
  kernel: string,
  title: string,
  dims: number[],
  fn: (x: tf.Tensor) => tf.Tensor | tf.Tensor[],
  differentiable = true,
): KernelCases {
  return {
    kernel,
    title,
    cases: seed.map((s) => ({
      fn: ({ x }) => fn(x as tf.Tensor),
      inputs: { x: fill(dims, s) },
      differentiable: differentiable ? ['x'] : [],
    })),
  };
}

const compare = (kernel: string, fn: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor): KernelCases =>
  binary(kernel, (a, b) => tf.cast(fn(tf.round(a), tf.round(b)), 'float32'), { differentiable: false });

const yes = (x: tf.Tensor): tf.Tensor => tf.greater(x, 0);

interface ConvShape {
  readonly x: [number, number, number, number];
  readonly kernel: [number, number];
  readonly out: number;
  readonly strides: [number, number];
  readonly pad: 'same' | 'valid' | number;
}

const convShape: fc.Arbitrary<ConvShape> = fc.record({
  x: fc.tuple(dim(3), dim(9, 5), dim(9, 5), dim(7)),
  kernel: fc.tuple(dim(4), dim(4)),
  out: dim(6),
  strides: fc.tuple(dim(3), dim(3)),
  pad: fc.constantFrom<'same' | 'valid' | number>('same', 'valid'),
});

const squareConvShape: fc.Arbitrary<ConvShape> = fc
  .record({
    x: fc.tuple(dim(3), dim(9, 5), dim(9, 5), dim(7)),
    k: dim(4),
    out: dim(6),
    stride: dim(2),
    pad: fc.constantFrom(1, 0),
  })
  .map(({ x, k, out, stride, pad }) => ({
    x,
    kernel: [k, k],
    out,
    strides: [stride, stride],
    pad: Math.min(pad, k - 1),
  }));

const convolutions = (shapes: fc.Arbitrary<ConvShape>, title: string): KernelCases => ({
  kernel: 'Conv2D',
  title,
  cases: fc.tuple(shapes, seed).map(([{ x, kernel, out, strides, pad }, s]) => ({
    fn: (inputs) => tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, strides, pad),
    inputs: { x: fill(x, s), w: fill([...kernel, x[3], out], s + 1) },
    differentiable: ['x', 'w'],
  })),
});

function pool(
  kernel: string,
  fn: (
    x: tf.Tensor4D,
    size: [number, number],
    strides: [number, number],
    pad: 'same' | 'valid' | number,
  ) => tf.Tensor,
  differentiable: boolean,
): KernelCases {
  return {
    kernel,
    title: 'windows, strides and paddings',
    cases: fc
      .tuple(
        fc.tuple(dim(3), dim(9, 4), dim(9, 4), dim(4)),
        fc.tuple(dim(3), dim(3)),
        fc.tuple(dim(3), dim(3)),
        fc.constantFrom<'same' | 'valid'>('same', 'valid'),
        seed,
      )
      .map(([dims, size, strides, pad, s]) => ({
        fn: ({ x }) => fn(x as tf.Tensor4D, size, strides, pad),
        inputs: { x: fill(dims, s) },
        differentiable: differentiable ? ['x'] : [],
      })),
  };
}

const depthwise = { strides: [2, 2], pad: 'same', dilations: [1, 1] };

/** Calls for every kernel of the tracing backend. */
export const KERNEL_CASES: readonly KernelCases[] = [
  binary('Add', tf.add),
  binary('Sub', tf.sub),
  binary('Multiply', tf.mul),
  binary('RealDiv', tf.div, { values: positive }),
  binary('Maximum', tf.maximum),
  binary('Minimum', tf.minimum),
  binary('Pow', tf.pow, { values: positive }),
  binary('SquaredDifference', tf.squaredDifference),
  binary('FloorDiv', tf.floorDiv, { values: positive, differentiable: false }),
  {
    kernel: 'Prelu',
    title: 'one slope per channel',
    cases: seed.map((s) => ({
      fn: ({ x, alpha }) => tf.prelu(x as tf.Tensor, alpha as tf.Tensor),
      inputs: { x: fill([2, 3, 4], s, offZero), alpha: fill([4], s + 1) },
      differentiable: ['x', 'alpha'],
    })),
  },
  {
    kernel: 'AddN',
    title: 'three tensors',
    cases: seed.map((s) => ({
      fn: ({ a, b, c }) => tf.addN([a, b, c] as tf.Tensor[]),
      inputs: { a: fill([2, 3], s), b: fill([2, 3], s + 1), c: fill([2, 3], s + 2) },
      differentiable: ['a', 'b', 'c'],
    })),
  },
  unary('Abs', tf.abs, { values: offZero }),
  unary('Ceil', tf.ceil, { differentiable: false }),
  unary('Cos', tf.cos),
  unary('Cosh', tf.cosh),
  unary('Erf', tf.erf),
  unary('Exp', tf.exp),
  unary('Expm1', tf.expm1),
  unary('Floor', tf.floor, { differentiable: false }),
  unary('Log', tf.log, { values: positive }),
  unary('Log1p', tf.log1p, { values: positive }),
  unary('Neg', tf.neg),
  unary('Reciprocal', tf.reciprocal, { values: positive }),
  unary('Round', tf.round, { differentiable: false }),
  unary('Rsqrt', tf.rsqrt, { values: positive }),
  unary('Sigmoid', tf.sigmoid),
  unary('Sign', tf.sign, { values: offZero, differentiable: false }),
  unary('Sin', tf.sin),
  unary('Sinh', tf.sinh),
  unary('Softplus', tf.softplus),
  unary('Sqrt', tf.sqrt, { values: positive }),
  unary('Square', tf.square),
  unary('Tan', tf.tan, { values: within }),
  unary('Atan', tf.atan),
  unary('Acos', tf.acos, { values: within }),
  unary('Acosh', (x) => tf.acosh(tf.add(x, 1)), { values: positive }),
  unary('Asin', tf.asin, { values: within }),
  unary('Asinh', tf.asinh),
  unary('Atanh', tf.atanh, { values: within }),
  unary('IsNan', (x) => tf.cast(tf.isNaN(tf.sqrt(x)), 'float32'), { values: offZero, differentiable: false }),
  unary('IsInf', (x) => tf.cast(tf.isInf(tf.div(x, tf.relu(x))), 'float32'), {
    values: offZero,
    differentiable: false,
  }),
  unary('IsFinite', (x) => tf.cast(tf.isFinite(tf.sqrt(x)), 'float32'), {
    values: offZero,
    differentiable: false,
  }),
  binary('Mod', tf.mod, { values: offZero, differentiable: false }),
  binary('Atan2', tf.atan2, { values: offZero }),
  unary('Tanh', tf.tanh),
  unary('ClipByValue', (x) => tf.clipByValue(x, -0.5, 0.7)),
  unary('Relu', tf.relu),
  unary('Relu6', (x) => tf.relu6(tf.mul(x, 4))),
  unary('Elu', tf.elu),
  unary('Selu', tf.selu),
  unary('LeakyRelu', (x) => tf.leakyRelu(x, 0.2)),
  unary('Step', (x) => tf.step(x), { values: offZero, differentiable: false }),
  {
    ...unary('Step', (x) => tf.step(x, 0.3), { values: offZero, differentiable: false }),
    title: 'with a slope',
  },
  unary('Identity', (x) => tf.clone(x)),
  unary('Cast', (x) => tf.cast(tf.cast(tf.mul(x, 3), 'int32'), 'float32'), { differentiable: false }),
  unary('ZerosLike', (x) => tf.add(x, tf.zerosLike(x))),
  unary('OnesLike', (x) => tf.mul(x, tf.onesLike(x))),
  unary('Fill', (x) => tf.add(x, tf.fill(x.shape, 2.5))),
  compare('Equal', tf.equal),
  compare('NotEqual', tf.notEqual),
  compare('Greater', tf.greater),
  compare('GreaterEqual', tf.greaterEqual),
  compare('Less', tf.less),
  compare('LessEqual', tf.lessEqual),
  compare('LogicalAnd', (a, b) => tf.logicalAnd(yes(a), yes(b))),
  compare('LogicalOr', (a, b) => tf.logicalOr(yes(a), yes(b))),
  unary('LogicalNot', (x) => tf.cast(tf.logicalNot(yes(x)), 'float32'), { differentiable: false }),
  {
    kernel: 'Select',
    title: 'a condition of the same shape',
    cases: fc.tuple(shape(3), seed).map(([dims, s]) => ({
      fn: ({ a, b }) => tf.where(yes(tf.add(a as tf.Tensor, 0.3)), a as tf.Tensor, b as tf.Tensor),
      inputs: { a: fill(dims, s), b: fill(dims, s + 1) },
      differentiable: ['a', 'b'],
    })),
  },
  reduce('Sum', (x, axes, keep) => tf.sum(x, axes, keep)),
  reduce('Mean', (x, axes, keep) => tf.mean(x, axes, keep)),
  reduce('Max', (x, axes, keep) => tf.max(x, axes, keep)),
  reduce('Min', (x, axes, keep) => tf.min(x, axes, keep)),
  reduce('Prod', (x, axes, keep) => tf.prod(x, axes, keep)),
  reduce('All', (x, axes, keep) => tf.cast(tf.all(yes(tf.add(x, 1)), axes, keep), 'float32'), false),
  reduce('Any', (x, axes, keep) => tf.cast(tf.any(yes(tf.sub(x, 1)), axes, keep), 'float32'), false),
  reduce('ArgMax', (x, axes) => tf.cast(tf.argMax(x, axes[0]), 'float32'), false),
  reduce('ArgMin', (x, axes) => tf.cast(tf.argMin(x, axes[0]), 'float32'), false),
  unary('Softmax', (x) => tf.softmax(x.rank === 0 ? tf.reshape(x, [1]) : x)),
  unary('LogSoftmax', (x) => tf.logSoftmax(x.rank === 0 ? tf.reshape(x, [1]) : x)),
  onShape('Reshape', 'with an inferred dimension', [2, 3, 4], (x) => tf.reshape(x, [4, -1])),
  onShape('ExpandDims', 'in the middle', [2, 3], (x) => tf.expandDims(x, 1)),
  {
    kernel: 'Transpose',
    title: 'any permutation',
    cases: fc
      .tuple(shape(4, 4), fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), seed)
      .map(([dims, perm, s]) => ({
        fn: ({ x }) => tf.mul(tf.transpose(x as tf.Tensor, perm), 2),
        inputs: { x: fill(dims, s) },
        differentiable: ['x'],
      })),
  },
  onShape('Tile', 'repeated', [2, 1, 3], (x) => tf.tile(x, [1, 4, 2])),
  onShape('BroadcastTo', 'more axes', [2, 1], (x) => tf.broadcastTo(x, [3, 2, 4])),
  {
    kernel: 'Concat',
    title: 'along any axis',
    cases: fc.tuple(shape(3, 4), dim(2, 0), dim(3), seed).map(([dims, axis, more, s]) => ({
      fn: ({ a, b }) => tf.concat([a, b] as tf.Tensor[], axis),
      inputs: {
        a: fill(dims, s),
        b: fill(
          dims.map((size, at) => (at === axis ? more : size)),
          s + 1,
        ),
      },
      differentiable: ['a', 'b'],
    })),
  },
  {
    kernel: 'Pack',
    title: 'as a new axis',
    cases: seed.map((s) => ({
      fn: ({ a, b }) => tf.stack([a, b] as tf.Tensor[], 1),
      inputs: { a: fill([2, 3], s), b: fill([2, 3], s + 1) },
      differentiable: ['a', 'b'],
    })),
  },
  onShape('Unpack', 'one axis', [2, 3, 2], (x) => tf.unstack(x, 1)),
  onShape('Slice', 'a block', [4, 5, 3], (x) => tf.slice(x, [1, 0, 1], [2, -1, 1])),
  onShape(
    'StridedSlice',
    'steps, also backwards',
    [6, 5],
    (x) => tf.stridedSlice(x, [1, 4], [6, 0], [2, -2]),
    false,
  ),
  onShape('SplitV', 'unequal parts', [2, 6], (x) => tf.split(x, [1, 2, 3], 1)),
  onShape('Reverse', 'two axes', [2, 3, 4], (x) => tf.reverse(x, [0, 2])),
  onShape('PadV2', 'a constant', [2, 3], (x) =>
    tf.pad(
      x,
      [
        [1, 0],
        [0, 2],
      ],
      0.5,
    ),
  ),
  {
    kernel: 'BatchMatMul',
    title: 'with and without transposed operands',
    cases: fc
      .tuple(
        fc.tuple(dim(5), dim(5), dim(5)),
        fc.option(dim(3), { nil: undefined }),
        fc.boolean(),
        fc.boolean(),
        seed,
      )
      .map(([[m, k, n], batch, transposeA, transposeB, s]) => {
        const lead = batch === undefined ? [] : [batch];
        return {
          fn: ({ a, b }) => tf.matMul(a as tf.Tensor, b as tf.Tensor, transposeA, transposeB),
          inputs: {
            a: fill([...lead, ...(transposeA ? [k, m] : [m, k])], s),
            b: fill([...lead, ...(transposeB ? [n, k] : [k, n])], s + 1),
          },
          differentiable: ['a', 'b'],
        };
      }),
  },
  {
    kernel: '_FusedMatMul',
    title: 'bias and ReLU',
    cases: seed.map((s) => ({
      fn: ({ a, b, bias }) =>
        tf.fused.matMul({
          a: a as tf.Tensor2D,
          b: b as tf.Tensor2D,
          bias: bias as tf.Tensor1D,
          activation: 'relu',
        }),
      inputs: { a: fill([3, 4], s), b: fill([4, 2], s + 1), bias: fill([2], s + 2) },
      differentiable: [],
    })),
  },
  convolutions(convShape, 'any stride and padding'),
  convolutions(squareConvShape, 'explicit padding'),
  {
    kernel: 'FusedConv2D',
    title: 'bias and leaky ReLU',
    cases: seed.map((s) => ({
      fn: ({ x, w, bias }) =>
        tf.fused.conv2d({
          x: x as tf.Tensor4D,
          filter: w as tf.Tensor4D,
          strides: 1,
          pad: 'same',
          bias: bias as tf.Tensor1D,
          activation: 'leakyrelu',
          leakyreluAlpha: 0.1,
        }),
      inputs: { x: fill([2, 5, 5, 3], s), w: fill([3, 3, 3, 4], s + 1), bias: fill([4], s + 2) },
      differentiable: [],
    })),
  },
  {
    kernel: 'Conv2DBackpropInput',
    title: 'as a transposed convolution',
    cases: fc
      .tuple(fc.tuple(dim(3), dim(6, 2), dim(6, 2), dim(6)), dim(7), dim(4, 2), dim(3), seed)
      .map(([x, out, kernel, stride, s]) => ({
        fn: (inputs) =>
          tf.conv2dTranspose(
            inputs['x'] as tf.Tensor4D,
            inputs['w'] as tf.Tensor4D,
            [x[0], x[1] * stride, x[2] * stride, out],
            stride,
            'same',
          ),
        inputs: { x: fill(x, s), w: fill([kernel, kernel, out, x[3]], s + 1) },
        differentiable: ['x', 'w'],
      })),
  },
  {
    kernel: 'Conv2DBackpropInput',
    title: 'as a transposed convolution of few positions, filters a multiple of the stride',
    cases: fc
      .tuple(
        fc.tuple(dim(3), dim(4), dim(4), dim(6)),
        dim(7, 5),
        fc.constantFrom([4, 2], [2, 2], [6, 2], [6, 3]),
        seed,
      )
      .map(([x, out, [kernel = 4, stride = 2], s]) => ({
        fn: (inputs) =>
          tf.conv2dTranspose(
            inputs['x'] as tf.Tensor4D,
            inputs['w'] as tf.Tensor4D,
            [x[0], x[1] * stride, x[2] * stride, out],
            stride,
            'same',
          ),
        inputs: { x: fill(x, s), w: fill([kernel, kernel, out, x[3]], s + 1) },
        differentiable: ['x', 'w'],
      })),
  },
  {
    kernel: 'Conv2DBackpropFilter',
    title: 'many channels, stride that leaves a rest',
    cases: fc.tuple(dim(9, 6), dim(3), dim(3), seed).map(([size, kernel, stride, s]) => ({
      fn: (inputs) => tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, stride, 'valid'),
      inputs: { x: fill([2, size, size, 6], s), w: fill([kernel, kernel, 6, 5], s + 1) },
      differentiable: ['w'],
    })),
  },
  {
    kernel: 'Conv2DBackpropFilter',
    title: 'a stride that divides the filter',
    cases: fc
      .tuple(dim(3), fc.constantFrom(2, 3), fc.constantFrom(1, 2), fc.constantFrom('same', 'valid'), seed)
      .map(([positions, stride, blocks, pad, s]) => ({
        fn: (inputs) => tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, stride, pad),
        inputs: {
          x: fill([2, (positions + 1) * stride, (positions + 2) * stride, 6], s),
          w: fill([stride * blocks, stride * 2, 6, 5], s + 1),
        },
        differentiable: ['w'],
      })),
  },
  {
    kernel: 'Conv2DBackpropFilter',
    title: 'few positions, more filters',
    cases: fc.tuple(dim(3, 2), fc.constantFrom(1, 2), seed).map(([size, stride, s]) => ({
      fn: (inputs) => tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, stride, 'same'),
      inputs: { x: fill([2, size, size, 6], s), w: fill([3, 3, 6, 150], s + 1) },
      differentiable: ['w'],
    })),
  },
  {
    kernel: 'DepthwiseConv2dNative',
    title: 'a multiplier, strides and paddings',
    cases: fc.tuple(convShape, dim(2), dim(2), seed).map(([{ x, kernel, pad }, multiplier, stride, s]) => ({
      fn: (inputs) => tf.depthwiseConv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, stride, pad),
      inputs: { x: fill(x, s), w: fill([...kernel, x[3], multiplier], s + 1) },
      differentiable: ['x', 'w'],
    })),
  },
  {
    kernel: 'FusedDepthwiseConv2D',
    title: 'bias and ReLU',
    cases: seed.map((s) => ({
      fn: ({ x, w, bias }) =>
        tf.fused.depthwiseConv2d({
          x: x as tf.Tensor4D,
          filter: w as tf.Tensor4D,
          strides: 1,
          pad: 'same',
          bias: bias as tf.Tensor1D,
          activation: 'relu',
        }),
      inputs: { x: fill([2, 5, 4, 3], s), w: fill([3, 3, 3, 1], s + 1), bias: fill([3], s + 2) },
      differentiable: [],
    })),
  },
  {
    kernel: 'DepthwiseConv2dNativeBackpropInput',
    title: 'stride 2',
    cases: seed.map((s) => ({
      fn: ({ dy, filter }) =>
        tf.engine().runKernel('DepthwiseConv2dNativeBackpropInput', { dy, filter } as tf.NamedTensorMap, {
          ...depthwise,
          inputShape: [2, 6, 6, 3],
        }),
      inputs: { dy: fill([2, 3, 3, 6], s), filter: fill([3, 3, 3, 2], s + 1) },
      differentiable: [],
    })),
  },
  {
    kernel: 'DepthwiseConv2dNativeBackpropFilter',
    title: 'stride 2',
    cases: seed.map((s) => ({
      fn: ({ x, dy }) =>
        tf.engine().runKernel('DepthwiseConv2dNativeBackpropFilter', { x, dy } as tf.NamedTensorMap, {
          ...depthwise,
          filterShape: [3, 3, 3, 2],
        }),
      inputs: { x: fill([2, 6, 6, 3], s), dy: fill([2, 3, 3, 6], s + 1) },
      differentiable: [],
    })),
  },
  pool('MaxPool', tf.maxPool, true),
  pool('MaxPoolGrad', (x, size, strides) => tf.maxPool(tf.mul(x, x), size, strides, 'same'), true),
  pool('AvgPool', (x, size, strides, pad) => tf.avgPool(x, size, strides, pad), false),
  pool('AvgPoolGrad', (x, size, strides) => tf.avgPool(x, size, strides, 'valid'), true),
  {
    kernel: 'FusedBatchNorm',
    title: 'frozen statistics',
    cases: fc.tuple(shape(4, 4), seed).map(([dims, s]) => {
      const c = [dims[3] ?? 1];
      return {
        fn: ({ x, mean, variance, beta, gamma }) =>
          tf.batchNorm(
            x as tf.Tensor4D,
            mean as tf.Tensor1D,
            variance as tf.Tensor1D,
            beta as tf.Tensor1D,
            gamma as tf.Tensor1D,
          ),
        inputs: {
          x: fill(dims, s),
          mean: fill(c, s + 1),
          variance: fill(c, s + 2, positive),
          beta: fill(c, s + 3),
          gamma: fill(c, s + 4),
        },
        differentiable: ['x', 'mean', 'variance', 'beta', 'gamma'],
      };
    }),
  },
  {
    kernel: 'RxrayBatchNormTraining',
    title: 'the statistics of the batch',
    cases: fc
      .tuple(fc.tuple(dim(3, 2), dim(4, 2), dim(4, 2), dim(4)), fc.boolean(), seed)
      .map(([dims, flat, s]) => {
        const c = [dims[3]];
        return {
          fn: ({ x, gamma, beta }) => {
            const { y, mean, variance } = batchNormTraining(
              x as tf.Tensor,
              gamma as tf.Tensor1D,
              beta as tf.Tensor1D,
              1e-3,
            );
            return [y, mean, variance];
          },
          inputs: {
            x: fill(flat ? [24, dims[3]] : dims, s),
            gamma: fill(c, s + 1, positive),
            beta: fill(c, s + 2),
          },
          differentiable: ['x', 'gamma', 'beta'],
        };
      }),
  },
];
