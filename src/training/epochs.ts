import type { EngineSession, HostTensors, StateStore } from '../engine/index.js';
import { saveCheckpoint } from './checkpoint.js';
import { isStopped, type TrainingHooks } from './hooks.js';

/** How far a training is that keeps nothing between its epochs but the state. */
export interface EpochProgress<Row> {
  epoch: number;
  history: Row[];
}

/** Sums of a step's scalar reports over the running epoch, by their names. */
type Sums<Report extends string> = Readonly<Record<Report, number>>;

interface EpochLoop<Row, Report extends string> {
  readonly session: EngineSession;
  readonly state: StateStore;
  /** What a checkpoint must have been made with. */
  readonly identity: Readonly<Record<string, unknown>>;
  readonly progress: EpochProgress<Row>;
  readonly epochs: number;
  readonly steps: number;
  /** The scalars that a step returns, to be summed up. */
  readonly reports: readonly Report[];
  /** The order of the films in an epoch. */
  readonly order: (epoch: number) => Uint32Array;
  readonly feeds: (epoch: number, step: number, order: Uint32Array) => HostTensors;
  readonly loss: (sums: Sums<Report>) => number;
  readonly row: (sums: Sums<Report>, epoch: number, seconds: number) => Row;
}

/**
 * Trains epoch by epoch, with a checkpoint after each. One that is cut short is done again; the last one's
 * weights count, nothing is chosen.
 */
export async function trainEpochs<Row, Report extends string>(
  loop: EpochLoop<Row, Report>,
  hooks: TrainingHooks<Row>,
): Promise<void> {
  const { session, state, identity, progress, epochs, steps, reports } = loop;
  while (progress.epoch <= epochs && !isStopped(hooks)) {
    const { epoch } = progress;
    const began = performance.now();
    const order = loop.order(epoch);
    const sums = Object.fromEntries(reports.map((name) => [name, 0])) as Record<Report, number>;
    let done = 0;
    while (done < steps && !isStopped(hooks)) {
      const result = await session.step(loop.feeds(epoch, done, order));
      for (const name of reports) sums[name] += Number(result[name]?.data[0]);
      done += 1;
      hooks.onStep?.(done, steps, epoch, loop.loss(sums) / done);
    }
    if (done < steps) break;
    const row = loop.row(sums, epoch, (performance.now() - began) / 1000);
    progress.history.push(row);
    progress.epoch++;
    await saveCheckpoint(hooks.checkpointDir, identity, { groups: { state: await state.get() }, progress });
    hooks.onEpoch?.(row, false);
  }
}
