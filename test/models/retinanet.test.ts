import { expect } from 'chai';
import { Engine, readInitializers } from '../../src/engine/index.js';
import { anchorsOf } from '../../src/models/anchors.js';
import { boxesByImage, suppressionFeeds } from '../../src/models/detections.js';
import {
  exportRetinanet,
  initRetinanet,
  normalNoise,
  retinanetEvalStep,
  seededRandom,
  type RetinanetOptions,
} from '../../src/models/index.js';
import { iouOf } from '../../src/training/evaluation/detection-figures.js';
import { checkOnnx } from '../engine/onnx-checker.js';
import { numbers } from '../engine/support.js';

const tiny: RetinanetOptions = {
  ...{ depth: 18, width: 2, inputSize: 64, classes: 2, channels: 4, headLayers: 1, anchorSize: 16 },
};
/** Every anchor answers about 0.01 at first: the threshold is below. */
const LOW = { scoreThreshold: 0.001, iouThreshold: 0.4, maxDetections: 20 };

describe('retinanet', () => {
  let engine: Engine;
  before(() => {
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());
  const images = normalNoise([3, 64, 64, 1], seededRandom(2), { mean: 0.5, std: 0.2 });

  for (const other of [{}, { depth: 50 }, { inputSize: 96, headLayers: 2 }] as const) {
    it(`finds boxes inside of each image, none over another: ${JSON.stringify(other)}`, async () => {
      const options = { ...tiny, ...other };
      const side = options.inputSize;
      const session = await engine.load(exportRetinanet(initRetinanet(options, 1), options), {
        device: 'cpu',
      });
      const noise = normalNoise([3, side, side, 1], seededRandom(2), { mean: 0.5, std: 0.2 });
      const outputs = await session.run({ images: noise, ...suppressionFeeds(LOW) });
      expect(outputs.highest?.dims).to.deep.equal([3, 2]);
      const found = boxesByImage(outputs, 3, 1000);
      for (const boxes of found) {
        expect(boxes.length)
          .to.be.above(5)
          .and.at.most(2 * LOW.maxDetections);
        for (const { x, y, width, height, score } of boxes) {
          expect(Math.min(x, y)).to.be.at.least(0);
          expect(Math.max(x + width, y + height)).to.be.at.most(side);
          expect(score).to.be.within(0.001, 0.1);
        }
        boxes.forEach((box, i) => {
          for (const before of boxes.slice(0, i).filter(({ label }) => label === box.label)) {
            expect(iouOf(before, box)).to.be.at.most(0.4 + 1e-5);
          }
        });
        expect(boxes[0]?.score).to.be.closeTo(Math.max(...numbers(outputs.highest)), 0.02);
      }
      await session.dispose();
    });
  }

  it('answers alone as in a batch, and as in validation', async () => {
    const parameters = initRetinanet(tiny, 3);
    const file = exportRetinanet(parameters, tiny);
    const session = await engine.load(file, { device: 'cpu' });
    const state = engine.createState();
    await state.set(parameters);
    const validation = await engine.load(retinanetEvalStep(tiny), { state, device: 'cpu' });
    const feeds = suppressionFeeds(LOW);
    const together = boxesByImage(await session.run({ images, ...feeds }), 3, 1000);
    // Boxes of nearly the same score may change places by rounding.
    const scores = (found: typeof together): number[] => found.flat().map(({ score }) => score);
    const validated = scores(boxesByImage(await validation.step({ images, ...feeds }), 3, 1000));
    expect(validated.length).to.equal(scores(together).length);
    scores(together).forEach((score, i) => {
      expect(validated[i]).to.be.closeTo(score, 1e-5);
    });
    const one = { data: (images.data as Float32Array).slice(4096, 8192), dims: [1, 64, 64, 1] };
    const [alone = []] = boxesByImage(await session.run({ images: one, ...feeds }), 1, 1000);
    expect(alone.length).to.equal(together[1]?.length);
    alone.forEach((box, i) => {
      expect(box.x).to.be.closeTo(together[1]?.[i]?.x ?? NaN, 1e-3);
    });
    const stored = readInitializers(file);
    for (const [name, { data }] of Object.entries(parameters))
      expect(stored[name]?.data, name).to.deep.equal(data);
  });

  it('is a valid ONNX file, and has an answer for every anchor', async function () {
    await checkOnnx(this, { retinanet: exportRetinanet(initRetinanet(tiny, 1), tiny) });
    expect(anchorsOf(64, 16).length / 4).to.equal((64 + 16 + 4 + 1 + 1) * 9);
  });
});
