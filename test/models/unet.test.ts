import { expect } from 'chai';
import { Engine, readInitializers } from '../../src/engine/index.js';
import {
  exportUnet,
  initUnet,
  normalNoise,
  seededRandom,
  unetEvalStep,
  type UnetOptions,
} from '../../src/models/index.js';
import { expectClose, numbers } from '../engine/support.js';

const tiny: UnetOptions = { width: 3, poolings: 2, inputSize: 16 };

describe('unet', () => {
  let engine: Engine;
  before(() => {
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());

  for (const other of [{}, { upsampling: 'transposed' }, { batchNorm: false }, { poolings: 3 }] as const) {
    it(`answers with a probability for each pixel, whatever the batch: ${JSON.stringify(other)}`, async () => {
      const options = { ...tiny, ...other };
      const session = await engine.load(exportUnet(initUnet(options, 1), options).bytes, { device: 'cpu' });
      const images = normalNoise([3, 16, 16, 1], seededRandom(2), { mean: 0.5, std: 0.2 });
      const { probabilities } = await session.run({ images });
      expect(probabilities?.dims).to.deep.equal([3, 16, 16, 1]);
      const all = numbers(probabilities);
      expect(Math.min(...all)).to.be.above(0);
      expect(Math.max(...all)).to.be.below(1);
      const one = { data: (images.data as Float32Array).slice(256, 512), dims: [1, 16, 16, 1] };
      const alone = numbers((await session.run({ images: one })).probabilities);
      alone.forEach((p, i) => {
        expect(p).to.be.closeTo(all[256 + i] ?? NaN, 1e-5);
      });
      await session.dispose();
    });
  }

  it('gives its parameters back from the file, and answers as in validation', async () => {
    const parameters = initUnet(tiny, 3);
    const file = exportUnet(parameters, tiny).bytes;
    const stored = readInitializers(file);
    for (const [name, { data, dims }] of Object.entries(parameters)) {
      expect(stored[name]?.dims, name).to.deep.equal(dims);
      expect(stored[name]?.data, name).to.deep.equal(data);
    }
    const state = engine.createState();
    await state.set(parameters);
    const validation = await engine.load(unetEvalStep(tiny).bytes, { state, device: 'cpu' });
    const images = normalNoise([2, 16, 16, 1], seededRandom(4), { mean: 0.5, std: 0.2 });
    const session = await engine.load(file, { device: 'cpu' });
    expectClose(await session.run({ images }), await validation.step({ images }), 1e-5);
    const half = await engine.load(exportUnet(parameters, tiny, { half: true }).bytes, { device: 'cpu' });
    expectClose(await half.run({ images }), await session.run({ images }), 0.01);
  });
});
