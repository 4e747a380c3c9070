import type { Engine, HostTensors } from '../engine/index.js';
import type { TrainStep } from '../models/index.js';
import { seededRandom, shuffled } from '../models/random.js';
import { averageInto, copyOf } from './average.js';
import type { BatchTask } from './batch-worker.js';
import type { Batch, Batches } from './batches.js';
import { loadCheckpoint, saveCheckpoint, type Checkpoint } from './checkpoint.js';
import { isStopped, type TrainingHooks } from './hooks.js';

/** What a training that ships the average of its weights is made of. */
export interface AveragedTraining<Row extends AveragedEpoch, Report extends string> {
  readonly name: string;
  readonly trainStep: TrainStep;
  /** Where it starts. */
  readonly initial: HostTensors;
  /** What a checkpoint must have been made with. */
  readonly identity: Readonly<Record<string, unknown>>;
  readonly seed: number;
  readonly epochs: number;
  readonly batchSize: number;
  /** Stops after so many epochs without a better one. */
  readonly patience: number;
  /** The training films, as indices into the prepared films. */
  readonly films: Uint32Array;
  readonly batches: Batches;
  /** The scalars that a step returns, to be summed over the epoch; `loss` is shown. */
  readonly reports: readonly (Report | 'loss')[];
  /** What a step takes besides its films. `rows` are indices into `films`. */
  readonly feeds: (batch: Batch, rows: Uint32Array, epoch: number, step: number) => HostTensors;
  /** Judges the averaged weights on the validation films: a row of the history, and its score. */
  readonly judge: (
    parameters: HostTensors,
    epoch: Omit<AveragedEpoch, 'loss'> & {
      readonly steps: number;
      readonly sums: Readonly<Record<Report | 'loss', number>>;
    },
  ) => Promise<Row>;
  /** Higher is better. */
  readonly scoreOf: (row: Row) => number;
}

/** What every row of a history says. */
export interface AveragedEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  /** Share of the time in which the trainer waited for films. */
  readonly idle: number;
  readonly seconds: number;
}

export interface AveragedOutcome<Row> {
  /** Averaged weights of the best epoch. */
  readonly parameters: HostTensors;
  readonly bestEpoch: number;
  readonly history: readonly Row[];
  /** True when the signal ended it: there is a checkpoint to go on from. */
  readonly interrupted: boolean;
}

interface Progress<Row> {
  epoch: number;
  /** Steps done in the running epoch. */
  step: number;
  sums: Record<string, number>;
  secondsBefore: number;
  /** Seconds of it in which the trainer waited for films. */
  waited: number;
  updates: number;
  bestEpoch: number;
  history: Row[];
}

const STEPS_PER_AVERAGE = 8;
/** Forgets over about an epoch of a few thousand films. */
const AVERAGE_DECAY = 0.95;

/** Full batches in an epoch. */
export function stepsPerEpoch(films: number, batchSize: number): number {
  return Math.floor(films / batchSize);
}

/**
 * Trains epoch by epoch and returns the averaged weights of the best one. Resumed with the same settings,
 * it goes on to the same weights as without the interruption.
 */
export async function trainAveraged<Row extends AveragedEpoch, Report extends string>(
  engine: Engine,
  training: AveragedTraining<Row, Report>,
  hooks: TrainingHooks<Row>,
): Promise<AveragedOutcome<Row>> {
  const { trainStep, identity, seed, epochs, batchSize, films, batches, reports, scoreOf } = training;
  const steps = stepsPerEpoch(films.length, batchSize);
  const checkpoint: Checkpoint<Progress<Row>> =
    hooks.resume === true
      ? await loadCheckpoint(hooks.checkpointDir, identity)
      : { groups: { state: trainStep.initialState(training.initial) }, progress: start() };
  const { progress } = checkpoint;
  const average = checkpoint.groups.average ?? {};
  let best = checkpoint.groups.best ?? {};

  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(trainStep.bytes, { state, name: `${training.name} training` });
  const rowsOf = (order: Uint32Array, step: number): Uint32Array =>
    order.subarray(step * batchSize, (step + 1) * batchSize);

  function* tasksOf(epoch: number, order: Uint32Array): Generator<BatchTask> {
    for (let { step } = progress; step < steps; step++) {
      yield { epoch, step, films: Uint32Array.from(rowsOf(order, step), (row) => films[row] ?? 0) };
    }
  }

  const save = async (): Promise<void> => {
    const groups = { state: await state.get(), average, best };
    await saveCheckpoint(hooks.checkpointDir, identity, { groups, progress });
  };

  try {
    while (progress.epoch <= epochs && !isStopped(hooks)) {
      const { epoch } = progress;
      if (progress.step === 0 && epoch - Math.max(1, progress.bestEpoch) > training.patience) break;
      const began = performance.now() - progress.secondsBefore * 1000;
      const order = shuffled(films.length, seededRandom(seed, epoch));
      for await (const batch of batches.of(tasksOf(epoch, order))) {
        if (isStopped(hooks)) break;
        const { step } = progress;
        const result = await session.step(training.feeds(batch, rowsOf(order, step), epoch, step));
        progress.step++;
        for (const name of reports) {
          progress.sums[name] = (progress.sums[name] ?? 0) + Number(result[name]?.data[0]);
        }
        if (progress.step % STEPS_PER_AVERAGE === 0 || progress.step === steps) {
          averageInto(average, trainStep.parametersOf(await state.get()), AVERAGE_DECAY, progress.updates++);
        }
        hooks.onStep?.(progress.step, steps, epoch, (progress.sums.loss ?? 0) / progress.step);
      }
      progress.waited += batches.takeWaited();
      progress.secondsBefore = (performance.now() - began) / 1000;
      if (progress.step < steps) break;

      const row = await training.judge(average, {
        epoch,
        steps,
        sums: progress.sums as Record<Report | 'loss', number>,
        idle: progress.waited / progress.secondsBefore,
        seconds: progress.secondsBefore,
      });
      const record = Math.max(-1, ...progress.history.map(scoreOf));
      const improved = scoreOf(row) > record;
      progress.history.push(row);
      if (improved) {
        progress.bestEpoch = epoch;
        best = copyOf(average);
      }
      Object.assign(progress, { step: 0, sums: {}, secondsBefore: 0, waited: 0, epoch: epoch + 1 });
      await save();
      hooks.onEpoch?.(row, improved);
    }
  } finally {
    await batches.dispose();
  }

  if (progress.step > 0) await save();
  const outcome = {
    // Stopped within the first epoch: what there is, so that a deadline always yields a bundle.
    parameters: progress.bestEpoch > 0 ? best : trainStep.parametersOf(await state.get()),
    bestEpoch: progress.bestEpoch,
    history: progress.history,
    interrupted: hooks.signal?.aborted === true,
  };
  await session.dispose();
  await state.dispose();
  return outcome;
}

function start<Row>(): Progress<Row> {
  return { epoch: 1, step: 0, sums: {}, secondsBefore: 0, waited: 0, updates: 0, bestEpoch: 0, history: [] };
}
