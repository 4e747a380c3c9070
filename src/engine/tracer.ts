import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from './errors.js';
import { fromNumbers, type Attribute, type Graph } from './graph.js';
import { permute, sizeOf, type EngineDataType } from './host-tensor.js';
import {
  identityOrder,
  isIdentity,
  padOrder,
  pick,
  sameOrder,
  sameWithoutOnes,
  type AxisOrder,
} from './layout.js';

/** Name of the tracing backend in TensorFlow.js' registry. */
export const TRACE_BACKEND = 'rxray-trace';

/** A value that the finished graph will compute. */
export class TracedValue {
  /** ONNX names of this value in other axis orders, so that no transpose is emitted twice. */
  readonly forms = new Map<string, string>();

  /**
   * @param name ONNX name of the value as held.
   * @param shape Logical shape, as TensorFlow.js sees it.
   * @param order Axis order in memory.
   * @param held Logical-order dimensions really in memory: 1 where the value is broadcast along that axis.
   */
  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    readonly dtype: EngineDataType,
    readonly order: AxisOrder = identityOrder(shape.length),
    readonly held: readonly number[] = shape,
  ) {}
}

/** A constant that is known while tracing. `splat` is set when all elements are equal. */
export interface HostValue {
  readonly values: ArrayLike<number>;
  readonly shape: readonly number[];
  readonly dtype: EngineDataType;
  readonly splat?: number;
}

/** The memory layout of a traced result. Default: logical order, nothing broadcast. */
export interface ResultLayout {
  readonly order?: AxisOrder;
  readonly held?: readonly number[];
}

let active: Tracer | undefined;

/** The tracer of the running trace. Throws outside one. */
export function activeTracer(): Tracer {
  if (active) return active;
  throw new EngineError('trace-failed', `The backend "${TRACE_BACKEND}" only works inside traceToOnnx().`);
}

/** Runs `work` with `tracer` receiving every kernel call. */
export function withTracer<T>(tracer: Tracer, work: () => T): T {
  const outer = active;
  active = tracer;
  try {
    return work();
  } finally {
    active = outer;
  }
}

/** Turns kernel calls into nodes of one graph and keeps the source of every tensor of the trace. */
export class Tracer {
  readonly #values = new WeakMap<object, TracedValue | HostValue>();

  constructor(readonly graph: Graph) {}

  /** Assigns a value to a data id. */
  bind(dataId: object, value: TracedValue | HostValue): void {
    this.#values.set(dataId, value);
  }

  /** The value of a tensor; tensors of other backends are read as constants. */
  value(info: tf.TensorInfo): TracedValue | HostValue {
    const known = this.#values.get(info.dataId);
    if (known) return known;
    const values = tf.engine().readSync(info.dataId) as ArrayLike<number>;
    const host = hostValue(values, info.shape, dtypeOf(info));
    this.#values.set(info.dataId, host);
    return host;
  }

  /** The constant behind a data id, or undefined when it is computed by the graph. */
  hostValue(dataId: object): HostValue | undefined {
    const value = this.#values.get(dataId);
    return value instanceof TracedValue ? undefined : value;
  }

  /** Registers a constant as a new tensor. */
  host(value: HostValue): tf.TensorInfo {
    const dataId = {};
    this.bind(dataId, value);
    return { dataId, shape: [...value.shape], dtype: tfDtype(value.dtype) };
  }

  /** Registers a graph value as a new tensor. */
  result(
    name: string,
    shape: readonly number[],
    dtype: EngineDataType,
    layout: ResultLayout = {},
  ): tf.TensorInfo {
    return this.alias(new TracedValue(name, shape, dtype, layout.order, layout.held));
  }

  /** A new tensor for an existing value, optionally seen under another shape (`shape` and `held` must fit `order`). */
  alias(value: TracedValue | HostValue): tf.TensorInfo {
    const dataId = {};
    this.bind(dataId, value);
    return { dataId, shape: [...value.shape], dtype: tfDtype(value.dtype) };
  }

  /** ONNX name of a tensor in full (nothing left to broadcast) in the wanted axis order. */
  name(info: tf.TensorInfo, order: AxisOrder = identityOrder(info.shape.length)): string {
    const value = this.value(info);
    if (!(value instanceof TracedValue)) return this.#constant(value, order);
    const held = this.#inOrder(value, order);
    if (value.held.every((dim, axis) => dim === value.shape[axis])) return held;
    return this.graph.add('Expand', [held, this.graph.dimensions(pick(value.shape, order))]);
  }

