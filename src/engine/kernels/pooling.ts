import * as tf from '@tensorflow/tfjs-core';
import { sizeOf } from '../host-tensor.js';
import { CHANNELS_FIRST } from '../layout.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

interface PoolAttributes {
  readonly filterSize: number | [number, number];
  readonly strides: number | [number, number];
  readonly pad: Parameters<typeof tf.backend_util.computePool2DInfo>[4];
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function poolInfo(call: KernelCall, shape: number[]): tf.backend_util.Conv2DInfo {
  const { filterSize, strides, pad, dimRoundingMode } = call.attrs as unknown as PoolAttributes;
  return tf.backend_util.computePool2DInfo(
    shape as [number, number, number, number],
    filterSize,
    strides,
    1,
    pad,
    dimRoundingMode,
  );
}

function poolAttributes(info: tf.backend_util.Conv2DInfo): Record<string, number[]> {
  const { padInfo } = info;
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    pads: [padInfo.top, padInfo.left, padInfo.bottom, padInfo.right],
  };
}

function pool(call: KernelCall, onnx: string): tf.TensorInfo {
  const x = input(call, 'x');
  const info = poolInfo(call, x.shape);
  const name = call.graph.add(onnx, [call.tracer.name(x, CHANNELS_FIRST)], poolAttributes(info));
  return call.tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
}

/** The forward pool tells where its maxima were. Each window sends its gradient to the position of its maximum; overlapping windows add up. */
function maxPoolGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'input');
  const indices = graph.addOutput(tracer.name(input(call, 'output'), CHANNELS_FIRST));
  const zeros = graph.add('ConstantOfShape', [graph.dimensions([sizeOf(x.shape)])]);
  const flat = graph.integers([-1]);
  const scattered = graph.add(
    'ScatterElements',
    [
      zeros,
      graph.add('Reshape', [indices, flat]),
      graph.add('Reshape', [tracer.name(input(call, 'dy'), CHANNELS_FIRST), flat]),
    ],
    { axis: 0, reduction: 'add' },
  );
  const [n = 1, h = 1, w = 1, c = 1] = x.shape;
  const name = graph.add('Reshape', [scattered, graph.dimensions([n, c, h, w])]);
  return tracer.result(name, x.shape, 'float32', { order: CHANNELS_FIRST });
}

/** Pools and their gradients. */
export const pooling: readonly KernelDefinition[] = [
  kernel('MaxPool', 'MaxPool', (call) => pool(call, 'MaxPool')),
  kernel('AvgPool', 'AveragePool', (call) => pool(call, 'AveragePool')),
  kernel('MaxPoolGrad', 'ScatterElements (and indices from MaxPool)', maxPoolGradient),
];
