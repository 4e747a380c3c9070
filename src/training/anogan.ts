import { scalar, type Engine, type HostTensor, type HostTensors } from '../engine/index.js';
import {
  onnxNetworks,
  scoreAnomalies,
  type AnomalyScore,
  type SearchSettings,
} from '../models/anomaly-scorer.js';
import type { Bundle } from '../models/bundle.js';
import {
  dcganDiscriminatorStep,
  dcganGeneratorStep,
  exportAnogan,
  exportEncoder,
  hasEncoder,
  initDcgan,
  normalNoise,
  wganCriticStep,
  wganGeneratorStep,
  type DcganOptions,
  type TrainStep,
} from '../models/index.js';
import type { Augmentation } from './augment.js';
import { augmentedBatch } from './augmented-batch.js';
import { averageInto, copyOf } from './average.js';
import { loadCheckpoint, saveCheckpoint, type Checkpoint } from './checkpoint.js';
import type { EncoderSettings } from './encoder.js';
import { isStopped, type FilmScoring, type TrainingHooks } from './hooks.js';
import { auroc, aurocInterval, type Interval } from './metrics.js';
import type { NormalFilms } from './normals.js';
import { imagesOf, type PreparedFilms } from './preprocess.js';
import { seededRandom, shuffled } from '../models/random.js';

export interface AnoganSettings {
  /** Channels of the finest layer; 64 is the standard network, 32 costs a quarter. */
  readonly width: number;
  readonly epochs: number;
  readonly batchSize: number;
  /**
   * `dcgan` unless given. `wgan-gp` (Gulrajani et al. 2017) has a critic with a gradient penalty in place of the
   * discriminator, and trains the generator in every fifth step only: steadier, and slower.
   */
  readonly gan?: 'dcgan' | 'wgan-gp';
  /** Adam's, of both networks; its beta1 is 0.5 (Radford et al. 2016). */
  readonly learningRate: number;
  /** What the discriminator is told of real films: 0.9 is one-sided label smoothing (Salimans et al. 2016). */
  readonly realLabel: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
  /** How the reference films and the validation films are scored. */
  readonly search: Omit<SearchSettings, 'method'>;
  /** Steps from the encoder's start, for the method `refine`. */
  readonly refineSteps: number;
  /**
   * The latent space is turned into the principal axes of the generator's first layer, unless false. A search along them is
   * several times as fast, but a short one may tell films apart less well.
   */
  readonly principalAxes?: boolean;
  /** λ of the methods `encoder` and `refine`. */
  readonly encoderLambda: number;
  /** The encoder that is trained in front of the finished generator; without it there is the search alone. */
  readonly encoder?: EncoderSettings;
  /** A quick validation after so many epochs; the best of them becomes the bundle. */
  readonly evaluateEvery: number;
  /** Stops at the quick validation that is so many epochs after the best one. Default 60. */
  readonly patience?: number;
}

export interface AnoganEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly discriminatorLoss: number;
  readonly generatorLoss: number;
  /** Means of what the discriminator says of real and of generated films: probabilities, or a critic's scores. */
  readonly real: number;
  readonly fake: number;
  /** Of a quick search on some validation films; null in most epochs, and without abnormal films in all. */
  readonly auroc: number | null;
  readonly seconds: number;
}

export interface AnoganOutcome {
  readonly architecture: DcganOptions;
  readonly parameters: HostTensors;
  /** 0: no validation chose one, the weights are those of the end. */
  readonly bestEpoch: number;
  readonly history: readonly AnoganEpoch[];
  readonly interrupted: boolean;
}

interface Sums {
  discriminatorLoss: number;
  generatorLoss: number;
  real: number;
  fake: number;
}

interface Progress {
  epoch: number;
  step: number;
  sums: Sums;
  secondsBefore: number;
  updates: number;
  bestEpoch: number;
  history: AnoganEpoch[];
}

/** The networks see 64×64 grey pixels as −1 … 1. */
export const ANOGAN_INPUT: Bundle['input'] = {
  width: 64,
  height: 64,
  channels: 1,
  layout: 'NHWC',
  mean: [0.5],
  std: [0.5],
};

const STEPS_PER_AVERAGE = 4;
const AVERAGE_DECAY = 0.98;
const QUICK_FILMS = 280;
const QUICK_STEPS = 20;
/** Seeds of different purposes must not meet. */
const NOISE = 0x6e6f;
const MIX = 0x6d69;
/** Steps of the critic for one of the generator, and the weight of its penalty, as in the paper. */
const CRITIC_STEPS = 5;
const GRADIENT_PENALTY = 10;

/**
 * Trains a DCGAN (Radford et al. 2016) on normal films and returns the weights (the generator's averaged)
 * of the epoch that told normal from abnormal validation films best; of the last epoch where one of these
 * two kinds is missing.
 */
