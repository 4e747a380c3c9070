import type * as tf from '@tensorflow/tfjs-core';
import { CHANNELS_FIRST, identityOrder } from '../layout.js';
import { constant } from './arithmetic.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

/** The kernel name of {@link batchNormTraining}. */
export const BATCH_NORM_TRAINING = 'RxrayBatchNormTraining';

function channelOrder(x: tf.TensorInfo): readonly number[] {
  return x.shape.length === 4 ? CHANNELS_FIRST : identityOrder(x.shape.length);
}

function inference(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const mean = input(call, 'mean');
  const variance = input(call, 'variance');
  const epsilon = (call.attrs as { varianceEpsilon: number }).varianceEpsilon;
  const { scale, offset } = call.inputs;
  if ((x.shape.length === 4 || x.shape.length === 2) && mean.shape.length === 1 && scale && offset) {
    const order = channelOrder(x);
    const operands = [
      tracer.name(x, order),
      ...[scale, offset, mean, variance].map((info) => tracer.name(info)),
    ];
    const name = graph.add('BatchNormalization', operands, { epsilon: { float: epsilon } });
    return tracer.result(name, x.shape, 'float32', { order });
  }
  const spread = tracer.elementwise('Add', [variance, constant(call, epsilon)], 'float32');
  const deviation = tracer.elementwise('Sqrt', [spread], 'float32');
  const centred = tracer.elementwise('Sub', [x, mean], 'float32');
  let y = tracer.elementwise('Div', [centred, deviation], 'float32');
  if (scale) y = tracer.elementwise('Mul', [y, scale], 'float32');
  return offset ? tracer.elementwise('Add', [y, offset], 'float32') : y;
}

function training(call: KernelCall): tf.TensorInfo[] {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const order = channelOrder(x);
  const channels = x.shape.at(-1) ?? 1;
  // Momentum 0 makes the running statistics those of this batch. ONNX Runtime writes them over the two inputs, and it
  // merges equal constants: each input is a fresh value that no other node shares.
  const source = tracer.name(x, order);
  const origin = graph.integers(order.map(() => 0));
  const corner = graph.add('Slice', [source, origin, graph.integers(order.map(() => 1))]);
  const zero = graph.add('Mul', [graph.add('Reshape', [corner, graph.integers([1])]), graph.scalar(0)]);
  const running = [0, 1].map(() => {
    const unique = new Float32Array(channels).fill(graph.initializers.size);
    return graph.add('Add', [zero, graph.constant(unique, [channels])]);
  });
  const [y = '', mean = '', variance = ''] = graph.addMany(
    'BatchNormalization',
    [source, tracer.name(input(call, 'gamma')), tracer.name(input(call, 'beta')), ...running],
    3,
    {
      training_mode: 1,
      momentum: { float: 0 },
      epsilon: { float: (call.attrs as { epsilon: number }).epsilon },
    },
  );
  return [
    tracer.result(y, x.shape, 'float32', { order }),
    tracer.result(mean, [channels], 'float32'),
    tracer.result(variance, [channels], 'float32'),
  ];
}

/** Batch normalisation. */
export const normalization: readonly KernelDefinition[] = [
  kernel('FusedBatchNorm', 'BatchNormalization', inference),
  kernel(BATCH_NORM_TRAINING, 'BatchNormalization (training_mode)', training),
];