  /** ONNX name of a tensor as an operand that may still broadcast against values of `rank` axes in `order`. */
  operand(info: tf.TensorInfo, order: AxisOrder): string {
    const value = this.value(info);
    if (value instanceof TracedValue) return this.#inOrder(value, order);
    if (value.splat !== undefined) return this.graph.scalar(value.splat, value.dtype);
    const missing = order.length - value.shape.length;
    const padded = [...Array.from({ length: missing }, () => 1), ...value.shape];
    const dims = trimOnes(pick(padded, order));
    const data = fromNumbers(value.values, value.dtype);
    return this.graph.constant(permute(data, padded, order), dims);
  }

  /** The axis order of a value, or the logical one for constants. */
  orderOf(info: tf.TensorInfo): AxisOrder {
    const value = this.value(info);
    return value instanceof TracedValue ? value.order : identityOrder(info.shape.length);
  }

  /** Dimensions really held (1 where broadcast), logical order. */
  heldOf(info: tf.TensorInfo): readonly number[] {
    const value = this.value(info);
    if (value instanceof TracedValue) return value.held;
    return value.splat === undefined ? value.shape : value.shape.map(() => 1);
  }

  /**
   * An element-wise node with broadcasting. The result has the axis order of its largest full-rank operand;
   * axes along which every operand is broadcast stay broadcast.
   */
  elementwise(
    type: string,
    inputs: readonly tf.TensorInfo[],
    dtype: EngineDataType,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): tf.TensorInfo {
    const shape = inputs.map((input) => input.shape).reduce(broadcastShape);
    const rank = shape.length;
    const order = this.#leadingOrder(inputs, rank);
    let operands = inputs.map((input) => this.operand(input, order));
    let held: readonly number[] = inputs.map((input) => [...this.heldOf(input)]).reduce(broadcastShape);
    if (rank > 0 && !inputs.some((input) => input.shape.length === rank && this.#isComputed(input))) {
      // Constants enter without leading ones, which would leave the result without its leading axes.
      operands = operands.map((name, index) => {
        const input = inputs[index];
        if (input?.shape.length !== rank) return name;
        const dims = pick(this.heldOf(input), order);
        return this.graph.reshape(name, trimOnes(dims), dims);
      });
    }
    if (held.length < rank) held = [...Array.from({ length: rank - held.length }, () => 1), ...held];
    const flat = this.#flattened(inputs, order);
    if (!flat) return this.result(this.graph.add(type, operands, attributes), shape, dtype, { order, held });
    const flatResult = this.graph.add(type, flat, attributes);
    const dims = pick(held, order);
    const name = this.graph.reshape(flatResult, flatDims(dims), dims);
    const value = new TracedValue(name, shape, dtype, order, held);
    value.forms.set(flatKey(order), flatResult);
    return this.alias(value);
  }

  /** The same value seen as broadcast to `shape` (equal rank, axes of length 1 grow). */
  broadcast(info: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo {
    const value = this.value(info);
    if (value instanceof TracedValue) {
      return this.alias(
        copyForms(value, new TracedValue(value.name, shape, value.dtype, value.order, value.held)),
      );
    }
    if (value.splat !== undefined) return this.host({ ...value, shape });
    const name = this.#constant(value, identityOrder(value.shape.length));
    return this.result(name, shape, value.dtype, { held: value.shape });
  }

  /**
   * Operands as {@link flatDims} where some are scalars and the rest, held alike, end in an axis of length 1: ONNX Runtime
   * would broadcast the scalars element by element there. Undefined elsewhere.
   */
  #flattened(inputs: readonly tf.TensorInfo[], order: AxisOrder): string[] | undefined {
    const isScalar = (info: tf.TensorInfo): boolean => info.shape.length === 0 || this.#isSplat(info);
    const [wide, ...others] = inputs.filter((info) => !isScalar(info));
    if (wide?.shape.length !== order.length || others.length === inputs.length - 1) return undefined;
    const held = this.heldOf(wide);
    if (pick(held, order).at(-1) !== 1 || sizeOf(held) === 1) return undefined;
    if (others.some((other) => this.heldOf(other).join() !== held.join())) return undefined;
    return inputs.map((info) => (isScalar(info) ? this.operand(info, order) : this.#flat(info, order)));
  }

  #flat(info: tf.TensorInfo, order: AxisOrder): string {
    const value = this.value(info);
    const known = value instanceof TracedValue ? value.forms.get(flatKey(order)) : undefined;
    if (known !== undefined) return known;
    const dims = pick(this.heldOf(info), order);
    const name = this.graph.reshape(this.operand(info, order), dims, flatDims(dims));
    if (value instanceof TracedValue) value.forms.set(flatKey(order), name);
    return name;
  }

  #isSplat(info: tf.TensorInfo): boolean {
    const value = this.value(info);
    return !(value instanceof TracedValue) && value.splat !== undefined;
  }

  #isComputed(info: tf.TensorInfo): boolean {
    return this.value(info) instanceof TracedValue;
  }