export async function trainAnogan(
  engine: Engine,
  data: NormalFilms,
  settings: AnoganSettings,
  hooks: TrainingHooks<AnoganEpoch>,
): Promise<AnoganOutcome> {
  const { films, normals } = data;
  const { seed, epochs, batchSize, patience = 60 } = settings;
  const steps = Math.floor(normals.length / batchSize);
  const zDim = 100;
  const { architecture, discriminator, generator, generatorEvery, says } = ganOf(settings, zDim);
  // Neither the search nor the encoder changes these weights: a finished training may go on from there.
  const {
    search: _search,
    refineSteps: _steps,
    principalAxes: _axes,
    encoderLambda: _lambda,
    encoder: _encoder,
    ...trained
  } = settings;
  const identity = { ...trained, films: normals.length };

  const initial = initDcgan(architecture, seed);
  const averaged = Object.keys(initial).filter((name) => name.startsWith('generator/'));

  let checkpoint: Checkpoint<Progress>;
  if (hooks.resume === true) {
    checkpoint = await loadCheckpoint(hooks.checkpointDir, identity);
  } else {
    const state = { ...discriminator.initialState(initial), ...generator.initialState(initial) };
    checkpoint = { groups: { state }, progress: start() };
  }
  const { progress } = checkpoint;
  const average = checkpoint.groups.average ?? {};
  let best = checkpoint.groups.best ?? {};
  const quick = someOf(data.val, seed);
  const comparable = new Set(quick.abnormal).size === 2;

  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const D = await engine.load(discriminator.bytes, { state, name: 'discriminator training' });
  const G = await engine.load(generator.bytes, { state, name: 'generator training' });

  const noise = (epoch: number, step: number, which: number): HostTensor =>
    normalNoise([batchSize, zDim], seededRandom(seed, NOISE, epoch, step, which));

  const mixOf = (epoch: number, step: number): HostTensors => {
    if (settings.gan !== 'wgan-gp') return {};
    const random = seededRandom(seed, MIX, epoch, step);
    return { mix: { data: Float32Array.from({ length: batchSize }, random), dims: [batchSize] } };
  };

  const batchAt = (epoch: number, step: number, order: Uint32Array): HostTensor =>
    augmentedBatch(
      films,
      Array.from(order.subarray(step * batchSize, (step + 1) * batchSize), (at) => normals[at] ?? 0),
      settings.augmentation,
      (film) => seededRandom(seed, epoch, film),
    );

  /** The networks as they would ship now. */
  async function current(): Promise<HostTensors> {
    const now = await state.get();
    const networks = { ...discriminator.parametersOf(now), ...generator.parametersOf(now) };
    return { ...networks, ...copyOf(average) };
  }

  const save = async (): Promise<void> => {
    const groups = { state: await state.get(), average, best };
    await saveCheckpoint(hooks.checkpointDir, identity, { groups, progress });
  };

  const lr = scalar(settings.learningRate);
  while (progress.epoch <= epochs && !isStopped(hooks)) {
    const { epoch, sums, bestEpoch, history } = progress;
    const validated = typeof history.at(-1)?.auroc === 'number';
    if (progress.step === 0 && validated && epoch - 1 - bestEpoch >= patience) break;
    const began = performance.now() - progress.secondsBefore * 1000;
    const order = shuffled(normals.length, seededRandom(seed, epoch));
    while (progress.step < steps && !isStopped(hooks)) {
      const { step } = progress;
      const images = batchAt(epoch, step, order);
      const stepOfD = D.step({ images, z: noise(epoch, step, 0), lr, ...mixOf(epoch, step) });
      if ((step + 1) % generatorEvery === 0) {
        const { loss } = await G.step({ z: noise(epoch, step, 1), lr });
        sums.generatorLoss += generatorEvery * Number(loss?.data[0]);
      }
      const d = await stepOfD;
      sums.discriminatorLoss += Number(d.loss?.data[0]);
      sums.real += Number(d[says.real]?.data[0]);
      sums.fake += Number(d[says.fake]?.data[0]);
      progress.step++;
      if (progress.step % STEPS_PER_AVERAGE === 0 || progress.step === steps) {
        averageInto(average, await state.get(averaged), AVERAGE_DECAY, progress.updates++);
      }
      hooks.onStep?.(progress.step, steps, epoch, sums.generatorLoss / progress.step);
    }
    progress.secondsBefore = (performance.now() - began) / 1000;
    if (progress.step < steps) break;

    let found: number | null = null;
    if (comparable && (epoch % settings.evaluateEvery === 0 || epoch === epochs)) {
      const networks = await current();
      const search = { ...settings.search, steps: Math.min(settings.search.steps, QUICK_STEPS) };
      const scores = await scoreFilms(engine, architecture, networks, films, quick.index, search);
      found = auroc(
        scores.map((score) => score.anomalyScore),
        quick.abnormal,
      );
      if (found > Math.max(-1, ...progress.history.map((old) => old.auroc ?? -1))) {
        progress.bestEpoch = epoch;
        best = networks;
      }
    }
    const row: AnoganEpoch = {
      epoch,
      discriminatorLoss: sums.discriminatorLoss / steps,
      generatorLoss: sums.generatorLoss / steps,
      real: sums.real / steps,
      fake: sums.fake / steps,
      auroc: found,
      seconds: progress.secondsBefore,
    };
    progress.history.push(row);
    Object.assign(progress, { epoch: epoch + 1, step: 0, sums: noSums(), secondsBefore: 0 });
    await save();
    hooks.onEpoch?.(row, progress.bestEpoch === epoch);
  }

  if (progress.step > 0) await save();
  const outcome: AnoganOutcome = {
    architecture,
    parameters: progress.bestEpoch > 0 ? best : await current(),
    bestEpoch: progress.bestEpoch,
    history: progress.history,
    interrupted: hooks.signal?.aborted === true,
  };
  await D.dispose();
  await G.dispose();
  await state.dispose();
  return outcome;
}

