import type { Engine, HostTensors } from '../engine/index.js';
import type { TrainStep } from '../models/index.js';
import { seededRandom, shuffled } from '../models/random.js';
import { copyOf } from './average.js';
import type { BatchTask } from './batch-worker.js';
import type { Batch, Batches } from './batches.js';
import { startOrResume, trainEpochs, type EpochOutcome, type Step } from './epochs.js';
import type { TrainingHooks } from './hooks.js';

/** A training whose result is a moving average of its weights. */
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
  /** The inputs of a step. `rows` are indices into `films`. */
  readonly feeds: (batch: Batch, rows: Uint32Array, epoch: number, step: number) => HostTensors;
  /** Judges the averaged weights on the validation films: a row of the history, and its score. */
  readonly judge: (
    parameters: HostTensors,
    epoch: Omit<AveragedEpoch, 'loss'> & {
      readonly steps: number;
      readonly sums: Readonly<Record<Report | 'loss', number>>;
    },
  ) => Promise<Row>;
  /** Higher is better; null where the last epoch is wanted. */
  readonly scoreOf: (row: Row) => number | null;
}

/** The common fields of a history's rows. */
export interface AveragedEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  /** Share of time in which the training waited for films. */
  readonly idle: number;
  readonly seconds: number;
}

const STEPS_PER_AVERAGE = 8;
/** Averages over about an epoch of a few thousand films. */
const AVERAGE_DECAY = 0.95;

/** Full batches in an epoch. */
export function stepsPerEpoch(films: number, batchSize: number): number {
  return Math.floor(films / batchSize);
}

/** Trains epoch by epoch and returns the averaged weights of the best epoch: see {@link trainEpochs}. */
export async function trainAveraged<Row extends AveragedEpoch, Report extends string>(
  engine: Engine,
  training: AveragedTraining<Row, Report>,
  hooks: TrainingHooks<Row>,
): Promise<EpochOutcome<Row>> {
  const { trainStep, identity, seed, epochs, batchSize, patience, films, batches, reports, scoreOf } =
    training;
  const steps = stepsPerEpoch(films.length, batchSize);
  const checkpoint = await startOrResume(hooks, identity, () => trainStep.initialState(training.initial));
  const state = engine.createState();
  await state.set(checkpoint.groups.state ?? {});
  const session = await engine.load(trainStep.bytes, { state, name: `${training.name} training` });
  const present = async (): Promise<HostTensors> => trainStep.parametersOf(await state.get());
  try {
    return await trainEpochs<Row, Report | 'loss' | 'waited', Batch>(
      {
        ...{ state, identity, checkpoint, epochs, steps, batchSize, patience, scoreOf },
        averaging: { every: STEPS_PER_AVERAGE, decay: AVERAGE_DECAY, weights: present },
        order: (epoch) => shuffled(films.length, seededRandom(seed, epoch)),
        batches: (ahead) => batches.of(tasksOf(ahead, films)),
        train: async ({ epoch, step, rows }, batch) => {
          const result = await session.step(training.feeds(batch, rows, epoch, step));
          const sums = reports.map((name) => [name, Number(result[name]?.data[0])] as const);
          const all = [...sums, ['waited', batches.takeWaited()] as const];
          return Object.fromEntries(all) as Record<Report | 'loss' | 'waited', number>;
        },
        loss: ({ loss }) => loss,
        judge: ({ epoch, sums, seconds, average }) =>
          training.judge(average, { epoch, steps, sums, idle: sums.waited / seconds, seconds }),
        // The average begins after some steps.
        weights: async (average) => (Object.keys(average).length > 0 ? copyOf(average) : present()),
      },
      hooks,
    );
  } finally {
    await batches.dispose();
    await session.dispose();
    await state.dispose();
  }
}

function* tasksOf(steps: Iterable<Step>, films: Uint32Array): Generator<BatchTask> {
  for (const { epoch, step, rows } of steps) {
    yield { epoch, step, films: Uint32Array.from(rows, (row) => films[row] ?? 0) };
  }
}
