import { scalar, type Engine, type HostTensors } from '../engine/index.js';
import { fullScale } from '../imaging/image.js';
import {
  DENSE_HEAD_UNITS,
  dropoutMask,
  hasDenseLayer,
  initResnet,
  resnetEvalStep,
  resnetTrainStep,
  type ResnetHead,
  type ResnetOptions,
} from '../models/index.js';
import { mix, mixShares, type Augmentation } from './augment.js';
import { stepsPerEpoch, trainAveraged, type AveragedEpoch } from './averaged-training.js';
import { Batches } from './batches.js';
import type { TrainingHooks } from './hooks.js';
import type { InitialWeights } from './initial-weights.js';
import { aurocInterval, balancedAccuracy, confusionMatrix, recalls } from './metrics.js';
import { suiteOfEpoch, suiteScore, type ShiftedFilms } from './select-shifts.js';
import type { ShiftSuite } from './evaluation/shifts.js';
import { predict } from './predict.js';
import { filmAt, type PreparedFilms } from './preprocess.js';
import { seededRandom } from '../models/random.js';
import { scheduled, type Schedule } from './schedule.js';

export interface ClassifierSettings {
  readonly depth: 18 | 34 | 50;
  /** Channels of the first stage; 64 is the standard network, 32 costs a quarter. */
  readonly width: number;
  readonly head: ResnetHead;
  /** Subtract each film's own mean and divide by its own standard deviation. */
  readonly standardize: boolean;
  /** Dropout of the dense layer, if the head has one. */
  readonly dropout: number;
  /** Trains only the head, on a base with random weights, as a baseline. */
  readonly frozenBase: boolean;
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: 'sgd' | 'adam';
  /** For sgd: Nesterov momentum. */
  readonly nesterov: boolean;
  /** Peak of the schedule. */
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  readonly labelSmoothing: number;
  /** Weight of the supervised contrastive loss; none unless given. */
  readonly contrastive?: number;
  /** Mixes each film with another, by a share from Beta(α, α) (Zhang et al. 2018); 0 mixes none. */
  readonly mixUp: number;
  /** Weighs each film by the rarity of its class. */
  readonly classWeights: boolean;
  /** Stops after so many epochs without a better validation. */
  readonly patience: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
  /**
   * What selects the epoch. Default: the balanced accuracy on the validation films. With `shifts`, temperature and
   * threshold are fitted on shifted films as well. `last` takes the last epoch.
   */
  readonly select?: 'shifts' | 'last';
  /** Shows each film also without the chain's CLAHE and with half and twice its clip limit. */
  readonly varyClahe?: true;
}

/** Films of one split with their labels, as indices into the prepared films and into the classes. */
export interface LabelledFilms {
  readonly index: Uint32Array;
  readonly label: Uint8Array;
}

export interface ClassifierData {
  /** Grey and square. */
  readonly films: PreparedFilms;
  readonly classes: readonly string[];
  readonly train: LabelledFilms;
  readonly val: LabelledFilms;
  /** With `select: shifts`: altered validation films. */
  readonly shifted?: readonly ShiftedFilms[];
  /** With `varyClahe`: the films by other chains. */
  readonly variants?: readonly PreparedFilms[];
}

export interface ClassifierEpoch extends AveragedEpoch {
  readonly learningRate: number;
  readonly accuracy: number;
  readonly valLoss: number;
  readonly valBalancedAccuracy: number;
  /** Of the shifts, with `select: shifts`. */
  readonly worst?: ShiftSuite['worst'];
}

export interface ClassifierOutcome {
  readonly architecture: ResnetOptions;
  /** Averaged weights of the best epoch. */
  readonly parameters: HostTensors;
  /** 0 with `select: last`. */
  readonly bestEpoch: number;
  readonly history: readonly ClassifierEpoch[];
  /** Validation films × classes, of the best epoch. */
  readonly probabilities: Float32Array;
  /** True when the signal ended it: there is a checkpoint to resume from. */
  readonly interrupted: boolean;
}

