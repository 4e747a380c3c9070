import * as tf from '@tensorflow/tfjs-core';
import { ONNX_TYPE } from '../onnx.js';
import { withoutAxes } from '../layout.js';
import { dtypeOf } from '../tracer.js';
import { asFloat } from './arithmetic.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

/** [operator, whether its axes are an input (opset 13 `ReduceSum`) rather than an attribute]. */
const REDUCE: Record<string, [onnx: string, axesAreInput: boolean]> = {
  Sum: ['ReduceSum', true],
  Mean: ['ReduceMean', false],
  Max: ['ReduceMax', false],
  Min: ['ReduceMin', false],
  Prod: ['ReduceProd', false],
};

function reduce(call: KernelCall, onnx: string, axesAreInput: boolean): tf.TensorInfo {
  const { tracer, graph } = call;
  const given = input(call, 'x');
  const x =
    onnx === 'ReduceMean'
      ? asFloat(call, given)
      : given.dtype === 'bool'
        ? tracer.elementwise('Cast', [given], 'int32', { to: ONNX_TYPE.int32 })
        : given;
  const attrs = call.attrs as {
    axis?: number | number[];
    reductionIndices?: number | number[];
    keepDims?: boolean;
  };
  const wanted = attrs.axis ?? attrs.reductionIndices;
  const axes = tf.util.parseAxisParam(wanted ?? x.shape.map((_, axis) => axis), x.shape);
  if (axes.length === 0) return tracer.alias(tracer.value(x));
  const keep = attrs.keepDims === true;
  const order = tracer.orderOf(x);
  const shape = keep
    ? x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
    : x.shape.filter((_, axis) => !axes.includes(axis));
  const physical = axes.map((axis) => order.indexOf(axis)).sort((a, b) => a - b);
  const keepdims = keep ? 1 : 0;
  const source = tracer.name(x, order);
  const name = axesAreInput
    ? graph.add(onnx, [source, graph.integers(physical)], { keepdims })
    : graph.add(onnx, [source], { axes: physical, keepdims });
  return tracer.result(name, shape, dtypeOf(x), { order: keep ? order : withoutAxes(order, axes) });
}

function argument(call: KernelCall, onnx: 'ArgMax' | 'ArgMin'): tf.TensorInfo {
  const given = input(call, 'x');
  const x = given.dtype === 'bool' ? asFloat(call, given) : given;
  const axis = tf.util.parseAxisParam((call.attrs as { axis: number }).axis, x.shape)[0] ?? 0;
  const found = call.graph.add(onnx, [call.tracer.name(x)], { axis, keepdims: 0 });
  const name = call.graph.add('Cast', [found], { to: ONNX_TYPE.int32 });
  return call.tracer.result(
    name,
    x.shape.filter((_, at) => at !== axis),
    'int32',
  );
}

/** Sums, means, extremes and their positions. */
export const reduction: readonly KernelDefinition[] = [
  ...Object.entries(REDUCE).map(([name, [onnx, axesAreInput]]) =>
    kernel(name, onnx, (call) => reduce(call, onnx, axesAreInput)),
  ),
  kernel('Cumsum', 'CumSum', (call) => {
    const x = input(call, 'x');
    const { axis, exclusive, reverse } = call.attrs as { axis: number; exclusive: boolean; reverse: boolean };
    const at = tf.util.parseAxisParam(axis, x.shape)[0] ?? 0;
    const name = call.graph.add('CumSum', [call.tracer.name(x), call.graph.scalar(at, 'int64')], {
      exclusive: exclusive ? 1 : 0,
      reverse: reverse ? 1 : 0,
    });
    return call.tracer.result(name, x.shape, dtypeOf(x));
  }),
  kernel('All', 'Cast, ReduceMin', (call) => logical(call, 'ReduceMin')),
  kernel('Any', 'Cast, ReduceMax', (call) => logical(call, 'ReduceMax')),
  kernel('ArgMax', 'ArgMax, Cast', (call) => argument(call, 'ArgMax')),
  kernel('ArgMin', 'ArgMin, Cast', (call) => argument(call, 'ArgMin')),
];

function logical(call: KernelCall, onnx: string): tf.TensorInfo {
  return call.tracer.elementwise('Cast', [reduce(call, onnx, false)], 'bool', { to: ONNX_TYPE.bool });
}
