import { seededRandom } from '../models/random.js';
import type { Interval } from '../models/wilson.js';

/** Films by true class (rows) and predicted class (columns). */
export type ConfusionMatrix = readonly (readonly number[])[];

export function confusionMatrix(
  truth: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
): ConfusionMatrix {
  const matrix = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < truth.length; i++) {
    const row = matrix[truth[i] ?? -1];
    const column = predicted[i] ?? -1;
    if (row?.[column] === undefined) {
      throw new RangeError(`film ${i}: classes run from 0 to ${classes - 1}, got ${truth[i]} and ${column}`);
    }
    row[column] += 1;
  }
  return matrix;
}

/** Sensitivity of each class: the share of its films that were found; null for a class without films. */
export function recalls(matrix: ConfusionMatrix): (number | null)[] {
  return matrix.map((row, i) => {
    const films = row.reduce((a, b) => a + b, 0);
    return films === 0 ? null : (row[i] ?? 0) / films;
  });
}

/** The mean sensitivity over the classes that have films: 1/K for guessing, whatever the class sizes. */
export function balancedAccuracy(matrix: ConfusionMatrix): number {
  const known = recalls(matrix).filter((r) => r !== null);
  return known.reduce((a, b) => a + b, 0) / known.length;
}

/**
 * Area under the ROC curve: the probability that a positive film scores higher than a negative one, ties
 * counted half (Mann–Whitney U by ranks). NaN when one of the two groups is empty.
 */
export function auroc(scores: ArrayLike<number>, positive: ArrayLike<boolean | number>): number {
  const order = Array.from({ length: scores.length }, (_, i) => i).sort(
    (i, j) => (scores[i] ?? 0) - (scores[j] ?? 0),
  );
  let positives = 0;
  let rankSum = 0;
  for (let start = 0; start < order.length;) {
    let end = start;
    let positivesHere = 0;
    while (end < order.length && scores[order[end] ?? 0] === scores[order[start] ?? 0]) {
      if (positive[order[end] ?? 0]) positivesHere++;
      end++;
    }
    // Ranks count from 1; tied films share the mean of theirs.
    rankSum += positivesHere * ((start + 1 + end) / 2);
    positives += positivesHere;
    start = end;
  }
  const negatives = scores.length - positives;
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}

/**
 * AUROC with a percentile bootstrap interval of 95 %. Positives and negatives are drawn separately, so
 * that every resample has both. Null when one of the two groups is empty.
 */
export function aurocInterval(
  scores: ArrayLike<number>,
  positive: ArrayLike<boolean | number>,
  { resamples = 1000, seed = 1 } = {},
): Interval | null {
  const value = auroc(scores, positive);
  if (Number.isNaN(value)) return null;
  const groups: [number[], number[]] = [[], []];
  for (let i = 0; i < scores.length; i++) groups[positive[i] ? 1 : 0].push(scores[i] ?? 0);
  const labels = groups.flatMap((group, i) => group.map(() => i));
  const random = seededRandom(seed);
  const values: number[] = [];
  for (let r = 0; r < resamples; r++) {
    const drawn = groups.flatMap((group) => group.map(() => group[Math.floor(random() * group.length)] ?? 0));
    values.push(auroc(drawn, labels));
  }
  values.sort((a, b) => a - b);
  const at = (q: number): number => values[Math.round(q * (resamples - 1))] ?? value;
  return { value, low: at(0.025), high: at(0.975) };
}