/**
 * Trains a ResNet and returns its averaged weights of the epoch with the best validation balanced accuracy. Resumed
 * with the same settings, it arrives at the same weights as without the interruption.
 */
export async function trainClassifier(
  engine: Engine,
  { films, classes, train, val, shifted, variants }: ClassifierData,
  settings: ClassifierSettings,
  hooks: TrainingHooks<ClassifierEpoch>,
  start?: InitialWeights,
): Promise<ClassifierOutcome> {
  const { seed, epochs } = settings;
  const side = films.width;
  const batchSize = Math.min(settings.batchSize, train.index.length);
  const steps = stepsPerEpoch(train.index.length, batchSize);
  const architecture: ResnetOptions = {
    depth: settings.depth,
    width: settings.width,
    inputSize: side,
    classes: classes.length,
    head: settings.head,
    ...(settings.standardize && { standardize: true }),
    zeroInitGamma: !settings.frozenBase,
    ...(start?.statistics ?? statisticsOf(films, train.index)),
  };
  const trainStep = resnetTrainStep(architecture, {
    batchSize,
    labelSmoothing: settings.labelSmoothing,
    ...(settings.contrastive !== undefined && { contrastive: settings.contrastive }),
    frozenBase: settings.frozenBase,
    optimizer:
      settings.optimizer === 'sgd'
        ? { kind: 'sgd', nesterov: settings.nesterov, weightDecay: settings.weightDecay }
        : { kind: 'adam', weightDecay: settings.weightDecay },
  });
  const identity = { ...settings, classes, films: train.index.length, size: side, init: start?.from };

  const evaluated = engine.createState();
  const evaluation = await engine.load(resnetEvalStep(architecture).bytes, {
    state: evaluated,
    name: 'resnet validation',
  });
  const weights = settings.classWeights ? classWeights(train.label, classes.length) : undefined;

  const batches = new Batches({
    films,
    ...(variants && { variants }),
    augmentation: settings.augmentation,
    mixUp: settings.mixUp,
    seed,
  });
  const rateAt = scheduled(settings, steps);

  function feedsOf(images: Float32Array, rows: Uint32Array, epoch: number, step: number): HostTensors {
    const targets = new Float32Array(batchSize * classes.length);
    const sampleWeights = new Float32Array(batchSize).fill(1);
    for (let i = 0; i < batchSize; i++) {
      const label = train.label[rows[i] ?? 0] ?? 0;
      targets[i * classes.length + label] = 1;
      if (weights !== undefined) sampleWeights[i] = weights[label] ?? 1;
    }
    if (settings.mixUp > 0) {
      const shares = mixShares(batchSize, settings.mixUp, seed, epoch, step);
      mix(targets, shares);
      mix(sampleWeights, shares);
    }
    return {
      images: { data: images, dims: [batchSize, side, side, 1] },
      targets: { data: targets, dims: [batchSize, classes.length] },
      sampleWeights: { data: sampleWeights, dims: [batchSize] },
      lr: scalar(rateAt(epoch, step)),
      ...(hasDenseLayer(architecture) && {
        dropout: dropoutMask(
          batchSize,
          DENSE_HEAD_UNITS,
          settings.dropout,
          seededRandom(seed, epoch, step, 2),
        ),
      }),
    };
  }

  async function evaluate(
    parameters: HostTensors,
    judged: PreparedFilms = films,
    index: Uint32Array = val.index,
  ): Promise<Float32Array> {
    await evaluated.set(parameters);
    return predict(judged, index, { classes, batchSize }, (images) => evaluation.step({ images }));
  }

  const trained = await trainAveraged<ClassifierEpoch, 'correct'>(
    engine,
    {
      name: 'resnet',
      trainStep,
      initial: start?.parameters ?? initResnet(architecture, seed),
      identity,
      seed,
      epochs,
      batchSize,
      patience: settings.patience,
      films: train.index,
      batches,
      reports: ['loss', 'correct'],
      feeds: ({ images }, rows, epoch, step) => feedsOf(images, rows, epoch, step),
      judge: async (parameters, { epoch, sums, ...time }) => {
        const probabilities = await evaluate(parameters);
        const all = Uint32Array.from(val.index.keys());
        const seen = [];
        for (const { name, films: moved } of shifted ?? []) {
          seen.push({ name, probabilities: await evaluate(parameters, moved, all) });
        }
        return {
          epoch,
          learningRate: rateAt(epoch, steps - 1),
          loss: sums.loss / steps,
          accuracy: sums.correct / (steps * batchSize),
          valLoss: crossEntropy(probabilities, val.label, classes.length),
          valBalancedAccuracy: balancedAccuracy(confusionOf(probabilities, val.label, classes.length)),
          ...(shifted && { worst: suiteOfEpoch(probabilities, seen, val.label, classes).worst }),
          idle: time.idle,
          seconds: time.seconds,
        };
      },
      scoreOf: ({ valBalancedAccuracy, worst }) => {
        if (settings.select === 'last') return null;
        return worst === undefined ? valBalancedAccuracy : suiteScore(valBalancedAccuracy, worst);
      },
    },
    hooks,
  );
  const outcome = { architecture, ...trained, probabilities: await evaluate(trained.parameters) };
  await evaluation.dispose();
  await evaluated.dispose();
  return outcome;
}

