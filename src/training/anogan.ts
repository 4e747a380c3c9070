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
import { copyOf } from './average.js';
import type { EncoderSettings } from './encoder.js';
import { startOrResume, trainEpochs, type EpochOutcome } from './epochs.js';
import type { FilmScoring, TrainingHooks } from './hooks.js';
import type { Interval } from '../models/wilson.js';
import { auroc, aurocInterval } from './metrics.js';
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
  /** The discriminator's label of real films: 0.9 is one-sided label smoothing (Salimans et al. 2016). */
  readonly realLabel: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
  /** How the reference films and the validation films are scored. */
  readonly search: Omit<SearchSettings, 'method'>;
  /** Steps from the encoder's start, for the method `refine`. */
  readonly refineSteps: number;
  /**
   * The latent space is turned into the principal axes of the generator's first layer, unless false. A search along
   * them is several times as fast, but a short one may separate films less well.
   */
  readonly principalAxes?: boolean;
  /** λ of the methods `encoder` and `refine`. */
  readonly encoderLambda: number;
  /** The encoder that is trained in front of the finished generator; without it there is the search alone. */
  readonly encoder?: EncoderSettings;
  /** Interval of quick validations in epochs; the best epoch becomes the bundle. */
  readonly evaluateEvery: number;
  /** Stops at a quick validation this many epochs after the best one. Default 60. */
  readonly patience?: number;
}

export interface AnoganEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly discriminatorLoss: number;
  readonly generatorLoss: number;
  /** Mean outputs of the discriminator for real and for generated films: probabilities, or a critic's scores. */
  readonly real: number;
  readonly fake: number;
  /** Of a quick search on some validation films; null in most epochs, and without abnormal films in all. */
  readonly auroc: number | null;
  readonly seconds: number;
}

export interface AnoganOutcome extends EpochOutcome<AnoganEpoch> {
  readonly architecture: DcganOptions;
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
/** Distinct numbers, so that seeds of different purposes differ. */
const NOISE = 0x6e6f;
const MIX = 0x6d69;
/** Steps of the critic for one of the generator, and the weight of its penalty, as in the paper. */
const CRITIC_STEPS = 5;
const GRADIENT_PENALTY = 10;

/**
 * Trains a DCGAN (Radford et al. 2016) on normal films and returns the weights (the generator's averaged) of the epoch
 * that separated normal and abnormal validation films best; of the last epoch if one of these two kinds is missing.
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
  // Neither the search nor the encoder affects these weights: a finished training can be resumed with other ones.
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

  const checkpoint = await startOrResume(hooks, identity, () => ({
    ...discriminator.initialState(initial),
    ...generator.initialState(initial),
  }));
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

  /** The networks with the generator's averaged weights. */
  async function networks(average: HostTensors): Promise<HostTensors> {
    const now = await state.get();
    return { ...discriminator.parametersOf(now), ...generator.parametersOf(now), ...copyOf(average) };
  }

  /** Of a quick search on some of the validation films. */
  async function quickAuroc(average: HostTensors): Promise<number> {
    const search = { ...settings.search, steps: Math.min(settings.search.steps, QUICK_STEPS) };
    const scores = await scoreFilms(
      engine,
      architecture,
      await networks(average),
      films,
      quick.index,
      search,
    );
    return auroc(
      scores.map((score) => score.anomalyScore),
      quick.abnormal,
    );
  }

  const lr = scalar(settings.learningRate);
  const outcome = await trainEpochs<AnoganEpoch, 'discriminatorLoss' | 'generatorLoss' | 'real' | 'fake'>(
    {
      ...{ state, identity, checkpoint, epochs, steps, batchSize, patience },
      averaging: { every: STEPS_PER_AVERAGE, decay: AVERAGE_DECAY, weights: () => state.get(averaged) },
      order: (epoch) => shuffled(normals.length, seededRandom(seed, epoch)),
      train: async ({ epoch, step, rows }) => {
        const images = augmentedBatch(
          films,
          Array.from(rows, (at) => normals[at] ?? 0),
          settings.augmentation,
          (film) => seededRandom(seed, epoch, film),
        );
        const stepOfD = D.step({ images, z: noise(epoch, step, 0), lr, ...mixOf(epoch, step) });
        let generatorLoss = 0;
        if ((step + 1) % generatorEvery === 0) {
          const { loss } = await G.step({ z: noise(epoch, step, 1), lr });
          generatorLoss = generatorEvery * Number(loss?.data[0]);
        }
        const d = await stepOfD;
        return {
          discriminatorLoss: Number(d.loss?.data[0]),
          generatorLoss,
          real: Number(d[says.real]?.data[0]),
          fake: Number(d[says.fake]?.data[0]),
        };
      },
      loss: ({ generatorLoss }) => generatorLoss,
      judge: async ({ epoch, sums, seconds, average }) => ({
        epoch,
        discriminatorLoss: sums.discriminatorLoss / steps,
        generatorLoss: sums.generatorLoss / steps,
        real: sums.real / steps,
        fake: sums.fake / steps,
        auroc:
          comparable && (epoch % settings.evaluateEvery === 0 || epoch === epochs)
            ? await quickAuroc(average)
            : null,
        seconds,
      }),
      scoreOf: (row) => row.auroc,
      weights: networks,
    },
    hooks,
  );
  await D.dispose();
  await G.dispose();
  await state.dispose();
  return { architecture, ...outcome };
}

interface Gan {
  readonly architecture: DcganOptions;
  readonly discriminator: TrainStep;
  readonly generator: TrainStep;
  /** Steps of the discriminator for one of the generator. */
  readonly generatorEvery: number;
  /** Names of the discriminator's outputs for real and for generated films. */
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
    // The start of a search depends on the pixels' hash: only an identical tensor gives the score of serving.
    const images = imagesOf(films, index.subarray(from, from + AT_ONCE), ANOGAN_INPUT);
    scores.push(...(await scoreAnomalies(networks, images, architecture.zDim ?? 100, settings)));
    onProgress?.(scores.length, index.length);
  }
  await networks.dispose();
  return scores;
}

/** The figures of card and bundle: normal against abnormal over the validation films, if there are both. */
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
