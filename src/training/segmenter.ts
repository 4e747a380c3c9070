import { diceOf } from '../models/dice.js';
import { scalar, type Engine, type HostTensors } from '../engine/index.js';
import {
  initUnet,
  unetEvalStep,
  unetTrainStep,
  type UnetOptions,
  type UnetUpsampling,
} from '../models/index.js';
import type { Augmentation } from './augment.js';
import { stepsPerEpoch, trainAveraged, type AveragedEpoch } from './averaged-training.js';
import { Batches } from './batches.js';
import { statisticsOf } from './classifier.js';
import type { TrainingHooks } from './hooks.js';
import type { InitialWeights } from './initial-weights.js';
import { binary } from './masks.js';
import { filmAt, imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';
import { scheduled, type Schedule } from './schedule.js';

export interface SegmenterSettings {
  /** Channels at full resolution. */
  readonly width: number;
  readonly poolings: number;
  readonly batchNorm: boolean;
  readonly upsampling: UnetUpsampling;
  readonly epochs: number;
  readonly batchSize: number;
  /** Adam's, at the peak of the schedule. */
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  /** Share of the Dice loss; the rest is cross-entropy. */
  readonly diceShare: number;
  readonly patience: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
}

export interface SegmenterData {
  /** Grey and square. */
  readonly films: PreparedFilms;
  /** One for each film, as large as it, 8 bit: from half of the range on it is the structure. */
  readonly masks: PreparedFilms;
  /** Indices into both. */
  readonly train: Uint32Array;
  readonly val: Uint32Array;
}

export interface SegmenterEpoch extends AveragedEpoch {
  readonly learningRate: number;
  /** Soft Dice of the training films as varied. */
  readonly dice: number;
  /** Mean Dice of the validation films at a threshold of a half. */
  readonly valDice: number;
}

export interface SegmenterOutcome {
  readonly architecture: UnetOptions;
  /** Averaged weights of the best epoch. */
  readonly parameters: HostTensors;
  readonly bestEpoch: number;
  readonly history: readonly SegmenterEpoch[];
  readonly interrupted: boolean;
}

/** Probabilities → a mask, 0 or 255. */
export function maskOf(probabilities: Float32Array): Uint8Array {
  return Uint8Array.from(probabilities, (p) => (p > 0.5 ? 255 : 0));
}

/** What the network is made like; its statistics are those of the training films. */
export function architectureOf(
  settings: Pick<SegmenterSettings, 'width' | 'poolings' | 'batchNorm' | 'upsampling'>,
  inputSize: number,
): UnetOptions {
  const { width, poolings, batchNorm, upsampling } = settings;
  return { width, poolings, batchNorm, upsampling, inputSize };
}

/** Trains a U-Net and returns its averaged weights of the epoch with the best mean Dice on the validation films. */
export async function trainSegmenter(
  engine: Engine,
  { films, masks, train, val }: SegmenterData,
  settings: SegmenterSettings,
  hooks: TrainingHooks<SegmenterEpoch>,
  start?: InitialWeights,
): Promise<SegmenterOutcome> {
  const { seed, epochs, augmentation } = settings;
  const side = films.width;
  const batchSize = Math.min(settings.batchSize, train.length);
  const steps = stepsPerEpoch(train.length, batchSize);
  const dims = [batchSize, side, side, 1];
  const architecture: UnetOptions = {
    ...architectureOf(settings, side),
    ...(start?.statistics ?? statisticsOf(films, train)),
  };
  const trainStep = unetTrainStep(architecture, {
    batchSize,
    diceShare: settings.diceShare,
    optimizer: { kind: 'adam', weightDecay: settings.weightDecay },
  });
  const evaluated = engine.createState();
  const evaluation = await engine.load(unetEvalStep(architecture).bytes, {
    state: evaluated,
    name: 'unet validation',
  });
  const rateAt = scheduled(settings, steps);

  async function meanDice(parameters: HostTensors): Promise<number> {
    await evaluated.set(parameters);
    let sum = 0;
    for (let from = 0; from < val.length; from += batchSize) {
      const part = val.subarray(from, from + batchSize);
      const out = await evaluation.step({ images: imagesOf(films, part, unscaledInput(films)) });
      const probabilities = out.probabilities?.data as Float32Array;
      part.forEach((film, i) => {
        const found = probabilities.subarray(i * side * side, (i + 1) * side * side);
        sum += diceOf(maskOf(found), binary(filmAt(masks, film)));
      });
    }
    return sum / val.length;
  }

  const outcome = await trainAveraged<SegmenterEpoch, 'dice'>(
    engine,
    {
      name: 'unet',
      trainStep,
      initial: start?.parameters ?? initUnet(architecture, seed),
      identity: { ...settings, films: train.length, size: side, init: start?.from },
      seed,
      epochs,
      batchSize,
      patience: settings.patience,
      films: train,
      batches: new Batches({ films, masks, augmentation, mixUp: 0, seed }),
      reports: ['loss', 'dice'],
      feeds: (batch, _rows, epoch, step) => ({
        images: { data: batch.images, dims },
        masks: { data: batch.masks, dims },
        lr: scalar(rateAt(epoch, step)),
      }),
      judge: async (parameters, { epoch, sums, idle, seconds }) => ({
        epoch,
        learningRate: rateAt(epoch, steps - 1),
        loss: sums.loss / steps,
        dice: sums.dice / steps,
        valDice: await meanDice(parameters),
        idle,
        seconds,
      }),
      scoreOf: (row) => row.valDice,
    },
    hooks,
  );
  await evaluation.dispose();
  await evaluated.dispose();
  return { architecture, ...outcome };
}