  #leadingOrder(inputs: readonly tf.TensorInfo[], rank: number): AxisOrder {
    let best: AxisOrder = identityOrder(rank);
    let bestSize = 0;
    for (const input of inputs) {
      const value = this.value(input);
      if (!(value instanceof TracedValue) || value.shape.length !== rank) continue;
      const size = sizeOf(value.held);
      if (size > bestSize) {
        best = value.order;
        bestSize = size;
      }
    }
    return best;
  }

  #constant(value: HostValue, order: AxisOrder): string {
    if (value.splat !== undefined && sizeOf(value.shape) > 1) {
      const one = this.graph.constant(
        fromNumbers([value.splat], value.dtype),
        value.shape.map(() => 1),
      );
      return this.graph.add('Expand', [one, this.graph.dimensions(pick(value.shape, order))]);
    }
    const data = fromNumbers(value.values, value.dtype);
    return this.graph.constant(permute(data, value.shape, order), pick(value.shape, order));
  }

  /** Name of the value (not expanded) seen with `order.length` axes in that order; leading 1s may be missing. */
  #inOrder(value: TracedValue, order: AxisOrder): string {
    const missing = order.length - value.shape.length;
    if (sameOrder(value.order, order)) return value.name;
    if (missing > 0 && isIdentity(order) && isIdentity(value.order)) return value.name;
    const key = order.join();
    const known = value.forms.get(key);
    if (known !== undefined) return known;
    const paddedHeld = [...Array.from({ length: missing }, () => 1), ...value.held];
    const source = padOrder(value.order, missing);
    const physical = pick(paddedHeld, source);
    const wanted = pick(paddedHeld, order);
    let name: string;
    if (sameWithoutOnes(physical, wanted) && keepsSequence(source, order, paddedHeld)) {
      const dims = missing > 0 ? trimOnes(wanted) : wanted;
      name = this.graph.reshape(value.name, pick(value.held, value.order), dims);
    } else {
      const held = pick(value.held, value.order);
      const from = missing > 0 ? this.graph.reshape(value.name, held, physical) : value.name;
      name = this.graph.add('Transpose', [from], { perm: order.map((axis) => source.indexOf(axis)) });
    }
    value.forms.set(key, name);
    return name;
  }
}

/** Element type of a tensor inside the engine; float32, int32 and bool pass, everything else is an error. */
export function dtypeOf(info: { readonly dtype: string }): EngineDataType {
  if (info.dtype === 'float32' || info.dtype === 'int32' || info.dtype === 'bool') return info.dtype;
  throw new EngineError(
    'trace-failed',
    `Expected float32, int32 or bool tensors in a traced function, got ${info.dtype}.`,
  );
}

/** A constant of the trace; notices when all elements are equal. */
export function hostValue(
  values: ArrayLike<number>,
  shape: readonly number[],
  dtype: EngineDataType,
): HostValue {
  const first = values[0];
  if (first === undefined) return { values, shape, dtype };
  for (let index = 1; index < values.length; index++)
    if (values[index] !== first) return { values, shape, dtype };
  return { values, shape, dtype, splat: first };
}

function tfDtype(dtype: EngineDataType): tf.DataType {
  return dtype === 'int64' ? 'int32' : dtype;
}

function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  return tf.backend_util.assertAndGetBroadcastShape([...a], [...b]);
}

function trimOnes(dims: readonly number[]): number[] {
  const start = dims.findIndex((dim) => dim !== 1);
  return start < 0 ? [] : dims.slice(start);
}

/** Dimensions without an axis of length 1 at the end: the first axis, which may be the batch, and all the others. */
function flatDims(dims: readonly number[]): number[] {
  const [first = 1, ...rest] = dims;
  const inner = sizeOf(rest);
  return inner === 1 ? [first] : [first, inner];
}

/** Key of a form in an axis order, but as {@link flatDims}. */
function flatKey(order: AxisOrder): string {
  return `flat ${order.join()}`;
}

function keepsSequence(source: AxisOrder, target: AxisOrder, held: readonly number[]): boolean {
  const long = (order: AxisOrder): number[] => order.filter((axis) => held[axis] !== 1);
  return sameOrder(long(source), long(target));
}

function copyForms(from: TracedValue, to: TracedValue): TracedValue {
  if (from.shape.length === to.shape.length) for (const [key, name] of from.forms) to.forms.set(key, name);
  return to;
}
