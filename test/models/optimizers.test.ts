import * as tf from '@tensorflow/tfjs-core';
import { Engine, scalar, traceToOnnx, type HostTensors, type TensorMap } from '../../src/engine/index.js';
import { optimize, zeroMoments, type OptimizerOptions } from '../../src/models/optimizers.js';
import { normalNoise, seededRandom } from '../../src/models/index.js';
import { expectClose, toHost, toTensors, useCpuBackend } from '../engine/support.js';

const STEPS = 20;
const RATE = 0.01;
const SCOPE = 'test';

/** Logistic loss of a small network. */
function lossOf({ x, y }: TensorMap, { 'dense/kernel': kernel, 'dense/bias': bias }: TensorMap): tf.Scalar {
  const logits = tf.add(tf.matMul(x as tf.Tensor2D, kernel as tf.Tensor2D), bias as tf.Tensor);
  return tf.losses.sigmoidCrossEntropy(y as tf.Tensor, logits);
}

function stepOf(options: OptimizerOptions, names: readonly string[]) {
  return (inputs: TensorMap, state: TensorMap): TensorMap => {
    const gradients = tf.grads((...values: tf.Tensor[]) =>
      lossOf(inputs, Object.fromEntries(names.map((name, index) => [name, values[index] as tf.Tensor]))),
    )(names.map((name) => state[name] as tf.Tensor));
    const named = Object.fromEntries(names.map((name, index) => [name, gradients[index] as tf.Tensor]));
    return optimize(options, state, named, inputs['lr'] as tf.Tensor, SCOPE);
  };
}

const cases: [title: string, options: OptimizerOptions, reference: () => tf.Optimizer][] = [
  ['RMSProp', { kind: 'rmsprop' }, () => tf.train.rmsprop(RATE)],
  [
    'RMSProp with momentum',
    { kind: 'rmsprop', decay: 0.8, momentum: 0.9, epsilon: 1e-3 },
    () => tf.train.rmsprop(RATE, 0.8, 0.9, 1e-3),
  ],
  ['SGD with momentum', { kind: 'sgd', momentum: 0.8 }, () => tf.train.momentum(RATE, 0.8)],
  [
    'SGD with Nesterov momentum',
    { kind: 'sgd', momentum: 0.8, nesterov: true },
    () => tf.train.momentum(RATE, 0.8, true),
  ],
  ['Adam', { kind: 'adam', epsilon: 1e-7 }, () => tf.train.adam(RATE, 0.9, 0.999, 1e-7)],
];

describe('optimisers', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine({ threads: () => 1 });
  });

  after(() => engine.dispose());

  for (const [title, options, reference] of cases) {
    it(`${title} takes the steps of TensorFlow.js' own`, async () => {
      const random = seededRandom(3);
      const parameters: HostTensors = {
        'dense/kernel': normalNoise([4, 2], random),
        'dense/bias': normalNoise([2], random),
      };
      const names = Object.keys(parameters);
      const moments = zeroMoments(options, parameters, names, SCOPE);
      const { bytes } = traceToOnnx(
        stepOf(options, names),
        { x: { shape: [6, 4] }, y: { shape: [6, 2] }, lr: { shape: [] } },
        { variables: { ...parameters, ...moments } },
      );
      const session = await engine.load(bytes, { device: 'cpu', threads: 1 });
      await session.setState({ ...parameters, ...moments });

      const variables: Record<string, tf.Variable> = {};
      for (const [name, tensor] of Object.entries(toTensors(parameters)))
        variables[name] = tf.variable(tensor);
      const optimizer = reference();
      for (let step = 0; step < STEPS; step++) {
        const feeds = { x: normalNoise([6, 4], random), y: normalNoise([6, 2], random) };
        await session.step({ ...feeds, lr: scalar(RATE) });
        optimizer.minimize(() => lossOf(toTensors(feeds), variables), false, Object.values(variables));
      }
      expectClose(await session.getState(names), toHost(variables));
      tf.dispose([optimizer as never, variables]);
      await session.dispose();
    });
  }
});
