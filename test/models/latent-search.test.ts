import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import {
  Engine,
  readInitializers,
  scalar,
  sizeOf,
  type EngineSession,
  type HostTensor,
  type HostTensors,
} from '../../src/engine/index.js';
import { exportAnogan, filled, initDcgan, normalNoise, seededRandom } from '../../src/models/index.js';
import { anomalyLosses, searchStep } from '../../src/models/latent-search.js';
import { expectClose, numbers, rows, toHost, toTensors, useCpuBackend } from '../engine/support.js';

const options = { width: 4, zDim: 8 };
/** Wide enough that what is not weights counts for little. */
const large = { width: 24, zDim: 50 };

/** Parameters whose moving statistics are not the trivial ones. */
function trained(): HostTensors {
  const random = seededRandom(4);
  const drawn = (name: string, tensor: HostTensor): HostTensor => {
    if (name.endsWith('movingMean')) return normalNoise(tensor.dims, random, { std: 0.1 });
    if (name.endsWith('kernel')) return normalNoise(tensor.dims, random, { std: 0.1 });
    if (!name.endsWith('movingVariance')) return tensor;
    return {
      ...tensor,
      data: Float32Array.from({ length: sizeOf(tensor.dims) }, () => 0.05 + random() / 10),
    };
  };
  return Object.fromEntries(
    Object.entries(initDcgan(options, 3)).map(([name, tensor]) => [name, drawn(name, tensor)]),
  );
}

describe('the latent search', () => {
  const parameters = trained();
  let engine: Engine;
  let features: EngineSession;
  let search: EngineSession;
  let generator: EngineSession;
  let discriminator: EngineSession;

  before(async () => {
    await useCpuBackend();
    engine = new Engine({ threads: () => 1 });
    const files = exportAnogan(parameters, options);
    features = await engine.load(files.features, { device: 'cpu' });
    search = await engine.load(files.search, { device: 'cpu' });
    generator = await engine.load(files.generator, { device: 'cpu' });
    discriminator = await engine.load(files.discriminator, { device: 'cpu' });
  });

  after(() => engine.dispose());

  async function feeds(n: number, steps: number, seed: number): Promise<HostTensors> {
    const random = seededRandom(seed);
    const x = normalNoise([n, 64, 64, 1], random, { std: 0.5 });
    const zeros = filled([n, options.zDim], 0);
    const { features: fx } = await features.run({ images: x });
    return {
      x,
      fx: fx ?? zeros,
      z: normalNoise([n, options.zDim], random),
      m: zeros,
      v: zeros,
      t: scalar(0),
      steps: { data: BigInt64Array.of(BigInt(steps)), dims: [] },
      lr: scalar(0.05),
      lambda: scalar(0.1),
    };
  }

  it('takes the steps that TensorFlow.js takes, with batch normalisation folded away', async () => {
    const given = await feeds(2, 3, 1);
    const results = await search.run(given);
    const { steps, ...numeric } = given;
    expect(steps?.dims).to.deep.equal([]);
    const frozen = toTensors(parameters);
    let current = toTensors(numeric);
    for (let step = 0; step < 3; step++) current = { ...current, ...searchStep(options, current, frozen) };
    const { x, fx, z, m, v, t } = current as Record<string, tf.Tensor>;
    const losses = anomalyLosses(options, frozen, x as tf.Tensor, fx as tf.Tensor, z as tf.Tensor);
    const expected = toHost({
      'next/z': z as tf.Tensor,
      'next/m': m as tf.Tensor,
      'next/v': v as tf.Tensor,
      'next/t': t as tf.Tensor,
      ...losses,
      residualMean: tf.div(losses.residual, 64 * 64),
      discriminationMean: tf.div(losses.discrimination, 4 * 4 * 32),
    });
    expectClose(results, expected, 1e-3);
  }).timeout(60_000);

  it('continues where it stopped: twice five steps are ten', async () => {
    const given = await feeds(2, 10, 2);
    const ten = await search.run(given);
    const five = { data: BigInt64Array.of(5n), dims: [] };
    await search.setState({
      z: given['z'] ?? five,
      m: given['m'] ?? five,
      v: given['v'] ?? five,
      t: scalar(0),
    });
    const { z, m, v, t, ...fixed } = given;
    expect([z, m, v, t]).to.have.length(4);
    await search.step({ ...fixed, steps: five });
    const resumed = await search.step({ ...fixed, steps: five });
    expect(Object.keys(resumed).some((name) => name.startsWith('next/'))).to.equal(false);
    expectClose(
      resumed,
      Object.fromEntries(Object.keys(resumed).map((name) => [name, ten[name] ?? five])),
      1e-4,
    );
    expect(numbers((await search.getState(['t']))['t'])).to.deep.equal([10]);
  });

  it('searches every image of a batch as if it were alone', async () => {
    const given = await feeds(3, 4, 3);
    const all = await search.run(given);
    for (let row = 0; row < 3; row++) {
      const alone = Object.fromEntries(
        Object.entries(given).map(([name, tensor]) => [
          name,
          tensor.dims.length > 0 ? rows(tensor, row, row + 1) : tensor,
        ]),
      );
      const single = await search.run(alone);
      const expected = Object.fromEntries(
        Object.entries(all).map(([name, tensor]) => [
          name,
          tensor.dims.length > 0 ? rows(tensor, row, row + 1) : tensor,
        ]),
      );
      expectClose(single, expected, 1e-3);
    }
  });

  it('brings the image closer', async () => {
    const start = await search.run(await feeds(2, 0, 4));
    const end = await search.run(await feeds(2, 40, 4));
    const loss = ({ residual, discrimination }: HostTensors): number[] =>
      numbers(residual).map((value, row) => 0.9 * value + 0.1 * (numbers(discrimination)[row] ?? 0));
    loss(end).forEach((value, row) => {
      expect(value).to.be.below(loss(start)[row] ?? 0);
    });
  });

  it('agrees with the generator and discriminator files, which keep batch normalisation', async () => {
    const given = await feeds(2, 0, 5);
    const { reconstruction } = await search.run(given);
    const { images } = await generator.run({ z: given['z'] ?? scalar(0) });
    expectClose({ images: reconstruction ?? scalar(0) }, { images: images ?? scalar(1) }, 1e-4);
    const { features: fx } = await discriminator.run({ images: given['x'] ?? scalar(0) });
    expectClose({ fx: given['fx'] ?? scalar(0) }, { fx: fx ?? scalar(1) }, 1e-4);
  });

  it('in half precision is a quarter as large, its weights stored once, and finds nearly the same', async () => {
    const [single, half] = [false, true].map(
      (half) => exportAnogan(initDcgan(large, 1), large, { half }).search,
    );
    if (single === undefined || half === undefined) throw new Error('no files');
    expect(half.length).to.be.below(single.length * 0.27);
    expect(Object.keys(readInitializers(half))).to.have.members(Object.keys(readInitializers(single)));
    const given = await feeds(2, 0, 5);
    const rounded = await engine.load(exportAnogan(parameters, options, { half: true }).search, {
      device: 'cpu',
    });
    const steps = { data: BigInt64Array.of(3n), dims: [] };
    const [exact, near] = [await search.run({ ...given, steps }), await rounded.run({ ...given, steps })];
    for (const name of ['residual', 'discrimination', 'next/z']) {
      expectClose({ [name]: near[name] ?? scalar(0) }, { [name]: exact[name] ?? scalar(1) }, 0.02);
    }
  });
});
