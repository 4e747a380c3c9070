import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { existsSync } from 'node:fs';
import {
  Engine,
  EngineError,
  loadTensorFlow,
  runtimeOn,
  traceToOnnx,
  type TraceableFunction,
} from '../../src/engine/index.js';
import { fill } from './kernel-cases.js';
import { expectClose, useCpuBackend } from './support.js';

const network: TraceableFunction = ({ x }, { kernel }) => {
  const loss = (k: tf.Tensor): tf.Scalar =>
    tf.sum(tf.tanh(tf.conv2d(x as tf.Tensor4D, k as tf.Tensor4D, 1, 'same')));
  return { loss: loss(kernel as tf.Tensor), gradient: tf.grad(loss)(kernel as tf.Tensor) };
};

describe('the TensorFlow runtime', () => {
  before(useCpuBackend);

  it('gives the install line and the build script when no package is there, and takes no slow substitute', async () => {
    let error: unknown;
    await loadTensorFlow(() => Promise.reject(new Error('Cannot find package'))).catch((reason: unknown) => {
      error = reason;
    });
    expect(error).to.be.instanceOf(EngineError).with.property('code', 'missing-package');
    const { message } = error as Error;
    expect(message).to.match(/npm install @tensorflow\/tfjs-node-gpu --ignore-scripts=false/);
    const script = /bash (\S+tensorflow-node\.sh) \./.exec(message)?.[1] ?? '';
    expect(existsSync(script), script).to.equal(true);
  });

  it('runs the function that the engine traces, with the same results (here on the CPU backend)', async () => {
    const inputs = { x: fill([2, 5, 5, 3], 1) };
    const variables = { kernel: fill([3, 3, 3, 4], 2) };
    const eager = await (await runtimeOn('cpu')).run(network, inputs, variables);
    const engine = new Engine();
    try {
      const { bytes } = traceToOnnx(network, { x: { shape: [2, 5, 5, 3] } }, { variables, freeze: true });
      expectClose(await (await engine.load(bytes, { device: 'cpu' })).run(inputs), eager, 1e-5);
    } finally {
      await engine.dispose();
    }
  });

  it('leaves no tensors behind', async () => {
    const runtime = await runtimeOn('cpu');
    const before = tf.memory().numTensors;
    await runtime.run(network, { x: fill([1, 4, 4, 2], 1) }, { kernel: fill([3, 3, 2, 2], 2) });
    expect(tf.memory().numTensors).to.equal(before);
  });
});
