import * as tf from '@tensorflow/tfjs-core';
import { sizeOf, type EngineDataType } from '../host-tensor.js';
import { fromNumbers } from '../graph.js';
import { permute } from '../host-tensor.js';
import { identityOrder, isIdentity, pick } from '../layout.js';
import { dtypeOf, hostValue, TracedValue } from '../tracer.js';
import { input, inputList, kernel, type KernelCall, type KernelDefinition } from './registry.js';

/** The elements under another shape. */
export function reshape({ tracer, graph }: KernelCall, x: tf.TensorInfo, shape: number[]): tf.TensorInfo {
  const value = tracer.value(x);
  if (!(value instanceof TracedValue)) return tracer.host({ ...value, shape });
  if (shape.join() === x.shape.join()) return tracer.alias(value);
  const name = graph.reshape(tracer.name(x), x.shape, shape);
  return tracer.result(name, shape, value.dtype);
}

function full(
  call: KernelCall,
  shape: readonly number[],
  value: number,
  dtype: EngineDataType,
): tf.TensorInfo {
  return call.tracer.host({ values: [value], shape, dtype, splat: value });
}

/** The axes in another order; a graph value is only seen under other axis numbers. */
export function transpose({ tracer }: KernelCall, x: tf.TensorInfo, perm: number[]): tf.TensorInfo {
  const value = tracer.value(x);
  const shape = pick(x.shape, perm);
  if (!(value instanceof TracedValue)) {
    if (value.splat !== undefined) return tracer.host({ ...value, shape });
    const moved = permute(fromNumbers(value.values, value.dtype), value.shape, perm);
    return tracer.host(hostValue(Array.from(moved, Number), shape, value.dtype));
  }
  // Nothing moves: the value is only seen under other axis numbers.
  const order = value.order.map((axis) => perm.indexOf(axis));
  return tracer.result(value.name, shape, value.dtype, { order, held: pick(value.held, perm) });
}