/** The figures of a classifier for card and bundle, over the validation films. */
export function classifierMetrics(
  probabilities: Float32Array,
  labels: Uint8Array,
  classes: readonly string[],
): Record<string, unknown> {
  const matrix = confusionOf(probabilities, labels, classes.length);
  const found = recalls(matrix);
  const perClass = classes.map((name, c) => {
    const scores = Float32Array.from(labels, (_, i) => probabilities[i * classes.length + c] ?? 0);
    const mine = Array.from(labels, (label) => label === c);
    return [name, { recall: found[c] ?? null, auroc: aurocInterval(scores, mine) }] as const;
  });
  return {
    films: labels.length,
    balancedAccuracy: balancedAccuracy(matrix),
    classes: Object.fromEntries(perClass),
    confusionMatrix: { rows: 'true', columns: 'predicted', order: classes, counts: matrix },
  };
}

/** Mean and standard deviation of the training films' pixels, 0–1, to three places. */
export function statisticsOf(films: PreparedFilms, index: Uint32Array): { mean: number; std: number } {
  const full = fullScale(films.data);
  const histogram = new Float64Array(full + 1);
  for (const film of index) {
    for (const level of filmAt(films, film)) histogram[level] = (histogram[level] ?? 0) + 1;
  }
  const count = histogram.reduce((a, b) => a + b, 0);
  const mean = histogram.reduce((sum, n, level) => sum + n * (level / full), 0) / count;
  const variance = histogram.reduce((sum, n, level) => sum + n * (level / full - mean) ** 2, 0) / count;
  const places = (x: number): number => Math.round(x * 1000) / 1000;
  return { mean: places(mean), std: Math.max(0.001, places(Math.sqrt(variance))) };
}

/** Inverse to the classes' frequencies, 1 on average over the films. */
function classWeights(labels: Uint8Array, classes: number): Float32Array {
  const counts = new Float32Array(classes);
  for (const label of labels) counts[label] = (counts[label] ?? 0) + 1;
  return counts.map((count) => (count === 0 ? 0 : labels.length / (classes * count)));
}

function confusionOf(
  probabilities: Float32Array,
  labels: Uint8Array,
  classes: number,
): ReturnType<typeof confusionMatrix> {
  const predicted = Uint8Array.from(labels, (_, i) => {
    const row = probabilities.subarray(i * classes, (i + 1) * classes);
    return row.indexOf(Math.max(...row));
  });
  return confusionMatrix(labels, predicted, classes);
}

function crossEntropy(probabilities: Float32Array, labels: Uint8Array, classes: number): number {
  const losses = Array.from(
    labels,
    (label, i) => -Math.log(Math.max(1e-7, probabilities[i * classes + label] ?? 0)),
  );
  return losses.reduce((a, b) => a + b, 0) / labels.length;
}
