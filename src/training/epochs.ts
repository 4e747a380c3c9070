import { RxrayError } from '../core/errors.js';
import type { HostTensors, StateStore } from '../engine/index.js';
import { averageInto } from './average.js';
import { loadCheckpoint, saveCheckpoint, type Checkpoint } from './checkpoint.js';
import { isStopped, type TrainingHooks } from './hooks.js';

/** How far a training is. */
export interface Progress<Row> {
  epoch: number;
  /** Steps done in the running epoch, and what they have reported. */
  step: number;
  sums: Record<string, number>;
  /** Seconds that the running epoch took before an interruption. */
  secondsBefore: number;
  /** How often the average was updated. */
  updates: number;
  /** 0: no epoch was judged better than another. */
  bestEpoch: number;
  history: Row[];
}

/** A step of an epoch, and its films: positions in the training set. */
export interface Step {
  readonly epoch: number;
  /** From 0. */
  readonly step: number;
  readonly rows: Uint32Array;
}
/** Sums of what the steps of an epoch report, by name. */
type Sums<Report extends string> = Readonly<Record<Report, number>>;

export interface EpochLoop<Row, Report extends string, Batch> {
  readonly state: StateStore;
  /** What a checkpoint must have been made with. */
  readonly identity: Readonly<Record<string, unknown>>;
  readonly checkpoint: Checkpoint<Progress<Row>>;
  readonly epochs: number;
  readonly batchSize: number;
  /** Steps per epoch. */
  readonly steps: number;
  /** The order of the training set in an epoch. */
  readonly order: (epoch: number) => Uint32Array;
  /** Stops at a judged epoch that is this many epochs after the best one. Default: never. */
  readonly patience?: number;
  /** Keeps a moving average of these weights, updated after so many steps. */
  readonly averaging?: {
    readonly every: number;
    readonly decay: number;
    readonly weights: () => Promise<HostTensors>;
  };
  /** The batch of each step in turn, for batches that are made ahead. */
  readonly batches?: (steps: Iterable<Step>) => AsyncIterable<Batch>;
  /** Trains on one batch; returns what is to be summed over the epoch. */
  readonly train: (step: Step, batch: Batch) => Promise<Sums<Report>>;
  /** The loss to show, over the steps that have been summed. */
  readonly loss: (sums: Sums<Report>) => number;
  /** A row of the history. */
  readonly judge: (epoch: {
    readonly epoch: number;
    readonly sums: Sums<Report>;
    readonly seconds: number;
    readonly average: HostTensors;
  }) => Row | Promise<Row>;
  /** Higher is better; null for an epoch without a score. Default: no epoch has one. */
  readonly scoreOf?: (row: Row) => number | null;
  /** The weights to return if training ended now; where epochs are scored, those of the best one are returned. */
  readonly weights: (average: HostTensors) => Promise<HostTensors>;
}

export interface EpochOutcome<Row> {
  readonly parameters: HostTensors;
  /** 0: no epoch has a score, the parameters are those of the last step. */
  readonly bestEpoch: number;
  readonly history: readonly Row[];
  /** True when the signal ended it: there is a checkpoint to resume from. */
  readonly interrupted: boolean;
}

/** The checkpoint to resume from, or a new one. Throws TRAINING_RESUME. */
export async function startOrResume<Row>(
  { resume, checkpointDir }: TrainingHooks<Row>,
  identity: Readonly<Record<string, unknown>>,
  initialState: () => HostTensors,
): Promise<Checkpoint<Progress<Row>>> {
  const start = { epoch: 1, step: 0, sums: {}, secondsBefore: 0, updates: 0, bestEpoch: 0, history: [] };
  if (resume !== true) return { groups: { state: initialState() }, progress: start };
  const { groups, progress } = await loadCheckpoint<Progress<Row>>(checkpointDir, identity);
  return { groups, progress: { ...start, ...progress } };
}

/**
 * Trains epoch by epoch, with a checkpoint after each and when it is stopped. Returns the weights of the best epoch.
 * Resumed with the same settings, it arrives at the same weights as without the interruption.
 */
export async function trainEpochs<Row, Report extends string, Batch = Step>(
  loop: EpochLoop<Row, Report, Batch>,
  hooks: TrainingHooks<Row>,
): Promise<EpochOutcome<Row>> {
  const { state, identity, checkpoint, epochs, steps, batchSize, averaging, patience = Infinity } = loop;
  const { scoreOf = () => null } = loop;
  const { progress } = checkpoint;
  const average = checkpoint.groups.average ?? {};
  let best = checkpoint.groups.best ?? {};

  const save = async (): Promise<void> => {
    const groups = { state: await state.get(), average, best };
    await saveCheckpoint(hooks.checkpointDir, identity, { groups, progress });
  };

  while (progress.epoch <= epochs && !isStopped(hooks)) {
    const { epoch, sums, history } = progress;
    const wasJudged = history.slice(-1).some((row) => scoreOf(row) !== null);
    if (progress.step === 0 && wasJudged && epoch - Math.max(1, progress.bestEpoch) > patience) break;
    const began = performance.now() - progress.secondsBefore * 1000;
    const order = loop.order(epoch);
    const stepAt = (step: number): Step => {
      return { epoch, step, rows: order.subarray(step * batchSize, (step + 1) * batchSize) };
    };
    const ahead = Array.from({ length: steps - progress.step }, (_, i) => stepAt(progress.step + i));
    for await (const batch of loop.batches?.(ahead) ?? ahead) {
      if (isStopped(hooks)) break;
      const reports = await loop.train(stepAt(progress.step), batch as Batch);
      progress.step++;
      for (const [name, value] of Object.entries<number>(reports)) sums[name] = (sums[name] ?? 0) + value;
      if (averaging !== undefined && (progress.step % averaging.every === 0 || progress.step === steps)) {
        averageInto(average, await averaging.weights(), averaging.decay, progress.updates++);
      }
      const loss = loop.loss(sums as Sums<Report>) / progress.step;
      if (!Number.isFinite(loss)) throw diverged(epoch);
      hooks.onStep?.(progress.step, steps, epoch, loss);
    }
    progress.secondsBefore = (performance.now() - began) / 1000;
    if (progress.step < steps) break;

    const seconds = progress.secondsBefore;
    const row = await loop.judge({ epoch, sums: sums as Sums<Report>, seconds, average });
    const record = Math.max(-1, ...history.map((before) => scoreOf(before) ?? -1));
    const improved = (scoreOf(row) ?? -1) > record;
    if (improved) {
      progress.bestEpoch = epoch;
      best = await loop.weights(average);
    }
    history.push(row);
    Object.assign(progress, { epoch: epoch + 1, step: 0, sums: {}, secondsBefore: 0 });
    await save();
    hooks.onEpoch?.(row, improved);
  }

  if (progress.step > 0) await save();
  return {
    parameters: progress.bestEpoch > 0 ? best : await loop.weights(average),
    bestEpoch: progress.bestEpoch,
    history: progress.history,
    interrupted: hooks.signal?.aborted === true,
  };
}

function diverged(epoch: number): RxrayError {
  return new RxrayError(
    'TRAINING_DATA',
    `the training diverged in epoch ${epoch}: its loss is no number any more; lower the learning rate (--lr)`,
  );
}
