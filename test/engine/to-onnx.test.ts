import * as tf from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import { expect } from 'chai';
import { Engine, EngineError, readInitializers, toOnnx, type TracedModel } from '../../src/engine/index.js';
import { fill } from './kernel-cases.js';
import { checkOnnx } from './onnx-checker.js';
import { expectClose, toHost, toTensors, useCpuBackend } from './support.js';

/** Weights and moving statistics that are not those of a fresh model; variances stay positive. */
function unsettle(model: layers.LayersModel): void {
  model.setWeights(
    model.weights.map(({ name, shape }, index) => {
      const values = tf.tensor(fill(shape as number[], index + 1).data as Float32Array, shape as number[]);
      return name.includes('variance') ? tf.add(tf.abs(values), 0.5) : values;
    }),
  );
}

function classifier(): layers.LayersModel {
  return layers.sequential({
    layers: [
      layers.layers.conv2d({ inputShape: [12, 10, 2], filters: 4, kernelSize: 3, padding: 'same' }),
      layers.layers.batchNormalization(),
      layers.layers.reLU(),
      layers.layers.maxPooling2d({ poolSize: 2 }),
      layers.layers.conv2d({ filters: 6, kernelSize: 3, strides: 2, activation: 'relu' }),
      layers.layers.globalAveragePooling2d({}),
      layers.layers.dropout({ rate: 0.5 }),
      layers.layers.dense({ units: 3, activation: 'softmax' }),
    ],
  });
}

function generator(): layers.LayersModel {
  const options = { kernelSize: 4, strides: 2, padding: 'same' } as const;
  return layers.sequential({
    layers: [
      layers.layers.dense({ inputShape: [5], units: 3 * 3 * 4 }),
      layers.layers.reshape({ targetShape: [3, 3, 4] }),
      layers.layers.conv2dTranspose({ ...options, filters: 4 }),
      layers.layers.batchNormalization(),
      layers.layers.leakyReLU(),
      layers.layers.conv2dTranspose({ ...options, filters: 1, activation: 'tanh' }),
    ],
  });
}

/** Two inputs and two outputs, joined by a skip connection. */
function twoHeads(): layers.LayersModel {
  const image = layers.input({ shape: [6, 6, 2] });
  const extra = layers.input({ shape: [3] });
  const conv = layers.layers.conv2d({ filters: 2, kernelSize: 3, padding: 'same' }).apply(image);
  const sum = layers.layers.add().apply([image, conv as layers.SymbolicTensor]);
  const flat = layers.layers.flatten().apply(sum) as layers.SymbolicTensor;
  const joined = layers.layers.concatenate().apply([flat, extra]);
  const score = layers.layers.dense({ units: 1 }).apply(joined) as layers.SymbolicTensor;
  return layers.model({ inputs: [image, extra], outputs: [score, sum as layers.SymbolicTensor] });
}

describe('toOnnx', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine();
  });

  after(() => engine.dispose());

  for (const [title, build] of Object.entries({ classifier, generator, twoHeads })) {
    it(`gives the predictions of a layers model (${title}) for every batch size`, async () => {
      const model = build();
      unsettle(model);
      const { bytes } = toOnnx(model);
      const session = await engine.load(bytes, { device: 'cpu', threads: 1 });
      for (const batch of [1, 3]) {
        const feeds = Object.fromEntries(
          model.inputs.map(({ name, shape }, index) => [
            name,
            fill([batch, ...(shape.slice(1) as number[])], 50 + index),
          ]),
        );
        const given = Object.values(toTensors(feeds));
        const expected = [model.predict(given)].flat();
        const named = Object.fromEntries(
          model.outputNames.map((name, i) => [name, expected[i] as tf.Tensor]),
        );
        expectClose(await session.run(feeds), toHost(named));
      }
      await session.dispose();
    });
  }

  it('keeps the weights of a layers model under their own names, and the model as it was', () => {
    const model = classifier();
    unsettle(model);
    const kept = readInitializers(toOnnx(model).bytes);
    const weights = toHost(Object.fromEntries(model.weights.map((weight) => [weight.name, weight.read()])));
    for (const [name, weight] of Object.entries(weights)) expect(kept[name], name).to.deep.equal(weight);
    expect(tf.getBackend()).to.equal('cpu');
  });

  it('wants the shape that a layers model leaves open', async () => {
    const model = layers.sequential({
      layers: [
        layers.layers.conv2d({ inputShape: [null, null, 1] as never, filters: 2, kernelSize: 3 }),
        layers.layers.globalMaxPooling2d({}),
      ],
    });
    expect(() => toOnnx(model))
      .to.throw(EngineError, /axis 1 is open/)
      .with.property('code', 'trace-failed');
    const name = model.inputs[0]?.name ?? '';
    const session = await engine.load(toOnnx(model, { [name]: { shape: [1, 8, 8, 1] } }).bytes, {
      device: 'cpu',
      threads: 1,
    });
    const x = fill([2, 8, 8, 1], 3);
    const [y] = Object.values(await session.run({ [name]: x }));
    expect(y?.dims).to.deep.equal([2, 2]);
    await session.dispose();
  });

  it('freezes the variables of a function into the file', () => {
    const kernel = fill([4, 2], 1);
    const { bytes, inputs } = toOnnx(
      ({ x }, { kernel: weights }) => ({ y: tf.matMul(x as tf.Tensor2D, weights as tf.Tensor2D) }),
      { x: { shape: [1, 4] } },
      { variables: { kernel }, batch: 'symbolic' },
    );
    expect(inputs.map(({ name }) => name)).to.deep.equal(['x']);
    expect(readInitializers(bytes)['kernel']).to.deep.equal(kernel);
  });

  it('writes files of layers models that pass onnx.checker', async function () {
    const files: Record<string, TracedModel> = {
      classifier: toOnnx(classifier()),
      generator: toOnnx(generator()),
    };
    await checkOnnx(
      this,
      Object.fromEntries(Object.entries(files).map(([name, { bytes }]) => [name, bytes])),
    );
  }).timeout(60_000);
});
