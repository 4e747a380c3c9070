import { createHash } from 'node:crypto';
import { float32Of, scalar, type Engine, type HostTensors } from '../engine/index.js';
import { initEncoder, iziTrainStep, type DcganOptions } from '../models/index.js';
import { seededRandom, shuffled } from '../models/random.js';
import type { Augmentation } from './augment.js';
import { augmentedBatch } from './augmented-batch.js';
import { startOrResume, trainEpochs, type EpochOutcome } from './epochs.js';
import type { TrainingHooks } from './hooks.js';
import type { PreparedFilms } from './preprocess.js';
import { learningRateAt } from './schedule.js';

export interface EncoderSettings {
  readonly epochs: number;
  readonly batchSize: number;
  /** Adam's at its peak; it falls to zero along half a cosine. */
  readonly learningRate: number;
  /** κ: weight of the feature residual in the loss. */
  readonly kappa: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
}

export interface EncoderEpoch {
  /** From 1. */
  readonly epoch: number;
  /** Means over the epoch's films: of (x − G(E(x)))², and of the same between the discriminator's features. */
  readonly imageResidual: number;
  readonly featureResidual: number;
  readonly seconds: number;
}

/** A distinct number, so that seeds of different purposes differ. */
const ENCODER = 0x656e63;
const WARMUP_STEPS = 50;

/**
 * Trains the encoder of f-AnoGAN (izi_f: Schlegl et al. 2019) on normal films, in front of a generator and a
 * discriminator that stay as they are. Returns the weights of the generator, the discriminator and the encoder after the
 * last epoch: abnormal films choose nothing.
 */
export async function trainEncoder(
  engine: Engine,
  films: PreparedFilms,
  normals: Uint32Array,
  architecture: DcganOptions,
  gan: HostTensors,
  settings: EncoderSettings,
  hooks: TrainingHooks<EncoderEpoch>,
): Promise<EpochOutcome<EncoderEpoch>> {
  const { seed, epochs, batchSize, learningRate, kappa } = settings;
  const steps = Math.floor(normals.length / batchSize);
  const step = iziTrainStep(architecture, { batchSize, kappa });
  const identity = { ...settings, films: normals.length, generator: fingerprintOf(gan) };

  const initial = (): HostTensors => step.initialState({ ...gan, ...initEncoder(architecture, seed) });
  // When the generator is resumed, there may be no checkpoint of an encoder, or one for another generator.
  const checkpoint = await startOrResume(hooks, identity, initial).catch(() =>
    startOrResume({ ...hooks, resume: false }, identity, initial),
  );
  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(step.bytes, { state, name: 'encoder training' });

  const outcome = await trainEpochs<EncoderEpoch, 'imageResidual' | 'featureResidual'>(
    {
      ...{ state, identity, checkpoint, epochs, steps, batchSize },
      order: (epoch) => shuffled(normals.length, seededRandom(seed, ENCODER, epoch)),
      train: async ({ epoch, step: at, rows }) => {
        const images = augmentedBatch(
          films,
          Array.from(rows, (i) => normals[i] ?? 0),
          settings.augmentation,
          (film) => seededRandom(seed, ENCODER, epoch, film),
        );
        const lr = learningRateAt((epoch - 1) * steps + at, learningRate, WARMUP_STEPS, epochs * steps);
        const { imageResidual, featureResidual } = await session.step({ images, lr: scalar(lr) });
        return {
          imageResidual: Number(imageResidual?.data[0]),
          featureResidual: Number(featureResidual?.data[0]),
        };
      },
      loss: ({ imageResidual, featureResidual }) => imageResidual + kappa * featureResidual,
      judge: ({ epoch, sums, seconds }) => ({
        epoch,
        imageResidual: sums.imageResidual / steps,
        featureResidual: sums.featureResidual / steps,
        seconds,
      }),
      weights: async () => step.parametersOf(await state.get()),
    },
    hooks,
  );
  await session.dispose();
  await state.dispose();
  return outcome;
}

/** Identifies a trained generator. */
function fingerprintOf(gan: HostTensors): string {
  const hash = createHash('sha256');
  for (const name of Object.keys(gan).sort()) {
    const { buffer, byteOffset, byteLength } = float32Of(gan, name);
    hash.update(name).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
