import type * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '../errors.js';
import { dtypeOf } from '../tracer.js';
import { asFloat, constant } from './arithmetic.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

const FUSED: Record<string, string> = { relu: 'Relu', sigmoid: 'Sigmoid', tanh: 'Tanh', elu: 'Elu' };

/** The activation of a fused convolution or matrix product. */
export function fusedActivation(call: KernelCall, x: tf.TensorInfo): tf.TensorInfo {
  const { activation, leakyreluAlpha } = call.attrs as { activation?: string; leakyreluAlpha?: number };
  if (activation === undefined || activation === 'linear') return x;
  if (activation === 'leakyrelu') {
    return call.tracer.elementwise('LeakyRelu', [x], 'float32', { alpha: { float: leakyreluAlpha ?? 0.2 } });
  }
  if (activation === 'relu6') {
    const rectified = call.tracer.elementwise('Relu', [x], 'float32');
    return call.tracer.elementwise('Min', [rectified, constant(call, 6)], 'float32');
  }
  if (activation === 'prelu') {
    const slope = input(call, 'preluActivationWeights');
    return call.tracer.elementwise('PRelu', [x, slope], 'float32');
  }
  const onnx = FUSED[activation];
  if (onnx !== undefined) return call.tracer.elementwise(onnx, [x], 'float32');
  throw new EngineError(
    'missing-kernel',
    `The fused activation "${activation}" is not traced; apply it as its own op.`,
  );
}

function rectified(call: KernelCall): tf.TensorInfo {
  const given = input(call, 'x');
  const x = given.dtype === 'bool' ? asFloat(call, given) : given;
  return call.tracer.elementwise('Relu', [x], dtypeOf(x));
}

/** Activations. */
export const activation: readonly KernelDefinition[] = [
  kernel('Relu', 'Relu', (call) => rectified(call)),
  kernel('Relu6', 'Relu, Min', (call) => {
    const x = rectified(call);
    return call.tracer.elementwise('Min', [x, constant(call, 6, dtypeOf(x))], dtypeOf(x));
  }),
  kernel('Elu', 'Elu', (call) => call.tracer.elementwise('Elu', [input(call, 'x')], 'float32')),
  kernel('Selu', 'Selu', (call) => call.tracer.elementwise('Selu', [input(call, 'x')], 'float32')),
  kernel('LeakyRelu', 'LeakyRelu', (call) =>
    call.tracer.elementwise('LeakyRelu', [asFloat(call, input(call, 'x'))], 'float32', {
      alpha: { float: (call.attrs as { alpha: number }).alpha },
    }),
  ),
  kernel('Softmax', 'Softmax', (call) => {
    const logits = input(call, 'logits');
    const dim = (call.attrs as { dim: number }).dim;
    const axis = dim < 0 ? dim + logits.shape.length : dim;
    return call.tracer.result(
      call.graph.add('Softmax', [call.tracer.name(logits)], { axis }),
      logits.shape,
      'float32',
    );
  }),
  kernel('LogSoftmax', 'LogSoftmax', (call) => {
    const logits = input(call, 'logits');
    const axis = logits.shape.length - 1;
    return call.tracer.result(
      call.graph.add('LogSoftmax', [call.tracer.name(logits)], { axis }),
      logits.shape,
      'float32',
    );
  }),
];
