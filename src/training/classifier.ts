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
import { averageInto, copyOf } from './average.js';
import type { BatchTask } from './batch-worker.js';
import { Batches } from './batches.js';
import { loadCheckpoint, saveCheckpoint, type Checkpoint } from './checkpoint.js';
import { isStopped, type TrainingHooks } from './hooks.js';
import { aurocInterval, balancedAccuracy, confusionMatrix, recalls } from './metrics.js';
import { filmAt, imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';
import { seededRandom, shuffled } from '../models/random.js';
import { learningRateAt, type Schedule } from './schedule.js';

export interface ClassifierSettings {
  readonly depth: 18 | 34 | 50;
  /** Channels of the first stage; 64 is the standard network, 32 costs a quarter. */
  readonly width: number;
  readonly head: ResnetHead;
  /** Share of the dense layer's units that are left out in a training step, where the head has one. */
  readonly dropout: number;
  /** Trains the head alone, on a base with random weights: a yardstick for what training the base is worth. */
  readonly frozenBase: boolean;
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: 'sgd' | 'adam';
  /** Of sgd: the momentum looks one step ahead. */
  readonly nesterov: boolean;
  /** Peak of the schedule. */
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  readonly labelSmoothing: number;
  /** Mixes each film with another, by a share from Beta(α, α) (Zhang et al. 2018); 0 mixes none. */
  readonly mixUp: number;
  /** Weighs each film by the rarity of its class. */
  readonly classWeights: boolean;
  /** Stops after so many epochs without a better validation. */
  readonly patience: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
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
}

export interface ClassifierEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly learningRate: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly valLoss: number;
  readonly valBalancedAccuracy: number;
  /** Share of the time in which the trainer waited for films. */
  readonly idle: number;
  readonly seconds: number;
}

export interface ClassifierOutcome {
  readonly architecture: ResnetOptions;
  /** Averaged weights of the best epoch. */
  readonly parameters: HostTensors;
  readonly bestEpoch: number;
  readonly history: readonly ClassifierEpoch[];
  /** Validation films × classes, of the best epoch. */
  readonly probabilities: Float32Array;
  /** True when the signal ended it: there is a checkpoint to go on from. */
  readonly interrupted: boolean;
}

interface Progress {
  epoch: number;
  /** Steps done in the running epoch. */
  step: number;
  lossSum: number;
  correct: number;
  secondsBefore: number;
  /** Seconds of it in which the trainer waited for films. */
  waited: number;
  updates: number;
  bestEpoch: number;
  history: ClassifierEpoch[];
}

const STEPS_PER_AVERAGE = 8;
/** Forgets over about an epoch of a few thousand films. */
const AVERAGE_DECAY = 0.95;

/**
 * Trains a ResNet and returns its averaged weights of the epoch with the best validation balanced
 * accuracy. Resumed with the same settings, it goes on to the same weights as without the interruption.
 */