interface Gan {
  readonly architecture: DcganOptions;
  readonly discriminator: TrainStep;
  readonly generator: TrainStep;
  /** Steps of the discriminator for one of the generator. */
  readonly generatorEvery: number;
  /** The discriminator's outputs with its opinion of real and of generated films. */
  readonly says: { readonly real: string; readonly fake: string };
}

function ganOf({ gan, width, batchSize, realLabel }: AnoganSettings, zDim: number): Gan {
  if (gan === 'wgan-gp') {
    const architecture: DcganOptions = { width, zDim, critic: true };
    const training = { batchSize, penalty: GRADIENT_PENALTY };
    return {
      architecture,
      discriminator: wganCriticStep(architecture, training),
      generator: wganGeneratorStep(architecture, training),
      generatorEvery: CRITIC_STEPS,
      says: { real: 'realScore', fake: 'fakeScore' },
    };
  }
  const architecture: DcganOptions = { width, zDim };
  return {
    architecture,
    discriminator: dcganDiscriminatorStep(architecture, { batchSize, realLabel }),
    generator: dcganGeneratorStep(architecture, { batchSize }),
    generatorEvery: 1,
    says: { real: 'realProbability', fake: 'fakeProbability' },
  };
}

/** Scores films with the exported networks, as serving does. */
export async function scoreFilms(
  engine: Engine,
  architecture: DcganOptions,
  parameters: HostTensors,
  films: PreparedFilms,
  index: Uint32Array,
  settings: SearchSettings,
  { half = false, onProgress }: FilmScoring = {},
): Promise<AnomalyScore[]> {
  const exported = exportAnogan(parameters, architecture, { half });
  const encoder = hasEncoder(parameters) ? exportEncoder(parameters, architecture, { half }) : undefined;
  const networks = onnxNetworks(
    await engine.load(exported.features, { name: 'features' }),
    await engine.load(exported.search, { name: 'latent search' }),
    encoder && (await engine.load(encoder, { name: 'encoder' })),
  );
  const scores: AnomalyScore[] = [];
  const AT_ONCE = 32;
  for (let from = 0; from < index.length; from += AT_ONCE) {
    // A search starts where the pixels' hash says: only the very same tensor gives the score of serving.
    const images = imagesOf(films, index.subarray(from, from + AT_ONCE), ANOGAN_INPUT);
    scores.push(...(await scoreAnomalies(networks, images, architecture.zDim ?? 100, settings)));
    onProgress?.(scores.length, index.length);
  }
  await networks.dispose();
  return scores;
}

/** What the card and the bundle say: normal against abnormal over the validation films, where there are both. */
export function anoganMetrics(
  scores: readonly AnomalyScore[],
  abnormal: readonly boolean[],
): Record<string, unknown> {
  const by = (figure: 'anomalyScore' | 'residualLoss' | 'discriminationLoss'): Interval | null =>
    aurocInterval(
      scores.map((score) => score[figure]),
      abnormal,
    );
  const aurocs = {
    auroc: by('anomalyScore'),
    aurocOfResidualLoss: by('residualLoss'),
    aurocOfDiscriminationLoss: by('discriminationLoss'),
  };
  return aurocs.auroc === null ? {} : aurocs;
}

/** As many normal as abnormal films, drawn by the seed. */
function someOf({ index, abnormal }: NormalFilms['val'], seed: number): NormalFilms['val'] {
  const order = Array.from(shuffled(index.length, seededRandom(seed)));
  const of = (wanted: boolean): number[] =>
    order.filter((i) => abnormal[i] === wanted).slice(0, QUICK_FILMS / 2);
  const chosen = [...of(false), ...of(true)];
  return {
    index: Uint32Array.from(chosen, (i) => index[i] ?? 0),
    abnormal: chosen.map((i) => abnormal[i] ?? false),
  };
}

function noSums(): Sums {
  return { discriminatorLoss: 0, generatorLoss: 0, real: 0, fake: 0 };
}

function start(): Progress {
  return { epoch: 1, step: 0, sums: noSums(), secondsBefore: 0, updates: 0, bestEpoch: 0, history: [] };
}
