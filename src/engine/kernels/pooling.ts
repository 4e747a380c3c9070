import * as tf from '@tensorflow/tfjs-core';
import { sizeOf } from '../host-tensor.js';
import { CHANNELS_FIRST } from '../layout.js';
import { backwards, padsOf } from './convolution.js';
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
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    pads: padsOf(info),
  };
}

function pool(call: KernelCall, onnx: string): tf.TensorInfo {
  const x = input(call, 'x');
  const info = poolInfo(call, x.shape);
  const name = call.graph.add(onnx, [call.tracer.name(x, CHANNELS_FIRST)], poolAttributes(info));
  return call.tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
}

/** Where the maxima were, from the pool that found them; from one more where the output was not pooled in this graph. */
function positionsOfMaxima(call: KernelCall, x: tf.TensorInfo): string {
  const { tracer, graph } = call;
  const pooled = tracer.name(input(call, 'output'), CHANNELS_FIRST);
  const forward = graph.nodes.find(({ type, outputs }) => type === 'MaxPool' && outputs[0] === pooled);
  if (forward) return forward.outputs[1] ?? graph.addOutput(pooled);
  const again = [tracer.name(x, CHANNELS_FIRST)];
  return graph.addMany('MaxPool', again, 2, poolAttributes(poolInfo(call, x.shape)))[1] ?? '';
}

/** The forward pool tells where its maxima were. Each window sends its gradient to the position of its maximum; overlapping windows add up. */
function maxPoolGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'input');
  const indices = positionsOfMaxima(call, x);
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

/** Each window spreads its gradient over the pixels that it averaged, of which there are fewer at a padded border. */
function averagePoolGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const shape = input(call, 'input').shape;
  const info = poolInfo(call, shape);
  const { outHeight, outWidth, filterHeight, filterWidth } = info;
  const [n = 1, height = 1, width = 1, c = 1] = shape;
  const inside = (out: number, stride: number, size: number, filter: number, pad: number): number =>
    Math.min(size, out * stride - pad + filter) - Math.max(0, out * stride - pad);
  const shares = Float32Array.from({ length: outHeight * outWidth }, (_, index) => {
    const row = Math.floor(index / outWidth);
    const rows = inside(row, info.strideHeight, height, filterHeight, info.padInfo.top);
    return 1 / (rows * inside(index % outWidth, info.strideWidth, width, filterWidth, info.padInfo.left));
  });
  const dy = graph.add('Reshape', [
    tracer.name(input(call, 'dy'), CHANNELS_FIRST),
    graph.dimensions([n * c, 1, outHeight, outWidth]),
  ]);
  const share = graph.add('Mul', [dy, graph.constant(shares, [outHeight, outWidth])]);
  const window = new Float32Array(filterHeight * filterWidth).fill(1);
  const ones = graph.constant(window, [1, 1, filterHeight, filterWidth]);
  const spread = graph.add('ConvTranspose', [share, ones], backwards(info));
  const name = graph.add('Reshape', [spread, graph.dimensions([n, c, height, width])]);
  return tracer.result(name, shape, 'float32', { order: CHANNELS_FIRST });
}

/** Pools and their gradients. */
export const pooling: readonly KernelDefinition[] = [
  kernel('MaxPool', 'MaxPool', (call) => pool(call, 'MaxPool')),
  kernel('AvgPool', 'AveragePool', (call) => pool(call, 'AveragePool')),
  kernel('AvgPoolGrad', 'Mul, ConvTranspose', averagePoolGradient),
  kernel('MaxPoolGrad', 'ScatterElements (and indices from MaxPool)', maxPoolGradient),
];
