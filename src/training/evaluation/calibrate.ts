import type { Bundle } from '../../models/bundle.js';
import { fitTemperature, temper } from '../../models/calibration.js';
import type { Weights } from './bootstrap.js';
import { operatingPoints, rank } from './ranking.js';

/** Films whose highest probability is in one bin. */
export interface ReliabilityBin {
  readonly from: number;
  readonly to: number;
  readonly films: number;
  /** Mean of the highest probability; null without films. */
  readonly confidence: number | null;
  /** Share of correct films; null without films. */
  readonly accuracy: number | null;
}

/** As in Naeini et al. 2015; more bins than this hold too few films of a test set of hundreds. */
export const ECE_BINS = 10;

/** The films by their highest probability, in bins of equal width. */
export function reliability(
  probabilities: readonly (readonly number[])[],
  truth: ArrayLike<number>,
  weights?: Weights,
): ReliabilityBin[] {
  const bins = Array.from({ length: ECE_BINS }, () => ({ films: 0, confidence: 0, right: 0 }));
  probabilities.forEach((row, i) => {
    const weight = weights === undefined ? 1 : (weights[i] ?? 0);
    const confidence = Math.max(...row);
    const bin = bins[Math.min(ECE_BINS - 1, Math.floor(confidence * ECE_BINS))];
    if (bin === undefined || weight === 0) return;
    bin.films += weight;
    bin.confidence += weight * confidence;
    if (row.indexOf(confidence) === truth[i]) bin.right += weight;
  });
  return bins.map(({ films, confidence, right }, i) => ({
    from: i / ECE_BINS,
    to: (i + 1) / ECE_BINS,
    films,
    confidence: films === 0 ? null : confidence / films,
    accuracy: films === 0 ? null : right / films,
  }));
}

/** Expected calibration error: |accuracy − confidence| of the bins, weighed by their films (Naeini et al. 2015). */
export function expectedCalibrationError(bins: readonly ReliabilityBin[]): number {
  const films = bins.reduce((sum, bin) => sum + bin.films, 0);
  return bins.reduce((sum, bin) => {
    if (bin.accuracy === null || bin.confidence === null) return sum;
    return sum + (bin.films / films) * Math.abs(bin.accuracy - bin.confidence);
  }, 0);
}

/**
 * What a bundle records as its `calibration`: a temperature, and the threshold on 1 − P(normal). Use films that the
 * network was not trained on.
 *
 * @param probabilities Films × labels, as the network gives them.
 * @param truth Index of each film's label.
 * @param normal The label of healthy films, where there is one.
 * @param versions How many of these are of each film: as it is, and altered.
 */
export function calibrate(
  probabilities: readonly (readonly number[])[],
  truth: ArrayLike<number>,
  labels: readonly string[],
  normal: string | undefined = labels.find((label) => label.toLowerCase() === 'normal'),
  versions = 1,
): NonNullable<Bundle['calibration']> & { readonly ece: { before: number; after: number } } {
  const temperature = fitTemperature(probabilities, truth);
  const calibrated = probabilities.map((row) => temper(row, temperature));
  const ece = (rows: readonly (readonly number[])[]): number =>
    expectedCalibrationError(reliability(rows, truth));
  const healthy = normal === undefined ? -1 : labels.indexOf(normal);
  const abnormal = Array.from(truth, (label) => label !== healthy);
  return {
    temperature,
    films: probabilities.length / versions,
    ...(versions > 1 && { shifts: versions - 1 }),
    ece: { before: ece(probabilities), after: ece(calibrated) },
    ...(normal !== undefined &&
      abnormal.includes(true) &&
      abnormal.includes(false) && {
        binary: {
          normal,
          ...chooseThreshold(
            calibrated.map((row) => 1 - (row[healthy] ?? 0)),
            abnormal,
            versions,
          ),
        },
      }),
  };
}

/** Thresholds whose balanced accuracy is at most this many standard errors below the best count as equally good. */
const PLATEAU_ERRORS = 1.96;
/** The threshold's position on the plateau: 0 is its lower end, 1 its upper one. */
const PLACE = 0.75;

/**
 * A threshold that does as well as the best (in balanced accuracy, within what the number of films can
 * tell), three quarters of the way up the range of those: away from the mistakes at either end, and on the
 * side of calling fewer films abnormal, since a network is usually surer of what is abnormal than it should
 * be where films come from elsewhere. `versions` of one film tell no more than one.
 */
export function chooseThreshold(
  scores: readonly number[],
  abnormal: readonly boolean[],
  versions = 1,
): { threshold: number; plateau: [number, number]; balancedAccuracy: number } {
  const points = operatingPoints(rank(scores, abnormal));
  const positives = points.at(-1)?.truePositives ?? 0;
  const negatives = points.at(-1)?.falsePositives ?? 0;
  const balanced = points.map(
    ({ truePositives, falsePositives }) =>
      (truePositives / positives + (negatives - falsePositives) / negatives) / 2,
  );
  const best = Math.max(...balanced);
  let from = balanced.indexOf(best);
  const { truePositives = 0, falsePositives = 0 } = points[from] ?? {};
  const variance = (share: number, films: number): number => (share * (1 - share) * versions) / films;
  const error =
    Math.sqrt(
      variance(truePositives / positives, positives) + variance(falsePositives / negatives, negatives),
    ) / 2;
  const good = (i: number): boolean => (balanced[i] ?? -1) >= best - PLATEAU_ERRORS * error - 1e-9;
  let to = from;
  while (good(from - 1)) from--;
  while (good(to + 1)) to++;
  // The point i is what all thresholds from the next point's score up to its own give.
  const plateau: [number, number] = [points[to + 1]?.score ?? 0, Math.min(1, points[from]?.score ?? 1)];
  const threshold = plateau[0] + PLACE * (plateau[1] - plateau[0]);
  const at = points.findLastIndex(({ score }) => score > threshold);
  return { threshold, plateau, balancedAccuracy: balanced[at] ?? best };
}
