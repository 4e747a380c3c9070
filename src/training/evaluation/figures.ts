import { interval, type Interval, type Weights } from './bootstrap.js';

/** A figure of the films as they are, or of a resample; null where it is not defined. */
export type Figure = (weights?: Weights) => number | null;

/** 95 % intervals by the figure's name; null where there is none. */
export type Intervals = Readonly<Record<string, Interval | null>>;

/** The figures' values, and their intervals under the same names. */
export function withIntervals<K extends string>(
  figures: Readonly<Record<K, Figure>>,
  resamples: readonly Weights[],
): Record<K, number | null> & { intervals: Intervals } {
  const names = Object.keys(figures) as K[];
  const values = Object.fromEntries(names.map((name) => [name, figures[name]()])) as Record<K, number | null>;
  const intervals = names.map((name) => {
    const sure = resamples.length > 0 && values[name] !== null;
    return [name, sure ? interval(figures[name], resamples) : null] as const;
  });
  return { ...values, intervals: Object.fromEntries(intervals) };
}

/** JSON has no NaN. */
export function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
