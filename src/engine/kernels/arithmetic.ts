import { sizeOf, type EngineDataType } from '../host-tensor.js';
import type * as tf from '@tensorflow/tfjs-core';
import { dtypeOf, TracedValue } from '../tracer.js';
import { input, inputList, kernel, type KernelCall, type KernelDefinition } from './registry.js';

type Fold = (a: number, b: number) => number;

/** Binary operators, with the arithmetic that folds two constants of equal elements. */
const BINARY: Record<string, [onnx: string, fold?: Fold]> = {
  Add: ['Add', (a, b) => a + b],
  Sub: ['Sub', (a, b) => a - b],
  Multiply: ['Mul', (a, b) => a * b],
  RealDiv: ['Div', (a, b) => a / b],
  Maximum: ['Max', Math.max],
  Minimum: ['Min', Math.min],
  Pow: ['Pow'],
  Prelu: ['PRelu'],
};

const UNARY: Record<string, string> = {
  Abs: 'Abs',
  Ceil: 'Ceil',
  Cos: 'Cos',
  Cosh: 'Cosh',
  Erf: 'Erf',
  Exp: 'Exp',
  Floor: 'Floor',
  Log: 'Log',
  Neg: 'Neg',
  Reciprocal: 'Reciprocal',
  Round: 'Round',
  Sigmoid: 'Sigmoid',
  Sign: 'Sign',
  Sin: 'Sin',
  Sinh: 'Sinh',
  Softplus: 'Softplus',
  Sqrt: 'Sqrt',
  Tan: 'Tan',
  Tanh: 'Tanh',
  Atan: 'Atan',
};

function binary(call: KernelCall, onnx: string, fold?: Fold): tf.TensorInfo {
  const a = input(call, 'a');
  const b = input(call, 'b');
  const folded = fold && foldConstants(call, onnx, a, b, fold);
  return folded ?? call.tracer.elementwise(onnx, [a, b], dtypeOf(a));
}

/** Constants of equal elements are folded; `x * 1`, `x / 1` and `x + 0` cost no node. */
function foldConstants(
  { tracer }: KernelCall,
  onnx: string,
  a: tf.TensorInfo,
  b: tf.TensorInfo,
  fold: Fold,
): tf.TensorInfo | undefined {
  const left = splatOf(tracer.value(a));
  const right = splatOf(tracer.value(b));
  const sameShape = a.shape.join() === b.shape.join();
  if (left !== undefined && right !== undefined) {
    if (a.dtype !== 'float32' || !(sameShape || sizeOf(a.shape) === 1 || sizeOf(b.shape) === 1))
      return undefined;
    const shape = a.shape.length >= b.shape.length && sizeOf(a.shape) >= sizeOf(b.shape) ? a.shape : b.shape;
    const splat = Math.fround(fold(left, right));
    return tracer.host({ values: [splat], shape, dtype: 'float32', splat });
  }
  const neutral = onnx === 'Mul' || onnx === 'Div' ? 1 : 0;
  if (!['Mul', 'Div', 'Add', 'Sub'].includes(onnx)) return undefined;
  if (right === neutral) return widened(tracer, a, b);
  if (left === neutral && (onnx === 'Mul' || onnx === 'Add')) return widened(tracer, b, a);
  return undefined;
}

/** `value` broadcast to the shape it has together with `other`, if that needs no node. */
function widened(
  tracer: KernelCall['tracer'],
  value: tf.TensorInfo,
  other: tf.TensorInfo,
): tf.TensorInfo | undefined {
  if (other.shape.length > value.shape.length) return undefined;
  const lead = value.shape.length - other.shape.length;
  const shape = value.shape.map((dim, axis) =>
    axis < lead ? dim : Math.max(dim, other.shape[axis - lead] ?? 1),
  );
  return tracer.broadcast(value, shape);
}

function splatOf(value: ReturnType<KernelCall['tracer']['value']>): number | undefined {
  return value instanceof TracedValue ? undefined : value.splat;
}

function unary(call: KernelCall, onnx: string): tf.TensorInfo {
  const x = input(call, 'x');
  return call.tracer.elementwise(onnx, [x], dtypeOf(x));
}

/** A float32 scalar of the trace. */
export function constant(
  { tracer }: KernelCall,
  value: number,
  dtype: EngineDataType = 'float32',
): tf.TensorInfo {
  return tracer.host({ values: [value], shape: [], dtype, splat: value });
}

/** Element-wise arithmetic. */
export const arithmetic: readonly KernelDefinition[] = [
  ...Object.entries(BINARY).map(([name, [onnx, fold]]) =>
    kernel(name, onnx, (call) =>
      name === 'Prelu'
        ? call.tracer.elementwise(onnx, [input(call, 'x'), input(call, 'alpha')], 'float32')
        : binary(call, onnx, fold),
    ),
  ),
  ...Object.entries(UNARY).map(([name, onnx]) => kernel(name, onnx, (call) => unary(call, onnx))),
  kernel('AddN', 'Sum', (call) => call.tracer.elementwise('Sum', inputList(call), 'float32')),
  kernel('SquaredDifference', 'Sub, Mul', (call) => {
    const difference = call.tracer.elementwise(
      'Sub',
      [input(call, 'a'), input(call, 'b')],
      dtypeOf(input(call, 'a')),
    );
    return call.tracer.elementwise('Mul', [difference, difference], dtypeOf(input(call, 'a')));
  }),
  kernel('Square', 'Mul', (call) => {
    const x = input(call, 'x');
    return call.tracer.elementwise('Mul', [x, x], dtypeOf(x));
  }),
  kernel('Rsqrt', 'Sqrt, Reciprocal', (call) =>
    call.tracer.elementwise('Reciprocal', [unary(call, 'Sqrt')], 'float32'),
  ),
  kernel('Log1p', 'Add, Log', (call) =>
    call.tracer.elementwise(
      'Log',
      [call.tracer.elementwise('Add', [input(call, 'x'), constant(call, 1)], 'float32')],
      'float32',
    ),
  ),
  kernel('Expm1', 'Exp, Sub', (call) =>
    call.tracer.elementwise('Sub', [unary(call, 'Exp'), constant(call, 1)], 'float32'),
  ),
  kernel('FloorDiv', 'Div, Floor', (call) => {
    const a = input(call, 'a');
    const quotient = call.tracer.elementwise('Div', [a, input(call, 'b')], dtypeOf(a));
    return a.dtype === 'int32' ? quotient : call.tracer.elementwise('Floor', [quotient], 'float32');
  }),
  kernel('ClipByValue', 'Max, Min', (call) => {
    const { clipValueMin, clipValueMax } = call.attrs as { clipValueMin: number; clipValueMax: number };
    const low = constant(call, clipValueMin);
    return call.tracer.elementwise(
      'Min',
      [call.tracer.elementwise('Max', [input(call, 'x'), low], 'float32'), constant(call, clipValueMax)],
      'float32',
    );
  }),
];
