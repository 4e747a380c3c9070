import { binaryFigures, type BinaryFigures, type BinaryQuestion } from './binary-figures.js';
import type { Interval, Weights } from './bootstrap.js';

/** Scores of an anomaly model, and the true classes. */
export interface ScoredFilms {
  /** Higher is more anomalous. */
  readonly scores: readonly number[];
  readonly binary: BinaryQuestion;
  /** Time of the model's own stage. */
  readonly msPerFilm: number;
  /** Scores of baselines, by name. */
  readonly baselines: Readonly<Record<string, readonly number[]>>;
}

export interface AnomalyFigures {
  readonly n: number;
  /** Normal against the rest; null without both. */
  readonly auroc: number | null;
  readonly aupr: number | null;
  readonly binary: BinaryFigures;
  readonly msPerFilm: number;
  /** The area under the ROC curve of simpler scores of the same films. */
  readonly baselines: Readonly<
    Record<string, { readonly auroc: number | null; readonly interval: Interval | null }>
  >;
  readonly intervals: { readonly auroc: Interval | null; readonly aupr: Interval | null };
}

export function anomalyFigures(
  { scores, binary, msPerFilm, baselines }: ScoredFilms,
  resamples: readonly Weights[] = [],
): AnomalyFigures {
  const figures = binaryFigures(scores, binary, resamples);
  const simpler = Object.entries(baselines).map(([name, others]) => {
    const { auroc, intervals } = binaryFigures(others, binary, resamples);
    return [name, { auroc, interval: intervals.auroc ?? null }] as const;
  });
  return {
    n: scores.length,
    auroc: figures.auroc,
    aupr: figures.aupr,
    binary: figures,
    msPerFilm,
    baselines: Object.fromEntries(simpler),
    intervals: { auroc: figures.intervals.auroc ?? null, aupr: figures.intervals.aupr ?? null },
  };
}