export async function trainClassifier(
  engine: Engine,
  { films, classes, train, val }: ClassifierData,
  settings: ClassifierSettings,
  hooks: TrainingHooks<ClassifierEpoch>,
): Promise<ClassifierOutcome> {
  const { seed, epochs } = settings;
  const side = films.width;
  const batchSize = Math.min(settings.batchSize, train.index.length);
  const steps = Math.floor(train.index.length / batchSize);
  const architecture: ResnetOptions = {
    depth: settings.depth,
    width: settings.width,
    inputSize: side,
    classes: classes.length,
    head: settings.head,
    zeroInitGamma: !settings.frozenBase,
    ...statisticsOf(films, train.index),
  };
  const trainStep = resnetTrainStep(architecture, {
    batchSize,
    labelSmoothing: settings.labelSmoothing,
    frozenBase: settings.frozenBase,
    optimizer:
      settings.optimizer === 'sgd'
        ? { kind: 'sgd', nesterov: settings.nesterov, weightDecay: settings.weightDecay }
        : { kind: 'adam', weightDecay: settings.weightDecay },
  });
  const identity = { ...settings, classes, films: train.index.length, size: side };

  const checkpoint: Checkpoint<Progress> =
    hooks.resume === true
      ? await loadCheckpoint(hooks.checkpointDir, identity)
      : { groups: { state: trainStep.initialState(initResnet(architecture, seed)) }, progress: start() };
  const { progress } = checkpoint;
  const average = checkpoint.groups.average ?? {};
  let best = checkpoint.groups.best ?? {};

  const state = engine.createState();
  const evaluated = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(trainStep.bytes, { state, name: 'resnet training' });
  const evaluation = await engine.load(resnetEvalStep(architecture).bytes, {
    state: evaluated,
    name: 'resnet validation',
  });
  const weights = settings.classWeights ? classWeights(train.label, classes.length) : undefined;

  const batches = new Batches({
    films,
    augmentation: settings.augmentation,
    mixUp: settings.mixUp,
    seed,
  });
  const rateAt = (epoch: number, step: number): number =>
    learningRateAt(
      (epoch - 1) * steps + step,
      settings.learningRate,
      settings.warmupEpochs * steps,
      epochs * steps,
      settings.schedule,
    );

  function* tasksOf(epoch: number, order: Uint32Array): Generator<BatchTask> {
    for (let { step } = progress; step < steps; step++) {
      const rows = order.subarray(step * batchSize, (step + 1) * batchSize);
      yield { epoch, step, films: Uint32Array.from(rows, (row) => train.index[row] ?? 0) };
    }
  }

  function feedsOf(images: Float32Array, epoch: number, step: number, order: Uint32Array): HostTensors {
    const targets = new Float32Array(batchSize * classes.length);
    const sampleWeights = new Float32Array(batchSize).fill(1);
    for (let i = 0; i < batchSize; i++) {
      const label = train.label[order[step * batchSize + i] ?? 0] ?? 0;
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

  async function evaluate(parameters: HostTensors): Promise<Float32Array> {
    await evaluated.set(parameters);
    const probabilities = new Float32Array(val.index.length * classes.length);
    for (let from = 0; from < val.index.length; from += batchSize) {
      const part = val.index.subarray(from, from + batchSize);
      const out = await evaluation.step({ images: imagesOf(films, part, unscaledInput(films)) });
      probabilities.set(out.probabilities?.data as Float32Array, from * classes.length);
    }
    return probabilities;
  }

  const save = async (): Promise<void> => {
    const groups = { state: await state.get(), average, best };
    await saveCheckpoint(hooks.checkpointDir, identity, { groups, progress });
  };

  try {
    while (progress.epoch <= epochs && !isStopped(hooks)) {
      const { epoch } = progress;
      if (progress.step === 0 && epoch - Math.max(1, progress.bestEpoch) > settings.patience) break;
      const began = performance.now() - progress.secondsBefore * 1000;
      const order = shuffled(train.index.length, seededRandom(seed, epoch));
      for await (const images of batches.of(tasksOf(epoch, order))) {
        if (isStopped(hooks)) break;
        const { loss, correct } = await session.step(feedsOf(images, epoch, progress.step, order));
        progress.step++;
        progress.lossSum += Number(loss?.data[0]);
        progress.correct += Number(correct?.data[0]);
        if (progress.step % STEPS_PER_AVERAGE === 0 || progress.step === steps) {
          averageInto(average, trainStep.parametersOf(await state.get()), AVERAGE_DECAY, progress.updates++);
        }
        hooks.onStep?.(progress.step, steps, epoch, progress.lossSum / progress.step);
      }
      progress.waited += batches.takeWaited();
      progress.secondsBefore = (performance.now() - began) / 1000;
      if (progress.step < steps) break;

      const probabilities = await evaluate(average);
      const row: ClassifierEpoch = {
        epoch,
        learningRate: rateAt(epoch, steps - 1),
        loss: progress.lossSum / steps,
        accuracy: progress.correct / (steps * batchSize),
        valLoss: crossEntropy(probabilities, val.label, classes.length),
        valBalancedAccuracy: balancedAccuracy(confusionOf(probabilities, val.label, classes.length)),
        idle: progress.waited / progress.secondsBefore,
        seconds: progress.secondsBefore,
      };
      const record = Math.max(-1, ...progress.history.map((old) => old.valBalancedAccuracy));
      const improved = row.valBalancedAccuracy > record;
      progress.history.push(row);
      if (improved) {
        progress.bestEpoch = epoch;
        best = copyOf(average);
      }
      const fresh = { step: 0, lossSum: 0, correct: 0, secondsBefore: 0, waited: 0 };
      Object.assign(progress, { ...fresh, epoch: epoch + 1 });
      await save();
      hooks.onEpoch?.(row, improved);
    }
  } finally {
    await batches.dispose();
  }

  if (progress.step > 0) await save();
  // Stopped within the first epoch: what there is, so that a deadline always yields a bundle.
  const parameters = progress.bestEpoch > 0 ? best : trainStep.parametersOf(await state.get());
  const outcome: ClassifierOutcome = {
    architecture,
    parameters,
    bestEpoch: progress.bestEpoch,
    history: progress.history,
    probabilities: await evaluate(parameters),
    interrupted: hooks.signal?.aborted === true,
  };
  await session.dispose();
  await evaluation.dispose();
  await state.dispose();
  await evaluated.dispose();
  return outcome;
}

/** What the card and the bundle say of a classifier: each figure over the validation films. */
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

function start(): Progress {
  return {
    epoch: 1,
    step: 0,
    lossSum: 0,
    correct: 0,
    secondsBefore: 0,
    waited: 0,
    updates: 0,
    bestEpoch: 0,
    history: [],
  };
}

/** Mean and standard deviation of the training films' pixels, 0–1, to three places. */
function statisticsOf(films: PreparedFilms, index: Uint32Array): { mean: number; std: number } {
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
