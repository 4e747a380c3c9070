/**
 * The axis order of a traced value in memory: physical axis `i` holds logical axis `order[i]`.
 * TensorFlow.js code always sees the logical (NHWC, HWIO) shape.
 */
export type AxisOrder = readonly number[];

/** Logical NHWC held as NCHW, the order of ONNX convolutions and pools. */
export const CHANNELS_FIRST: AxisOrder = [0, 3, 1, 2];
/** Logical HWIO filters held as OIHW, the order of ONNX convolution weights. */
export const FILTER_OIHW: AxisOrder = [3, 2, 0, 1];

/** Axes in their logical order. */
export function identityOrder(rank: number): number[] {
  return Array.from({ length: rank }, (_, axis) => axis);
}

/** Whether an order is the logical one. */
export function isIdentity(order: AxisOrder): boolean {
  return order.every((axis, position) => axis === position);
}

/** Whether two orders are equal. */
export function sameOrder(a: AxisOrder, b: AxisOrder): boolean {
  return a.length === b.length && a.every((axis, position) => axis === b[position]);
}

/** Picks `items[axis]` for every axis of an order. */
export function pick(items: readonly number[], order: AxisOrder): number[] {
  return order.map((axis) => items[axis] ?? 1);
}

/** Order of the axes that remain when `removed` are dropped, renumbered. */
export function withoutAxes(order: AxisOrder, removed: readonly number[]): number[] {
  return order
    .filter((axis) => !removed.includes(axis))
    .map((axis) => axis - removed.filter((gone) => gone < axis).length);
}

/** An order for a value that gains `count` leading axes of length 1. */
export function padOrder(order: AxisOrder, count: number): number[] {
  return [...identityOrder(count), ...order.map((axis) => axis + count)];
}

/** Whether two dimension lists differ only by axes of length 1, so that a reshape turns one into the other. */
export function sameWithoutOnes(a: readonly number[], b: readonly number[]): boolean {
  const left = a.filter((dim) => dim !== 1);
  const right = b.filter((dim) => dim !== 1);
  return left.length === right.length && left.every((dim, index) => dim === right[index]);
}
