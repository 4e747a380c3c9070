import type { Interval } from '../core/history.js';
import type { Monitor } from '../core/monitor/monitor.js';

/** How far back it can go: a year. */
export const MAX_HISTORY_HOURS = 24 * 366;
/** The number of intervals that is aimed at, and their lengths in minutes. */
const INTERVALS = 150;
const LENGTHS = [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440];
const MINUTE_MS = 60_000;

/** How many films settled in each interval, oldest first, without gaps. The last interval is not over yet. */
export interface History {
  readonly minutes: number;
  readonly intervals: readonly Interval[];
}

/** The last `hours` before `now`, from the journal. */
export async function historyOf(
  { history }: Pick<Monitor, 'history'>,
  hours: number,
  now: number,
): Promise<History> {
  const minutes = LENGTHS.find((length) => (60 * hours) / length <= INTERVALS) ?? 1440;
  const step = minutes * MINUTE_MS;
  const last = Math.floor(now / step) * step;
  const count = Math.max(1, Math.ceil((60 * hours) / minutes));
  const since = last - (count - 1) * step;
  const found = new Map((await history(since, minutes)).map((interval) => [interval.at, interval]));
  const intervals = Array.from({ length: count }, (_, i) => {
    const at = since + i * step;
    return found.get(at) ?? { at, done: 0, failed: 0, skipped: 0, suspicious: 0 };
  });
  return { minutes, intervals };
}
