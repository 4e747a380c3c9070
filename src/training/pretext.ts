import { scalar, type Engine } from '../engine/index.js';
import { initResnet, resnetTrainStep, type ResnetOptions } from '../models/index.js';
import { seededRandom, shuffled, type Random } from '../models/random.js';
import { augment, type Augmentation } from './augment.js';
import { startOrResume, trainEpochs, type EpochOutcome } from './epochs.js';
import type { TrainingHooks } from './hooks.js';
import { filmOfBatch } from './match-histogram.js';
import type { PreparedFilms } from './preprocess.js';
import { learningRateAt } from './schedule.js';

export interface PretextSettings {
  /** Channels of the ResNet-18's first stage. */
  readonly width: number;
  readonly epochs: number;
  readonly batchSize: number;
  /** At its peak; SGD with momentum 0.9. */
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
}

export interface PretextEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  /** For films with and without a foreign patch; 0.5 is guessing. */
  readonly accuracy: number;
  readonly seconds: number;
}

export interface PretextOutcome extends EpochOutcome<PretextEpoch> {
  readonly architecture: ResnetOptions;
}

/** Sides of a pasted patch, of the film's side. */
const PATCH = [1 / 8, 7 / 16] as const;
/** Width of a soft patch's edge, of the film's side. */
const EDGE = 1 / 32;
const PASTED = 2;

/**
 * Trains a ResNet-18 on normal films alone, to tell those with a patch of another film pasted in from those
 * without (CutPaste, Li et al. 2021; the patch is foreign, as in Tan et al. 2020, and has a hard or a soft
 * edge). Its output is not used: a memory of patches is made of the features that it learns for this.
 */
export async function trainPretext(
  engine: Engine,
  films: PreparedFilms,
  normals: Uint32Array,
  settings: PretextSettings,
  hooks: TrainingHooks<PretextEpoch>,
): Promise<PretextOutcome> {
  const { seed, epochs, batchSize, learningRate, width } = settings;
  const architecture: ResnetOptions = {
    ...{ depth: 18, width, inputSize: films.width, classes: PASTED },
    // Blocks that start as the identity learn slower, and there are few films.
    zeroInitGamma: false,
  };
  const steps = Math.floor(normals.length / batchSize);
  const step = resnetTrainStep(architecture, {
    batchSize,
    optimizer: { kind: 'sgd', nesterov: true, weightDecay: settings.weightDecay },
  });
  const identity = { ...settings, films: normals.length };
  const checkpoint = await startOrResume(hooks, identity, () =>
    step.initialState(initResnet(architecture, seed)),
  );
  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(step.bytes, { state, name: 'pretext training' });

  const outcome = await trainEpochs<PretextEpoch, 'loss' | 'correct'>(
    {
      ...{ state, identity, checkpoint, epochs, steps, batchSize },
      order: (epoch) => shuffled(normals.length, seededRandom(seed, epoch)),
      train: async ({ epoch, step: at, rows }) => {
        const chosen = Array.from(rows, (i) => normals[i] ?? 0);
        const { images, targets } = pretextBatch(films, chosen, settings.augmentation, (film) =>
          seededRandom(seed, epoch, film),
        );
        const { width: side } = films;
        const { loss, correct } = await session.step({
          images: { data: images, dims: [batchSize, side, side, 1] },
          targets: { data: targets, dims: [batchSize, PASTED] },
          sampleWeights: { data: new Float32Array(batchSize).fill(1), dims: [batchSize] },
          lr: scalar(learningRateAt((epoch - 1) * steps + at, learningRate, steps, epochs * steps)),
        });
        return { loss: Number(loss?.data[0]), correct: Number(correct?.data[0]) };
      },
      loss: ({ loss }) => loss,
      judge: ({ epoch, sums, seconds }) => ({
        epoch,
        loss: sums.loss / steps,
        accuracy: sums.correct / (steps * batchSize),
        seconds,
      }),
      weights: async () => step.parametersOf(await state.get()),
    },
    hooks,
  );
  await session.dispose();
  await state.dispose();
  return { architecture, ...outcome };
}

/** Films 0–1, each varied; every second one has a patch of the next one pasted in. Targets are one-hot. */
export function pretextBatch(
  films: PreparedFilms,
  chosen: readonly number[],
  augmentation: Augmentation,
  randomOf: (film: number) => Random,
): { images: Float32Array; targets: Float32Array } {
  const { width, height } = films;
  const area = width * height;
  const images = new Float32Array(chosen.length * area);
  const targets = new Float32Array(chosen.length * PASTED);
  const pixelsOf = (i: number): Float32Array => images.subarray(i * area, (i + 1) * area);
  const random = chosen.map((film, i) => {
    const own = randomOf(film);
    const source = filmOfBatch(films, film, chosen, augmentation, own);
    augment(source, width, height, augmentation, own, pixelsOf(i));
    return own;
  });
  random.forEach((own, i) => {
    const pasted = i % 2 === 1;
    targets[i * PASTED + (pasted ? 1 : 0)] = 1;
    // The source is even, so it is as the film was.
    if (pasted) pastePatch(pixelsOf(i - 1), pixelsOf(i), width, height, own);
  });
  return { images, targets };
}

/** Pastes a rectangle of `source` into `target`, from one place to another, half of the time with a soft edge. */
export function pastePatch(
  source: Float32Array,
  target: Float32Array,
  width: number,
  height: number,
  random: Random,
): void {
  const [least, most] = PATCH;
  const sideOf = (whole: number): number => Math.round(whole * (least + random() * (most - least)));
  const w = sideOf(width);
  const h = sideOf(height);
  const place = (whole: number, side: number): number => Math.floor(random() * (whole - side + 1));
  const [fromX, toX] = [place(width, w), place(width, w)];
  const [fromY, toY] = [place(height, h), place(height, h)];
  const edge = random() < 0.5 ? 0 : EDGE * width;
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const inside = Math.min(x + 1, y + 1, w - x, h - y);
      const weight = Math.min(1, inside / (edge + 1));
      const at = (toY + y) * width + toX + x;
      const own = target[at] ?? 0;
      target[at] = own + weight * ((source[(fromY + y) * width + fromX + x] ?? 0) - own);
    }
  }
}
