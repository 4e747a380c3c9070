import { sizeOf, type EngineDataType } from '../host-tensor.js';
import type * as tf from '@tensorflow/tfjs-core';
import { ONNX_TYPE } from '../onnx.js';
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

/** Functions whose result is a float32, whatever they are given. */
const FLOAT_FUNCTIONS = [
  ...['Acos', 'Acosh', 'Asin', 'Asinh', 'Atan', 'Atanh', 'Cos', 'Cosh', 'Sin', 'Sinh', 'Tan', 'Tanh'],
  ...['Erf', 'Exp', 'Log', 'Reciprocal', 'Sigmoid', 'Softplus', 'Sqrt'],
];
/** Functions that keep the type. */
const SAME_TYPE_FUNCTIONS = ['Abs', 'Neg', 'Sign'];
/** Functions that keep the type and change nothing but a float32. */
const ROUNDING_FUNCTIONS = ['Ceil', 'Floor', 'Round'];

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
  return call.tracer.elementwise(onnx, [asFloat(call, input(call, 'x'))], 'float32');
}

/** `x` as float32. */
export function asFloat({ tracer }: KernelCall, x: tf.TensorInfo): tf.TensorInfo {
  return x.dtype === 'float32' ? x : tracer.elementwise('Cast', [x], 'float32', { to: ONNX_TYPE.float32 });
}

/** The angle of (b, a), from the arctangent of the slope: half a turn more where b < 0. */
function atan2(call: KernelCall): tf.TensorInfo {
  const { tracer } = call;
  const [a, b] = [asFloat(call, input(call, 'a')), asFloat(call, input(call, 'b'))];
  const zero = constant(call, 0);
  const test = (onnx: string, x: tf.TensorInfo): tf.TensorInfo => tracer.elementwise(onnx, [x, zero], 'bool');
  const choose = (condition: tf.TensorInfo, t: tf.TensorInfo, e: tf.TensorInfo): tf.TensorInfo =>
    tracer.elementwise('Where', [condition, t, e], 'float32');
  const slope = tracer.elementwise('Atan', [tracer.elementwise('Div', [a, b], 'float32')], 'float32');
  const halfTurn = choose(test('Less', a), constant(call, -Math.PI), constant(call, Math.PI));
  const turned = choose(test('Less', b), tracer.elementwise('Add', [slope, halfTurn], 'float32'), slope);
  const atOrigin = tracer.elementwise('And', [test('Equal', a), test('Equal', b)], 'bool');
  return choose(atOrigin, zero, turned);
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
        ? call.tracer.elementwise(
            onnx,
            [asFloat(call, input(call, 'x')), asFloat(call, input(call, 'alpha'))],
            'float32',
          )
        : binary(call, onnx, fold),
    ),
  ),
  ...FLOAT_FUNCTIONS.map((name) => kernel(name, name, (call) => unary(call, name))),
  ...SAME_TYPE_FUNCTIONS.map((name) =>
    kernel(name, name, (call) =>
      call.tracer.elementwise(name, [input(call, 'x')], dtypeOf(input(call, 'x'))),
    ),
  ),
  ...ROUNDING_FUNCTIONS.map((name) =>
    kernel(name, name, (call) => {
      const x = input(call, 'x');
      return x.dtype === 'float32' ? unary(call, name) : call.tracer.alias(call.tracer.value(x));
    }),
  ),
  kernel('AddN', 'Sum; Add for integers', (call) => {
    const terms = inputList(call);
    if (terms.every((term) => term.dtype === 'float32'))
      return call.tracer.elementwise('Sum', terms, 'float32');
    return terms.reduce((sum, term) => call.tracer.elementwise('Add', [sum, term], dtypeOf(sum)));
  }),
  kernel('Mod', 'Mod, Add, Mod', (call) => {
    // ONNX' fmod has the sign of the dividend, TensorFlow's that of the divisor.
    const [a, b] = [input(call, 'a'), input(call, 'b')];
    if (a.dtype !== 'float32') return call.tracer.elementwise('Mod', [a, b], dtypeOf(a));
    const modulo = (left: tf.TensorInfo): tf.TensorInfo =>
      call.tracer.elementwise('Mod', [left, b], 'float32', { fmod: 1 });
    return modulo(call.tracer.elementwise('Add', [modulo(a), b], 'float32'));
  }),
  kernel('Atan2', 'Atan, Div, Where', atan2),
  kernel('IsNan', 'IsNaN', (call) =>
    call.tracer.elementwise('IsNaN', [asFloat(call, input(call, 'x'))], 'bool'),
  ),
  kernel('IsInf', 'IsInf', (call) =>
    call.tracer.elementwise('IsInf', [asFloat(call, input(call, 'x'))], 'bool'),
  ),
  kernel('IsFinite', 'Sub, IsNaN, Not', (call) => {
    // Infinity minus itself is not a number.
    const x = asFloat(call, input(call, 'x'));
    const difference = call.tracer.elementwise('Sub', [x, x], 'float32');
    return call.tracer.elementwise('Not', [call.tracer.elementwise('IsNaN', [difference], 'bool')], 'bool');
  }),
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
      [call.tracer.elementwise('Add', [asFloat(call, input(call, 'x')), constant(call, 1)], 'float32')],
      'float32',
    ),
  ),
  kernel('Expm1', 'Exp, Sub', (call) =>
    call.tracer.elementwise('Sub', [unary(call, 'Exp'), constant(call, 1)], 'float32'),
  ),
  kernel('FloorDiv', 'Div, Floor', (call) => {
    const a = input(call, 'a');
    const floored = call.tracer.elementwise(
      'Floor',
      [call.tracer.elementwise('Div', [asFloat(call, a), asFloat(call, input(call, 'b'))], 'float32')],
      'float32',
    );
    if (a.dtype !== 'int32') return floored;
    return call.tracer.elementwise('Cast', [floored], 'int32', { to: ONNX_TYPE.int32 });
  }),
  kernel('ClipByValue', 'Max, Min', (call) => {
    const { clipValueMin, clipValueMax } = call.attrs as { clipValueMin: number; clipValueMax: number };
    const x = input(call, 'x');
    const dtype = dtypeOf(x);
    const atLeast = call.tracer.elementwise('Max', [x, constant(call, clipValueMin, dtype)], dtype);
    return call.tracer.elementwise('Min', [atLeast, constant(call, clipValueMax, dtype)], dtype);
  }),
];
