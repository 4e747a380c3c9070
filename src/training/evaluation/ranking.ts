import type { Weights } from './bootstrap.js';

/**
 * Films by falling score, sorted once: each figure of a resample is then one pass. A film is called
 * positive where its score is above a threshold.
 */
export interface Ranking {
  readonly scores: readonly number[];
  readonly positive: readonly boolean[];
  /** Films, the highest score first. */
  readonly order: Uint32Array;
}

/** Films called positive at a threshold, counted. The first point calls none so, the last one all. */
export interface OperatingPoint {
  /** Scores at or above it are positive; Infinity for the first point. */
  readonly score: number;
  readonly truePositives: number;
  readonly falsePositives: number;
}

export function rank(scores: readonly number[], positive: readonly boolean[]): Ranking {
  const order = Uint32Array.from(scores, (_, i) => i);
  order.sort((i, j) => (scores[j] ?? 0) - (scores[i] ?? 0));
  return { scores, positive, order };
}

/** One point for each distinct score. */
export function operatingPoints({ scores, positive, order }: Ranking, weights?: Weights): OperatingPoint[] {
  const points: OperatingPoint[] = [{ score: Infinity, truePositives: 0, falsePositives: 0 }];
  let [truePositives, falsePositives] = [0, 0];
  order.forEach((film, at) => {
    const weight = weights === undefined ? 1 : (weights[film] ?? 0);
    if (positive[film]) truePositives += weight;
    else falsePositives += weight;
    const score = scores[film] ?? NaN;
    const tied = scores[order[at + 1] ?? -1] === score;
    if (!tied) points.push({ score, truePositives, falsePositives });
  });
  return points;
}

/** Area under the ROC curve: how often a positive film scores higher than a negative one, ties counted half. NaN without both. */
export function auroc(points: readonly OperatingPoint[]): number {
  const { truePositives, falsePositives } = last(points);
  let area = 0;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1] as OperatingPoint, points[i] as OperatingPoint];
    area += ((b.falsePositives - a.falsePositives) * (a.truePositives + b.truePositives)) / 2;
  }
  return area / (truePositives * falsePositives);
}

/** Area under the precision–recall curve as average precision, without interpolation. NaN without positives. */
export function aupr(points: readonly OperatingPoint[]): number {
  let area = 0;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1] as OperatingPoint, points[i] as OperatingPoint];
    const called = b.truePositives + b.falsePositives;
    if (called > 0) area += ((b.truePositives - a.truePositives) * b.truePositives) / called;
  }
  return area / last(points).truePositives;
}

/** The highest sensitivity among the thresholds with at least this specificity. NaN without both kinds. */
export function sensitivityAt(points: readonly OperatingPoint[], specificity: number): number {
  const { truePositives, falsePositives } = last(points);
  if (falsePositives === 0) return NaN;
  // Tolerates a rounding error at the exact point.
  const allowed = (1 - specificity) * falsePositives + 1e-9;
  const within = points.filter((point) => point.falsePositives <= allowed);
  return last(within).truePositives / truePositives;
}

function last(points: readonly OperatingPoint[]): OperatingPoint {
  return points.at(-1) ?? { score: NaN, truePositives: NaN, falsePositives: NaN };
}
