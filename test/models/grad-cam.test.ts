import { expect } from 'chai';
import { Engine, float32Of, readInitializers, type HostTensors } from '../../src/engine/index.js';
import { gradCamModel } from '../../src/models/grad-cam.js';
import { exportResnet, initResnet, normalNoise, seededRandom } from '../../src/models/index.js';

describe('Grad-CAM', () => {
  const options = { depth: 18, width: 4, inputSize: 64, classes: 3, zeroInitGamma: false } as const;
  const images = normalNoise([2, 64, 64, 1], seededRandom(7), { mean: 0.5, std: 0.2 });
  const target = { data: Float32Array.from([0, 1, 0, 0, 0, 1]), dims: [2, 3] };
  let engine: Engine;
  let parameters: HostTensors;
  before(() => {
    engine = new Engine({ threads: () => 1 });
    parameters = initResnet(options, 3);
    // With weights of one sign nothing is cut off below 0, so that the maps can be added up.
    const kernel = parameters['head/logits/kernel'] as HostTensors[string];
    parameters['head/logits/kernel'] = {
      ...kernel,
      data: float32Of(parameters, 'head/logits/kernel').map(Math.abs),
    };
  });
  after(() => engine.dispose());

  it('of a pooled head adds up to what the class gets beyond its bias', async () => {
    const session = await engine.load(gradCamModel(parameters, options, [4]).bytes, { device: 'cpu' });
    const { map, logits, features } = await session.run({ images, target });
    expect(map?.dims).to.deep.equal([2, 2, 2]);
    expect(features?.dims).to.deep.equal([2, 32]);
    const bias = float32Of(parameters, 'head/logits/bias');
    [1, 2].forEach((label, film) => {
      const sum = Array.from(map?.data.slice(film * 4, film * 4 + 4) as Float32Array).reduce((a, b) => a + b);
      const logit = Number(logits?.data[film * 3 + label]);
      expect(sum).to.be.closeTo(logit - (bias[label] ?? 0), 1e-4 * Math.abs(logit));
    });
    await session.dispose();
  });

  it('of an earlier stage is finer, with the same logits', async () => {
    const [last, third] = await Promise.all(
      [4, 3].map(async (stage) => {
        const session = await engine.load(gradCamModel(parameters, options, [stage]).bytes, {
          device: 'cpu',
        });
        const found = await session.run({ images, target });
        await session.dispose();
        return found;
      }),
    );
    expect(third?.map?.dims).to.deep.equal([2, 4, 4]);
    for (const name of ['logits', 'features']) {
      (last?.[name]?.data as Float32Array).forEach((value, i) => {
        expect(third?.[name]?.data[i]).to.be.closeTo(value, 1e-5);
      });
    }
  });

  it('of several stages has the size of the finest, and is high only where all of them are', async () => {
    const run = async (stages: number[]): Promise<Float32Array> => {
      const session = await engine.load(gradCamModel(parameters, options, stages).bytes, { device: 'cpu' });
      const { map } = await session.run({ images, target });
      await session.dispose();
      expect(map?.dims).to.deep.equal([
        2,
        64 / 2 ** ((stages[0] ?? 0) + 1),
        64 / 2 ** ((stages[0] ?? 0) + 1),
      ]);
      return map?.data as Float32Array;
    };
    const [both, fine, coarse] = await Promise.all([run([2, 3]), run([2]), run([3])]);
    const highest = (data: Float32Array, film: number): number =>
      Math.max(...data.subarray((film * data.length) / 2, ((film + 1) * data.length) / 2));
    // In the corner, the coarse map has the value of its own corner.
    for (const film of [0, 1]) {
      const at = (data: Float32Array): number =>
        (data[(film * data.length) / 2] ?? NaN) / highest(data, film);
      const expected = Math.sqrt(at(fine) * at(coarse));
      expect(both[(film * both.length) / 2] ?? NaN).to.be.closeTo(expected, 1e-4);
    }
    expect(Math.max(...both)).to.be.at.most(1 + 1e-6);
  });

  it('reads the parameters from the bundle’s file, and gives the same answers', async () => {
    const { bytes } = exportResnet(parameters, options);
    const bundle = await engine.load(bytes, { device: 'cpu' });
    const explained = await engine.load(gradCamModel(readInitializers(bytes), options).bytes, {
      device: 'cpu',
    });
    const one = (await bundle.run({ images })).logits?.data as Float32Array;
    const other = (await explained.run({ images, target })).logits?.data as Float32Array;
    one.forEach((logit, i) => expect(other[i]).to.be.closeTo(logit, 1e-4));
    await bundle.dispose();
    await explained.dispose();
  });

  it('says which parameter a foreign file lacks', () => {
    expect(() => gradCamModel({}, options)).to.throw('the network has no parameter "stem/kernel"');
  });
});
