import type { Weights } from './bootstrap.js';
import { finite, withIntervals, type Figure, type Intervals } from './figures.js';
import { aupr, auroc, operatingPoints, rank, sensitivityAt, type OperatingPoint } from './ranking.js';

/** Normal against abnormal. */
export interface BinaryQuestion {
  /** The label of healthy films. */
  readonly normal: string;
  /** By the data's class, which may be unknown to the model. */
  readonly abnormal: readonly boolean[];
  /** Films with a higher score are called abnormal. */
  readonly threshold: number;
  /** The origin of the threshold: the bundle, or a default. */
  readonly thresholdFrom: string;
}

/** Each figure with its interval under the same name in `intervals`. */
export interface BinaryFigures {
  readonly normal: string;
  readonly threshold: number;
  readonly thresholdFrom: string;
  readonly auroc: number | null;
  readonly aupr: number | null;
  readonly accuracy: number | null;
  readonly balancedAccuracy: number | null;
  readonly sensitivity: number | null;
  readonly specificity: number | null;
  readonly sensitivityAt90Specificity: number | null;
  readonly sensitivityAt95Specificity: number | null;
  readonly confusion: {
    readonly truePositives: number;
    readonly falsePositives: number;
    readonly trueNegatives: number;
    readonly falseNegatives: number;
  };
  readonly intervals: Intervals;
}

/** Abnormal against normal: areas under the curves, and figures at the threshold. */
export function binaryFigures(
  scores: readonly number[],
  { normal, abnormal, threshold, thresholdFrom }: BinaryQuestion,
  resamples: readonly Weights[] = [],
): BinaryFigures {
  const ranking = rank(scores, abnormal);
  const counts = (weights?: Weights): BinaryFigures['confusion'] => {
    const found = { truePositives: 0, falsePositives: 0, trueNegatives: 0, falseNegatives: 0 };
    scores.forEach((score, i) => {
      const called = score > threshold ? 'Positives' : 'Negatives';
      const right = score > threshold === abnormal[i] ? 'true' : 'false';
      found[`${right}${called}`] += weights === undefined ? 1 : (weights[i] ?? 0);
    });
    return found;
  };
  const rate =
    (of: (found: BinaryFigures['confusion']) => [part: number, whole: number]): Figure =>
    (weights) => {
      const [part, whole] = of(counts(weights));
      return whole === 0 ? null : part / whole;
    };
  const sensitivity = rate((c) => [c.truePositives, c.truePositives + c.falseNegatives]);
  const specificity = rate((c) => [c.trueNegatives, c.trueNegatives + c.falsePositives]);
  const area =
    (of: (points: readonly OperatingPoint[]) => number): Figure =>
    (weights) =>
      finite(of(operatingPoints(ranking, weights)));
  const figures = {
    auroc: area(auroc),
    aupr: area(aupr),
    accuracy: rate((c) => {
      const right = c.truePositives + c.trueNegatives;
      return [right, right + c.falsePositives + c.falseNegatives];
    }),
    balancedAccuracy: (weights?: Weights) => {
      const [sensitive, specific] = [sensitivity(weights), specificity(weights)];
      return sensitive === null || specific === null ? null : (sensitive + specific) / 2;
    },
    sensitivity,
    specificity,
    sensitivityAt90Specificity: area((points) => sensitivityAt(points, 0.9)),
    sensitivityAt95Specificity: area((points) => sensitivityAt(points, 0.95)),
  };
  return {
    normal,
    threshold,
    thresholdFrom,
    ...withIntervals(figures, resamples),
    confusion: counts(),
  };
}
