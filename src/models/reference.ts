import { z } from 'zod';

/** Scores of normal films of held-out training patients, as a reference for other scores. */
export const referenceSchema = z.strictObject({
  scores: z.array(z.number()).min(1).describe('Anomaly scores of held-out normal films, ascending.'),
  settings: z
    .record(z.string(), z.unknown())
    .describe('How they were made; other settings give other scores.'),
  falsePositiveRate: z.number().min(0).max(1).describe('Share of the reference films above the threshold.'),
  threshold: z.number().describe('A film counts as abnormal where its score is above it.'),
});
export type Reference = z.output<typeof referenceSchema>;

/** A score relative to normal films; all null without a reference. */
export interface RelativeScore {
  /** 0–100: the share of normal films below the score, equal ones counted half. */
  readonly percentile: number | null;
  /**
   * Distance from the normal films' median in units of their spread: unlike percentiles, it is not limited by the
   * highest of them.
   */
  readonly robustZ: number | null;
  readonly score: number;
  readonly threshold: number | null;
  /** Whether the score is above the threshold. */
  readonly abnormal: boolean | null;
  /**
   * 0–1: up to the threshold half of the score's percentile as a share of the threshold's; above it, what is missing to
   * 1 is halved with each spread of the normal films (1.4826 · median absolute deviation) beyond the threshold.
   */
  readonly suspicion: number | null;
}

/** Default share of normal films above the threshold. */
export const FALSE_POSITIVE_RATE = 0.05;

/** The scores in order, and the threshold that leaves the given share of them above it. */
export function referenceOf(
  scores: readonly number[],
  settings: Readonly<Record<string, unknown>>,
  falsePositiveRate = FALSE_POSITIVE_RATE,
): Reference {
  const ascending = [...scores].sort((a, b) => a - b);
  const above = Math.floor(falsePositiveRate * ascending.length);
  const threshold = ascending[Math.max(0, ascending.length - 1 - above)];
  if (threshold === undefined) throw new RangeError('a reference needs at least one score');
  return { scores: ascending, settings: { ...settings }, falsePositiveRate, threshold };
}

export function relativeScoreOf(score: number, reference: Reference | undefined): RelativeScore {
  if (reference === undefined) return { ...UNKNOWN_SCORE, score };
  const { scores, threshold } = reference;
  return {
    percentile: percentileOf(score, scores),
    robustZ: robustZ(score, scores),
    score,
    threshold,
    abnormal: score > threshold,
    suspicion: suspicionOf(score, reference),
  };
}

const UNKNOWN_SCORE = { percentile: null, robustZ: null, threshold: null, abnormal: null, suspicion: null };

function suspicionOf(score: number, { scores, threshold }: Reference): number {
  if (score <= threshold) {
    const most = percentileOf(threshold, scores);
    return most === 0 ? 0 : 0.5 * Math.min(1, percentileOf(score, scores) / most);
  }
  const at = robustZ(score, scores);
  const limit = robustZ(threshold, scores);
  return at === null || limit === null ? 1 : 1 - 0.5 * 2 ** (limit - at);
}

/** Share of the reference below the score, 0–100; equal ones count half. `reference` is ascending. */
export function percentileOf(score: number, reference: readonly number[]): number {
  const below = reference.filter((other) => other < score).length;
  const equal = reference.filter((other) => other === score).length;
  return (100 * (below + equal / 2)) / reference.length;
}

/** Makes the median absolute deviation of normal numbers their standard deviation. */
const MAD_TO_STD = 1.4826;

/**
 * (score − median) ÷ (1.4826 · median absolute deviation) of the reference (Iglewicz and Hoaglin 1993). Null
 * where more than half of the reference are equal. `reference` is ascending.
 */
export function robustZ(score: number, reference: readonly number[]): number | null {
  const middle = medianOf(reference);
  const spread = medianOf(reference.map((other) => Math.abs(other - middle)).sort((a, b) => a - b));
  return spread === 0 ? null : (score - middle) / (MAD_TO_STD * spread);
}

function medianOf(ascending: readonly number[]): number {
  const half = ascending.length / 2;
  const at = (i: number): number => ascending[i] ?? NaN;
  return Number.isInteger(half) ? (at(half - 1) + at(half)) / 2 : at(Math.floor(half));
}
