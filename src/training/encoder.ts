import { createHash } from 'node:crypto';
import { float32Of, scalar, type Engine, type HostTensor, type HostTensors } from '../engine/index.js';
import { initEncoder, iziTrainStep, type DcganOptions } from '../models/index.js';
import { seededRandom, shuffled } from '../models/random.js';
import type { Augmentation } from './augment.js';
import { augmentedBatch } from './augmented-batch.js';
import { loadCheckpoint, type Checkpoint } from './checkpoint.js';
import { trainEpochs, type EpochProgress } from './epochs.js';
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

export interface EncoderOutcome {
  /** The generator's, the discriminator's and the encoder's. */
  readonly parameters: HostTensors;
  readonly history: readonly EncoderEpoch[];
  readonly interrupted: boolean;
}

/** Seeds of different purposes must not meet. */
const ENCODER = 0x656e63;
const WARMUP_STEPS = 50;

/**
 * Trains the encoder of f-AnoGAN (izi_f: Schlegl et al. 2019) on normal films, in front of a generator and a
 * discriminator that stay as they are. The weights of the end count: nothing is chosen by abnormal films.
 */
export async function trainEncoder(
  engine: Engine,
  films: PreparedFilms,
  normals: Uint32Array,
  architecture: DcganOptions,
  gan: HostTensors,
  settings: EncoderSettings,
  hooks: TrainingHooks<EncoderEpoch>,
): Promise<EncoderOutcome> {
  const { seed, epochs, batchSize, learningRate, kappa } = settings;
  const steps = Math.floor(normals.length / batchSize);
  const step = iziTrainStep(architecture, { batchSize, kappa });
  const identity = { ...settings, films: normals.length, generator: fingerprintOf(gan) };

  const begin = (): Checkpoint<EpochProgress<EncoderEpoch>> => {
    const parameters = { ...gan, ...initEncoder(architecture, seed) };
    return { groups: { state: step.initialState(parameters) }, progress: { epoch: 1, history: [] } };
  };
  // The generator may have been resumed before there was an encoder, or may be another one by now.
  const checkpoint =
    hooks.resume === true
      ? await loadCheckpoint<EpochProgress<EncoderEpoch>>(hooks.checkpointDir, identity).catch(begin)
      : begin();
  const { progress } = checkpoint;
  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(step.bytes, { state, name: 'encoder training' });

  const batchAt = (epoch: number, at: number, order: Uint32Array): HostTensor =>
    augmentedBatch(
      films,
      Array.from(order.subarray(at * batchSize, (at + 1) * batchSize), (i) => normals[i] ?? 0),
      settings.augmentation,
      (film) => seededRandom(seed, ENCODER, epoch, film),
    );

  await trainEpochs(
    {
      ...{ session, state, identity, progress, epochs, steps },
      reports: ['imageResidual', 'featureResidual'],
      order: (epoch) => shuffled(normals.length, seededRandom(seed, ENCODER, epoch)),
      feeds: (epoch, at, order) => ({
        images: batchAt(epoch, at, order),
        lr: scalar(learningRateAt((epoch - 1) * steps + at, learningRate, WARMUP_STEPS, epochs * steps)),
      }),
      loss: ({ imageResidual, featureResidual }) => imageResidual + kappa * featureResidual,
      row: ({ imageResidual, featureResidual }, epoch, seconds) => ({
        epoch,
        imageResidual: imageResidual / steps,
        featureResidual: featureResidual / steps,
        seconds,
      }),
    },
    hooks,
  );
  const parameters = step.parametersOf(await state.get());
  await session.dispose();
  await state.dispose();
  return { parameters, history: progress.history, interrupted: hooks.signal?.aborted === true };
}

/** Tells one trained generator from another. */
function fingerprintOf(gan: HostTensors): string {
  const hash = createHash('sha256');
  for (const name of Object.keys(gan).sort()) {
    const { buffer, byteOffset, byteLength } = float32Of(gan, name);
    hash.update(name).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
