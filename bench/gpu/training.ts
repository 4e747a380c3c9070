import { Engine, scalar, type HostTensors } from '../../src/engine/index.js';
import {
  dcganDiscriminatorStep,
  dcganGeneratorStep,
  filled,
  initDcgan,
  initResnet,
  initUnet,
  normalNoise,
  resnetTrainStep,
  seededRandom,
  unetTrainStep,
  type TrainStep,
} from '../../src/models/index.js';
import type { Section } from './row.js';

const BATCH = 4;
/** Largest difference of a loss, relative. */
const TOLERANCE = 1e-3;

/** One training step of each network on the device and on the CPU: the losses of two steps, from the same parameters and data. */
export const trainingSteps: Section = async function* ({ device }) {
  const random = seededRandom(1);
  const images = (size: number): HostTensors[string] =>
    normalNoise([BATCH, size, size, 1], random, { mean: 0.5, std: 0.25 });
  const lr = scalar(1e-3);
  const resnet = { depth: 18, width: 16, inputSize: 64, classes: 2 } as const;
  const unet = { width: 8, poolings: 3, inputSize: 64 } as const;
  const dcgan = { width: 16 };
  const z = normalNoise([BATCH, 100], random);
  const masks = {
    data: Float32Array.from({ length: BATCH * 64 * 64 }, (_, i) => i % 2),
    dims: [BATCH, 64, 64, 1],
  };
  const targets = {
    data: Float32Array.from({ length: BATCH * 2 }, (_, i) => (i + (i >> 1)) % 2),
    dims: [BATCH, 2],
  };
  const works: readonly [name: string, step: TrainStep, parameters: HostTensors, feeds: HostTensors][] = [
    [
      'ResNet-18',
      resnetTrainStep(resnet, {
        batchSize: BATCH,
        optimizer: { kind: 'sgd', momentum: 0.9, weightDecay: 1e-4 },
      }),
      initResnet(resnet, 1),
      { images: images(64), targets, sampleWeights: filled([BATCH], 1), lr },
    ],
    [
      'U-Net',
      unetTrainStep(unet, { batchSize: BATCH, optimizer: { kind: 'adam' } }),
      initUnet(unet, 1),
      { images: images(64), masks, lr },
    ],
    [
      'DCGAN discriminator',
      dcganDiscriminatorStep(dcgan, { batchSize: BATCH }),
      initDcgan(dcgan, 1),
      { z, lr, images: images(64) },
    ],
    ['DCGAN generator', dcganGeneratorStep(dcgan, { batchSize: BATCH }), initDcgan(dcgan, 1), { z, lr }],
  ];
  for (const [name, step, parameters, feeds] of works) {
    const losses = async (where: typeof device): Promise<{ losses: number[]; device: string }> => {
      const messages: string[] = [];
      const log = { info: () => undefined, warn: (message: string) => messages.push(message) };
      const engine = new Engine({ log });
      try {
        const state = engine.createState();
        await state.set(step.initialState(parameters));
        const session = await engine.load(step.bytes, { name, device: where, state });
        const taken: number[] = [];
        for (let i = 0; i < 2; i++) {
          const reports = await session.step(feeds);
          taken.push(
            ...Object.values(reports).flatMap(({ data }) => (data.length === 1 ? [Number(data[0])] : [])),
          );
        }
        return { losses: taken, device: messages.join(' ') || where };
      } finally {
        await engine.dispose();
      }
    };
    const expected = await losses('cpu');
    const given = await losses(device);
    const worst = Math.max(
      ...expected.losses.map(
        (loss, i) => Math.abs(loss - (given.losses[i] ?? NaN)) / Math.max(1, Math.abs(loss)),
      ),
    );
    yield {
      what: `two training steps: ${name}`,
      ours: worst.toExponential(1),
      goal: `≤ ${String(TOLERANCE)} relative`,
      ok: worst <= TOLERANCE && given.device === device,
      detail: given.device.slice(0, 300),
    };
  }
};