/** Shapes, slices and constants. */
export const shape: readonly KernelDefinition[] = [
  kernel('Identity', '(none)', (call) => call.tracer.alias(call.tracer.value(input(call, 'x')))),
  kernel('Reshape', 'Reshape', (call) => {
    const x = input(call, 'x');
    const wanted = (call.attrs as { shape: number[] }).shape;
    return reshape(call, x, tf.util.inferFromImplicitShape(wanted, sizeOf(x.shape)));
  }),
  kernel('ExpandDims', 'Reshape', (call) => {
    const x = input(call, 'input');
    const dim = (call.attrs as { dim: number }).dim;
    const rank = x.shape.length;
    tf.util.assert(
      -rank - 1 <= dim && dim <= rank,
      () => `Axis must be in the interval [${-rank - 1}, ${rank}]`,
    );
    const wanted = [...x.shape];
    wanted.splice(dim < 0 ? rank + dim + 1 : dim, 0, 1);
    return reshape(call, x, wanted);
  }),
  kernel('Transpose', '(none: a change of layout)', (call) =>
    transpose(call, input(call, 'x'), (call.attrs as { perm: number[] }).perm),
  ),
  kernel('Tile', 'Tile, or none where it broadcasts', (call) => {
    const x = input(call, 'x');
    const reps = (call.attrs as { reps: number[] }).reps;
    const held = call.tracer.heldOf(x);
    const wanted = x.shape.map((dim, axis) => dim * (reps[axis] ?? 1));
    if (x.shape.every((dim, axis) => reps[axis] === 1 || (dim === 1 && held[axis] === 1))) {
      return call.tracer.broadcast(x, wanted);
    }
    const name = call.graph.add('Tile', [call.tracer.name(x), call.graph.dimensions(reps)]);
    return call.tracer.result(name, wanted, dtypeOf(x));
  }),
  kernel('BroadcastTo', '(none: broadcast by its users)', (call) => {
    const x = input(call, 'x');
    const wanted = (call.attrs as { shape: number[] }).shape;
    const missing = wanted.length - x.shape.length;
    const padded = reshape(call, x, [...Array.from({ length: missing }, () => 1), ...x.shape]);
    return call.tracer.broadcast(padded, wanted);
  }),
  kernel('Concat', 'Concat', (call) => {
    const tensors = inputList(call);
    const first = tensors[0];
    const rank = first?.shape.length ?? 0;
    const given = (call.attrs as { axis: number }).axis;
    const axis = given < 0 ? given + rank : given;
    tf.backend_util.assertParamsConsistent(
      tensors.map((tensor) => tensor.shape),
      axis,
    );
    const order = first ? call.tracer.orderOf(first) : identityOrder(rank);
    const wanted = [...(first?.shape ?? [])];
    wanted[axis] = tensors.reduce((sum, tensor) => sum + (tensor.shape[axis] ?? 0), 0);
    const name = call.graph.add(
      'Concat',
      tensors.map((tensor) => call.tracer.name(tensor, order)),
      {
        axis: order.indexOf(axis),
      },
    );
    return call.tracer.result(name, wanted, first ? dtypeOf(first) : 'float32', { order });
  }),
  kernel('Pack', 'Reshape, Concat', (call) => {
    const axis = (call.attrs as { axis: number }).axis;
    const [first] = inputList(call);
    const tensors = inputList(call).map((tensor) => {
      tf.util.assertShapesMatch(
        first?.shape ?? [],
        tensor.shape,
        'All tensors passed to stack must have matching shapes',
      );
      tf.util.assert(
        first?.dtype === tensor.dtype,
        () => 'All tensors passed to stack must have matching dtypes',
      );
      const wanted = [...tensor.shape];
      wanted.splice(axis, 0, 1);
      return reshape(call, tensor, wanted);
    });
    const wanted = [...(tensors[0]?.shape ?? [])];
    wanted[axis] = tensors.length;
    const name = call.graph.add(
      'Concat',
      tensors.map((tensor) => call.tracer.name(tensor)),
      { axis },
    );
    return call.tracer.result(name, wanted, tensors[0] ? dtypeOf(tensors[0]) : 'float32');
  }),
  kernel('Unpack', 'Slice, Reshape', (call) => {
    const x = input(call, 'value');
    const given = (call.attrs as { axis: number }).axis;
    const axis = given < 0 ? given + x.shape.length : given;
    const wanted = x.shape.filter((_, index) => index !== axis);
    return Array.from({ length: x.shape[axis] ?? 0 }, (_, index) => {
      const begin = x.shape.map((_dim, at) => (at === axis ? index : 0));
      const size = x.shape.map((dim, at) => (at === axis ? 1 : dim));
      return reshape(call, slice(call, x, begin, size), wanted);
    });
  }),
  kernel('Slice', 'Slice', (call) => {
    const x = input(call, 'x');
    const attrs = call.attrs as { begin: number | number[]; size: number | number[] };
    const [begin = [], size = []] = tf.slice_util.parseSliceParams(toTensorLike(x), attrs.begin, attrs.size);
    tf.slice_util.assertParamsValid(toTensorLike(x), begin, size);
    return slice(call, x, begin, size);
  }),
  kernel('StridedSlice', 'Slice, Reshape', (call) => {
    const x = input(call, 'x');
    const a = call.attrs as Record<'begin' | 'end' | 'strides', number[]> &
      Record<'beginMask' | 'endMask' | 'ellipsisMask' | 'newAxisMask' | 'shrinkAxisMask', number>;
    const info = tf.slice_util.sliceInfo(
      x.shape,
      a.begin,
      a.end,
      a.strides,
      a.beginMask,
      a.endMask,
      a.ellipsisMask,
      a.newAxisMask,
      a.shrinkAxisMask,
    );
    const steps = info.strides;
    const cut = x.shape.map((dim, axis) => {
      const begin = info.begin[axis] ?? 0;
      return Math.max(0, Math.ceil(((info.end[axis] ?? dim) - begin) / (steps[axis] ?? 1)));
    });
    const name = call.graph.add('Slice', [
      call.tracer.name(x),
      call.graph.integers(info.begin),
      // An end below zero after a negative stride means "past the first element".
      call.graph.integers(
        info.end.map((end, axis) => (end < 0 && (steps[axis] ?? 1) < 0 ? -2147483648 : end)),
      ),
      call.graph.integers(identityOrder(x.shape.length)),
      call.graph.integers(steps),
    ]);
    return reshape(call, call.tracer.result(name, cut, dtypeOf(x)), [...info.finalShape]);
  }),
  kernel('SplitV', 'Slice', (call) => {
    const x = input(call, 'x');
    const { numOrSizeSplits, axis } = call.attrs as { numOrSizeSplits: number | number[]; axis: number };
    const at = axis < 0 ? axis + x.shape.length : axis;
    const begin = x.shape.map(() => 0);
    return tf.backend_util.prepareSplitSize(toTensorLike(x), numOrSizeSplits, at).map((part) => {
      const size = x.shape.map((dim, index) => (index === at ? part : dim));
      const piece = slice(call, x, begin, size);
      begin[at] = (begin[at] ?? 0) + part;
      return piece;
    });
  }),
  kernel('Reverse', 'Slice', (call) => {
    const x = input(call, 'x');
    return reverse(call, x, tf.util.parseAxisParam((call.attrs as { dims: number[] }).dims, x.shape));
  }),
  kernel('PadV2', 'Pad', (call) => {
    const x = input(call, 'x');
    const { paddings, constantValue } = call.attrs as { paddings: [number, number][]; constantValue: number };
    const order = call.tracer.orderOf(x);
    const before = pick(
      paddings.map(([low]) => low),
      order,
    );
    const after = pick(
      paddings.map(([, high]) => high),
      order,
    );
    const name = call.graph.add('Pad', [
      call.tracer.name(x, order),
      call.graph.integers([...before, ...after]),
      call.graph.scalar(constantValue, dtypeOf(x)),
    ]);
    const wanted = x.shape.map((dim, axis) => dim + (paddings[axis]?.[0] ?? 0) + (paddings[axis]?.[1] ?? 0));
    return call.tracer.result(name, wanted, dtypeOf(x), { order });
  }),
  kernel('Range', 'a constant', (call) => {
    const { start, stop, dtype, ...given } = call.attrs as Record<'start' | 'stop' | 'step', number> & {
      dtype: string;
    };
    const step = stop < start && given.step === 1 ? -1 : given.step;
    const count = Math.max(0, Math.ceil((stop - start) / step));
    const values = Array.from({ length: count }, (_, index) => start + index * step);
    return call.tracer.host(hostValue(values, [count], dtypeOf({ dtype })));
  }),
  kernel('LinSpace', 'a constant', (call) => {
    const { start, stop, num } = call.attrs as Record<'start' | 'stop' | 'num', number>;
    const step = num > 1 ? (stop - start) / (num - 1) : 0;
    const values = Array.from({ length: num }, (_, index) => start + index * step);
    return call.tracer.host(hostValue(values, [num], 'float32'));
  }),
  kernel('Fill', 'a constant', (call) => {
    const { shape: wanted, value, dtype } = call.attrs as { shape: number[]; value: number; dtype: string };
    return full(call, wanted, value, dtypeOf({ dtype }));
  }),
  kernel('ZerosLike', 'a constant', (call) =>
    full(call, input(call, 'x').shape, 0, dtypeOf(input(call, 'x'))),
  ),
  kernel('OnesLike', 'a constant', (call) =>
    full(call, input(call, 'x').shape, 1, dtypeOf(input(call, 'x'))),
  ),
];

