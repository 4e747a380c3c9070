import { seededRandom } from '../../models/random.js';

/** The weight of each film: 1 in the data, its count in a resample. */
export type Weights = ArrayLike<number>;

/** A 95 % interval. */
export type Interval = readonly [low: number, high: number];

/**
 * Draws the groups (patients) with replacement, as many as there are, and says how often each film came
 * with them: films of one patient are not independent, so they come or stay away together.
 *
 * @param groups Of each film.
 */
export function resample(
  groups: readonly string[],
  { resamples = 1000, seed = 1 }: { readonly resamples?: number; readonly seed?: number } = {},
): Uint16Array[] {
  const numbers = new Map<string, number>();
  const groupOf = groups.map((group) => {
    const number = numbers.get(group) ?? numbers.size;
    numbers.set(group, number);
    return number;
  });
  return Array.from({ length: resamples }, (_, r) => {
    const random = seededRandom(seed, r);
    const drawn = new Uint16Array(numbers.size);
    for (const _ of drawn) {
      const group = Math.floor(random() * drawn.length);
      drawn[group] = (drawn[group] ?? 0) + 1;
    }
    return Uint16Array.from(groupOf, (group) => drawn[group] ?? 0);
  });
}

/**
 * The percentile bootstrap interval of a figure. Resamples in which it is not defined (a class is
 * missing) are left out; null when that is most of them.
 */
export function interval(
  figure: (weights: Weights) => number | null,
  resamples: readonly Weights[],
): Interval | null {
  const values = resamples
    .map(figure)
    .filter((value) => value !== null && Number.isFinite(value)) as number[];
  if (values.length < Math.max(1, resamples.length / 2)) return null;
  values.sort((a, b) => a - b);
  const at = (q: number): number => values[Math.round(q * (values.length - 1))] ?? NaN;
  return [at(0.025), at(0.975)];
}
