import { EngineError } from './errors.js';

/** Element types of the engine's inputs and outputs. `bool` is stored as 0/1 bytes. */
export type EngineDataType = 'float32' | 'int32' | 'int64' | 'bool';

/** Typed arrays that hold tensor elements. */
export type HostData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

/** A tensor in plain memory: row-major elements and their dimensions. Structured-clonable. */
export interface HostTensor {
  readonly data: HostData;
  readonly dims: readonly number[];
}

/** Host tensors by name. */
export type HostTensors = Record<string, HostTensor>;

/** A float32 scalar (dims `[]`), e.g. a learning rate. */
export function scalar(value: number): HostTensor {
  return { data: Float32Array.of(value), dims: [] };
}

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** The element type of a typed array; `Uint8Array` is read as `bool`. */
export function dataTypeOf(data: HostData): EngineDataType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  return 'bool';
}

/** The elements of a float32 tensor. Throws {@link EngineError} `bad-feed` when `tensor` is missing or of another type. */
export function float32Of(tensors: HostTensors, name: string): Float32Array {
  const data = tensors[name]?.data;
  if (data instanceof Float32Array) return data;
  throw new EngineError(
    'bad-feed',
    `Expected a float32 tensor "${name}", got ${data ? dataTypeOf(data) : 'nothing'}.`,
  );
}

/**
 * Reorders the axes of a tensor: axis `i` of the result is axis `order[i]` of the input.
 * The inverse of `permute(t, order)` is `permute(t, inverseOrder(order))`.
 */
export function permute<T extends HostData>(data: T, dims: readonly number[], order: readonly number[]): T {
  const strides = dims.map((_, axis) => sizeOf(dims.slice(axis + 1)));
  const outDims = order.map((axis) => dims[axis] ?? 1);
  const outStrides = order.map((axis) => strides[axis] ?? 0);
  const result = new (data.constructor as new (length: number) => T)(data.length);
  const index = outDims.map(() => 0);
  let source = 0;
  for (let target = 0; target < data.length; target++) {
    result[target] = data[source] as never;
    for (let axis = outDims.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      source += outStrides[axis] ?? 0;
      if (next < (outDims[axis] ?? 1)) {
        index[axis] = next;
        break;
      }
      source -= (outStrides[axis] ?? 0) * next;
      index[axis] = 0;
    }
  }
  return result;
}

/** The order that undoes `order`. */
export function inverseOrder(order: readonly number[]): number[] {
  const inverse = order.map(() => 0);
  order.forEach((axis, position) => {
    inverse[axis] = position;
  });
  return inverse;
}
