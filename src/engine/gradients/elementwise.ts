import * as tf from '@tensorflow/tfjs-core';
import { rule, ruleOfX, saved, unbroadcast, type GradientCall, type GradientRule } from './gradient.js';

type Side = (call: GradientCall, a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

function binary(kernel: string, da: Side, db: Side): GradientRule {
  return rule(kernel, ['a', 'b'], (call) => {
    const a = saved(call, 'a');
    const b = saved(call, 'b');
    return { a: () => unbroadcast(da(call, a, b), a.shape), b: () => unbroadcast(db(call, a, b), b.shape) };
  });
}

const passed = (dy: tf.Tensor, where: tf.Tensor): tf.Tensor => tf.mul(dy, tf.cast(where, 'float32'));
/** Klambauer et al. 2017, self-normalising networks. */
const SELU_SCALE = 1.0507009873554805;
const SELU_ALPHA = 1.6732632423543772;

const x = (call: GradientCall): tf.Tensor => saved(call, 'x');
const y = (call: GradientCall): tf.Tensor => saved(call, 'y');

/** Gradients of element-wise ops. */
export const elementwiseGradients: readonly GradientRule[] = [
  binary(
    'Add',
    ({ dy }) => dy,
    ({ dy }) => dy,
  ),
  binary(
    'Sub',
    ({ dy }) => dy,
    ({ dy }) => tf.neg(dy),
  ),
  binary(
    'Multiply',
    ({ dy }, _a, b) => tf.mul(dy, b),
    ({ dy }, a) => tf.mul(dy, a),
  ),
  binary(
    'RealDiv',
    ({ dy }, _a, b) => tf.div(dy, b),
    ({ dy }, a, b) => tf.neg(tf.div(tf.mul(dy, a), tf.square(b))),
  ),
  binary(
    'Maximum',
    ({ dy }, a, b) => passed(dy, tf.greaterEqual(a, b)),
    ({ dy }, a, b) => passed(dy, tf.less(a, b)),
  ),
  binary(
    'Minimum',
    ({ dy }, a, b) => passed(dy, tf.lessEqual(a, b)),
    ({ dy }, a, b) => passed(dy, tf.greater(a, b)),
  ),
  binary(
    'SquaredDifference',
    ({ dy }, a, b) => tf.mul(dy, tf.mul(tf.sub(a, b), 2)),
    ({ dy }, a, b) => tf.mul(dy, tf.mul(tf.sub(b, a), 2)),
  ),
  binary(
    'Pow',
    ({ dy }, a, b) => tf.mul(dy, tf.mul(b, tf.pow(a, tf.sub(b, 1)))),
    ({ dy }, a, b) => {
      const logarithm = tf.where(tf.greater(a, 0), tf.log(a), tf.zerosLike(a));
      return tf.mul(dy, tf.mul(tf.pow(a, b), logarithm));
    },
  ),
  binary(
    'FloorDiv',
    ({ dy }, _a, b) => tf.div(dy, tf.cast(b, 'float32')),
    ({ dy }, a, b) => {
      const [dividend, divisor] = [tf.cast(a, 'float32'), tf.cast(b, 'float32')];
      return tf.neg(tf.div(tf.mul(dy, dividend), tf.square(divisor)));
    },
  ),
  binary(
    'Mod',
    ({ dy }) => dy,
    ({ dy }, a, b) => tf.neg(tf.mul(dy, tf.floor(tf.div(a, b)))),
  ),
  binary(
    'Atan2',
    ({ dy }, a, b) => tf.mul(dy, tf.div(b, tf.add(tf.square(a), tf.square(b)))),
    ({ dy }, a, b) => tf.neg(tf.mul(dy, tf.div(a, tf.add(tf.square(a), tf.square(b))))),
  ),
  rule('Prelu', ['x', 'alpha'], (call) => {
    const alpha = saved(call, 'alpha');
    const above = tf.greater(x(call), 0);
    return {
      x: () => tf.where(above, call.dy, tf.mul(call.dy, alpha)),
      alpha: () => unbroadcast(tf.mul(call.dy, tf.minimum(x(call), 0)), alpha.shape),
    };
  }),
  ruleOfX('Abs', ['x'], (call) => tf.mul(call.dy, tf.sign(x(call)))),
  ruleOfX('Neg', [], ({ dy }) => tf.neg(dy)),
  ruleOfX('Square', ['x'], (call) => tf.mul(call.dy, tf.mul(x(call), 2))),
  ruleOfX('Sqrt', ['y'], (call) => tf.div(call.dy, tf.mul(y(call), 2))),
  ruleOfX('Rsqrt', ['y'], (call) => tf.mul(call.dy, tf.mul(tf.mul(y(call), tf.square(y(call))), -0.5))),
  ruleOfX('Exp', ['y'], (call) => tf.mul(call.dy, y(call))),
  ruleOfX('Expm1', ['x'], (call) => tf.mul(call.dy, tf.exp(x(call)))),
  ruleOfX('Log', ['x'], (call) => tf.div(call.dy, x(call))),
  ruleOfX('Log1p', ['x'], (call) => tf.div(call.dy, tf.add(x(call), 1))),
  ruleOfX('Reciprocal', ['y'], (call) => tf.neg(tf.mul(call.dy, tf.square(y(call))))),
  ruleOfX('Sin', ['x'], (call) => tf.mul(call.dy, tf.cos(x(call)))),
  ruleOfX('Cos', ['x'], (call) => tf.neg(tf.mul(call.dy, tf.sin(x(call))))),
  ruleOfX('Tan', ['y'], (call) => tf.mul(call.dy, tf.add(tf.square(y(call)), 1))),
  ruleOfX('Asin', ['x'], (call) => tf.div(call.dy, tf.sqrt(tf.sub(1, tf.square(x(call)))))),
  ruleOfX('Acos', ['x'], (call) => tf.neg(tf.div(call.dy, tf.sqrt(tf.sub(1, tf.square(x(call))))))),
  ruleOfX('Atan', ['x'], (call) => tf.div(call.dy, tf.add(tf.square(x(call)), 1))),
  ruleOfX('Sinh', ['x'], (call) => tf.mul(call.dy, tf.cosh(x(call)))),
  ruleOfX('Cosh', ['x'], (call) => tf.mul(call.dy, tf.sinh(x(call)))),
  ruleOfX('Asinh', ['x'], (call) => tf.div(call.dy, tf.sqrt(tf.add(tf.square(x(call)), 1)))),
  ruleOfX('Acosh', ['x'], (call) => tf.div(call.dy, tf.sqrt(tf.sub(tf.square(x(call)), 1)))),
  ruleOfX('Atanh', ['x'], (call) => tf.div(call.dy, tf.sub(1, tf.square(x(call))))),
  ruleOfX('Selu', ['x'], (call) => {
    const scale = tf.mul(call.dy, SELU_SCALE);
    const below = tf.mul(tf.mul(call.dy, SELU_SCALE * SELU_ALPHA), tf.exp(x(call)));
    return tf.where(tf.greater(x(call), 0), scale, below);
  }),
  ruleOfX('Erf', ['x'], (call) =>
    tf.mul(call.dy, tf.mul(tf.exp(tf.neg(tf.square(x(call)))), 2 / Math.sqrt(Math.PI))),
  ),
  // A rectified value is positive exactly where it is not zero.
  ruleOfX('Relu', ['y'], (call) => passed(call.dy, tf.cast(y(call), 'bool'))),
  ruleOfX('Relu6', ['x'], (call) =>
    passed(call.dy, tf.logicalAnd(tf.greater(x(call), 0), tf.less(x(call), 6))),
  ),
  ruleOfX('LeakyRelu', ['x'], (call) =>
    tf.where(tf.greater(x(call), 0), call.dy, tf.mul(call.dy, call.attrs['alpha'] as number)),
  ),
  ruleOfX('Elu', ['y'], (call) =>
    tf.where(tf.greater(y(call), 0), call.dy, tf.mul(call.dy, tf.add(y(call), 1))),
  ),
  ruleOfX('Tanh', ['y'], (call) => tf.mul(call.dy, tf.sub(1, tf.square(y(call))))),
  ruleOfX('Sigmoid', ['y'], (call) => tf.mul(call.dy, tf.mul(y(call), tf.sub(1, y(call))))),
  ruleOfX('Softplus', ['x'], (call) => tf.mul(call.dy, tf.sigmoid(x(call)))),
  ruleOfX('ClipByValue', ['x'], (call) => {
    const { clipValueMin, clipValueMax } = call.attrs as { clipValueMin: number; clipValueMax: number };
    return passed(
      call.dy,
      tf.logicalAnd(tf.greaterEqual(x(call), clipValueMin), tf.lessEqual(x(call), clipValueMax)),
    );
  }),
  ruleOfX('Identity', [], ({ dy }) => dy),
  ruleOfX('Cast', [], ({ dy }) => dy),
  ...['Step', 'Sign', 'Floor', 'Ceil', 'Round', 'ZerosLike', 'OnesLike'].map((kernel) =>
    ruleOfX(kernel, [], ({ dy }) => tf.zerosLike(dy)),
  ),
  // Comparisons are flat: what depends on their result only through a choice has no gradient through it.
  ...['Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual', 'LogicalAnd', 'LogicalOr'].map(
    (kernel) =>
      rule(kernel, ['a', 'b'], (call) => ({
        a: () => tf.zeros(saved(call, 'a').shape),
        b: () => tf.zeros(saved(call, 'b').shape),
      })),
  ),
  ...['LogicalNot', 'IsNan', 'IsInf', 'IsFinite', 'ArgMax', 'ArgMin'].map((kernel) =>
    ruleOfX(kernel, ['x'], (call) => tf.zeros(x(call).shape)),
  ),
  rule('OneHot', ['indices'], (call) => ({ indices: () => tf.zeros(saved(call, 'indices').shape) })),
  rule('Select', ['condition'], (call) => {
    const condition = saved(call, 'condition');
    return {
      condition: () => tf.cast(tf.zerosLike(condition), 'float32'),
      t: () => tf.where(condition, call.dy, tf.zerosLike(call.dy)),
      e: () => tf.where(condition, tf.zerosLike(call.dy), call.dy),
    };
  }),
];
