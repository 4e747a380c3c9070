import { expect } from 'chai';
import {
  Engine,
  readInitializers,
  scalar,
  sizeOf,
  type HostTensors,
  type TracedModel,
} from '../../src/engine/index.js';
import {
  exportResnet,
  filled,
  initResnet,
  normalNoise,
  resnetEvalStep,
  resnetTrainStep,
  seededRandom,
  type ResnetOptions,
} from '../../src/models/index.js';
import { expectClose, numbers, rows, useCpuBackend } from '../engine/support.js';

const tiny: ResnetOptions = { depth: 18, width: 4, inputSize: 32, classes: 3 };

function count(parameters: HostTensors): number {
  return Object.entries(parameters)
    .filter(([name]) => !name.includes('/moving'))
    .reduce((sum, [, { dims }]) => sum + sizeOf(dims), 0);
}

describe('resnet', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine({ threads: () => 1 });
  });

  after(() => engine.dispose());

  // torchvision's counts for 3 input channels and 1000 classes, less the 2 missing input channels of the first 7×7×64.
  for (const [depth, expected] of [
    [18, 11_689_512],
    [34, 21_797_672],
    [50, 25_557_032],
  ] as const) {
    it(`of depth ${String(depth)} has as many parameters as the paper's`, () => {
      const parameters = initResnet({ depth, width: 64, inputSize: 224, classes: 1000 }, 1);
      expect(count(parameters)).to.equal(expected - 2 * 7 * 7 * 64);
    });
  }

  it('starts the same from the same seed only', () => {
    expect(initResnet(tiny, 1)).to.deep.equal(initResnet(tiny, 1));
    expect(initResnet(tiny, 1)['stem/kernel']).not.to.deep.equal(initResnet(tiny, 2)['stem/kernel']);
  });

  for (const head of ['plain', 'dense128', 'flatten128'] as const) {
    it(`gives for a batch of n what it gives for n singles, exported: ${head}`, async () => {
      const options = { ...tiny, head, inputSize: head === 'flatten128' ? 64 : 32 };
      const session = await engine.load(exportResnet(initResnet(options, 1), options).bytes, {
        device: 'cpu',
      });
      const images = normalNoise([4, options.inputSize, options.inputSize, 1], seededRandom(2), {
        mean: 0.5,
        std: 0.2,
      });
      const all = await session.run({ images });
      expect(all['probabilities']?.dims).to.deep.equal([4, 3]);
      for (let row = 0; row < 4; row++) {
        const single = await session.run({ images: rows(images, row, row + 1) });
        expectClose(
          single,
          Object.fromEntries(Object.entries(all).map(([name, tensor]) => [name, rows(tensor, row, row + 1)])),
          1e-4,
        );
        const sum = numbers(single['probabilities']).reduce((total, value) => total + value, 0);
        expect(sum).to.be.closeTo(1, 1e-5);
      }
    });
  }

  it('exported in half precision, is half as large and answers nearly the same', async () => {
    const parameters = initResnet(tiny, 1);
    const images = normalNoise([2, 32, 32, 1], seededRandom(2), { mean: 0.5, std: 0.2 });
    const [single, half] = [exportResnet(parameters, tiny), exportResnet(parameters, tiny, { half: true })];
    const [one, other] = await Promise.all(
      [single, half].map(async ({ bytes }) => (await engine.load(bytes, { device: 'cpu' })).run({ images })),
    );
    expectClose(other ?? {}, one ?? {}, 5e-3);
    const weights = Object.entries(parameters).filter(([, { dims }]) => dims.length > 1);
    const saved = weights.reduce((sum, [, { dims }]) => sum + 2 * sizeOf(dims), 0);
    expect(single.bytes.length - half.bytes.length).to.be.within(0.9 * saved, saved);
    const kept = readInitializers(half.bytes);
    for (const [name, { data, dims }] of weights) {
      expect(kept[name]?.dims, name).to.deep.equal(dims);
      numbers(kept[name]).forEach((value, i) => {
        expect(value).to.be.closeTo(data[i] as number, 1e-3 * Math.abs(data[i] as number) + 1e-7);
      });
    }
  });

  it('exported with others, answers with the mean of their logits; with a mirror, of both views', async () => {
    const members = [initResnet(tiny, 1), initResnet(tiny, 2)];
    const images = normalNoise([3, 32, 32, 1], seededRandom(2), { mean: 0.5, std: 0.2 });
    const mirrored = filled(images.dims, 0);
    for (let i = 0; i < mirrored.data.length; i++)
      mirrored.data[i] = images.data[i - (i % 32) + 31 - (i % 32)] ?? 0;
    const ask = async (file: TracedModel, feed: HostTensors[string]): Promise<number[]> => {
      const session = await engine.load(file.bytes, { device: 'cpu' });
      return numbers((await session.run({ images: feed }))['logits']);
    };
    const alone = await Promise.all(
      members.flatMap((member) => [images, mirrored].map((feed) => ask(exportResnet(member, tiny), feed))),
    );
    const together = await ask(exportResnet(members, tiny, { mirror: true }), images);
    together.forEach((value, i) => {
      expect(value).to.be.closeTo(alone.reduce((sum, logits) => sum + (logits[i] ?? 0), 0) / 4, 1e-4);
    });
  });

  it('learns two patterns, and scores the same from the state store and exported', async () => {
    const options: ResnetOptions = { ...tiny, classes: 2 };
    const batchSize = 8;
    const train = resnetTrainStep(options, { batchSize, optimizer: { kind: 'adam' } });
    const state = engine.createState();
    await state.set(train.initialState(initResnet(options, 1)));
    const session = await engine.load(train.bytes, { device: 'cpu', state });
    const random = seededRandom(3);
    const images = normalNoise([batchSize, 32, 32, 1], random, { mean: 0.4, std: 0.1 });
    const targets = filled([batchSize, 2], 0);
    for (let row = 0; row < batchSize; row++) {
      targets.data[2 * row + (row % 2)] = 1;
      if (row % 2) for (let x = 0; x < 512; x++) images.data[row * 1024 + x] = 0.9 + 0.05 * random();
    }
    const feeds = { images, targets, sampleWeights: filled([batchSize], 1), lr: scalar(3e-3) };
    const losses: number[] = [];
    for (let step = 0; step < 60; step++) losses.push(numbers((await session.step(feeds))['loss'])[0] ?? NaN);
    expect(losses.at(-1)).to.be.below(0.1 * (losses[0] ?? 0));

    const evaluation = await engine.load(resnetEvalStep(options).bytes, { device: 'cpu', state });
    const fromState = await evaluation.step({ images });
    const file = exportResnet(train.parametersOf(await state.get()), options);
    const exported = await (await engine.load(file.bytes, { device: 'cpu' })).run({ images });
    expectClose(exported, fromState, 1e-4);
    const right = numbers(exported['logits']).filter((_, index, logits) => {
      const row = Math.floor(index / 2);
      return index % 2 === 0 && (logits[index] ?? 0) > (logits[index + 1] ?? 0) === (row % 2 === 0);
    });
    expect(right).to.have.length(batchSize);
  });

  it('leaves rows of weight 0 out of the loss and of the count', async () => {
    const options: ResnetOptions = { ...tiny, classes: 2 };
    const train = resnetTrainStep(options, { batchSize: 4, optimizer: { kind: 'sgd' } });
    const session = await engine.load(train.bytes, { device: 'cpu' });
    const run = async (last: number): Promise<HostTensors> => {
      await session.setState(train.initialState(initResnet(options, 1)));
      return session.step({
        images: normalNoise([4, 32, 32, 1], seededRandom(1)),
        targets: { data: Float32Array.of(1, 0, 0, 1, 1, 0, last, 1 - last), dims: [4, 2] },
        sampleWeights: { data: Float32Array.of(1, 1, 1, 0), dims: [4] },
        lr: scalar(0.1),
      });
    };
    const [a, b] = [await run(0), await run(1)];
    expect(a).to.deep.equal(b);
    expect(numbers(a['correct'])[0]).to.be.at.most(3);
  });
});
