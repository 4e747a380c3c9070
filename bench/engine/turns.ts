import { setTimeout as sleep } from 'node:timers/promises';
import { median, type Contender } from './contender.js';

const FEWEST_TURNS = 3;
/** A turn takes about this long, so that what wakes up at its start does not count. */
const TURN_MS = 300;
/** Threads of the last contender spin for a while before they sleep. */
const SETTLE_MS = 150;

interface Limits {
  /** Turns of each contender. */
  readonly turns: number;
  /** How long a contender may run in all of its turns together, in milliseconds; at least three turns are taken. */
  readonly longestMs: number;
}

/** Runs all contenders by turns. Returns the milliseconds of every run. */
export async function takeTurns(
  contenders: readonly Contender[],
  { turns: most, longestMs }: Limits,
): Promise<Map<Contender, number[]>> {
  const times = new Map<Contender, number[]>();
  const plans = new Map<Contender, { runs: number; turns: number }>();
  for (const contender of contenders) {
    await sleep(SETTLE_MS);
    const ms = median(await contender.run(2));
    const runs = Math.min(20, Math.max(1, Math.round(TURN_MS / ms)));
    const turns = Math.min(most, Math.max(FEWEST_TURNS, Math.floor(longestMs / (runs * ms))));
    plans.set(contender, { runs, turns });
    times.set(contender, []);
  }
  for (let turn = 0; turn < most; turn++) {
    for (const contender of contenders) {
      const { runs, turns } = plans.get(contender) ?? { runs: 0, turns: 0 };
      if (turn >= turns) continue;
      await sleep(SETTLE_MS);
      times.get(contender)?.push(...(await contender.run(runs)));
    }
  }
  return times;
}