/** The elements of some axes in reversed order. */
export function reverse({ tracer, graph }: KernelCall, x: tf.TensorInfo, axes: number[]): tf.TensorInfo {
  const order = tracer.orderOf(x);
  const name = graph.add('Slice', [
    tracer.name(x, order),
    graph.integers(axes.map(() => -1)),
    graph.integers(axes.map(() => -2147483648)),
    graph.integers(axes.map((axis) => order.indexOf(axis))),
    graph.integers(axes.map(() => -1)),
  ]);
  return tracer.result(name, x.shape, dtypeOf(x), { order });
}

/** A block of a tensor; axes taken whole are not mentioned, so that a symbolic batch stays symbolic. */
export function slice(call: KernelCall, x: tf.TensorInfo, begin: number[], size: number[]): tf.TensorInfo {
  const order = call.tracer.orderOf(x);
  const wanted = x.shape.map((dim, axis) => {
    const asked = size[axis] ?? -1;
    return asked < 0 ? dim - (begin[axis] ?? 0) : asked;
  });
  const cut = identityOrder(x.shape.length).filter((axis) => wanted[axis] !== x.shape[axis]);
  if (cut.length === 0) return call.tracer.alias(call.tracer.value(x));
  const name = call.graph.add('Slice', [
    call.tracer.name(x, order),
    call.graph.integers(cut.map((axis) => begin[axis] ?? 0)),
    call.graph.integers(cut.map((axis) => (begin[axis] ?? 0) + (wanted[axis] ?? 0))),
    call.graph.integers(cut.map((axis) => order.indexOf(axis))),
  ]);
  return call.tracer.result(name, wanted, dtypeOf(x), isIdentity(order) ? {} : { order });
}

/** TensorFlow.js' shape helpers ask for a Tensor but only read its shape. */
export function toTensorLike(info: tf.TensorInfo): tf.Tensor {
  return { ...info, rank: info.shape.length, size: sizeOf(info.shape) } as unknown as tf.Tensor;
}
