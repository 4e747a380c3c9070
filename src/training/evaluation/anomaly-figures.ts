import { binaryFigures, type BinaryFigures, type BinaryQuestion } from './binary-figures.js';
import type { Weights } from './bootstrap.js';
import type { Interval } from './bootstrap.js';

/** What an anomaly model said of the films, and what they are. */
export interface ScoredFilms {
  /** Higher is more anomalous. */
  readonly scores: readonly number[];
  readonly binary: BinaryQuestion;
  /** Time of the model's own stage. */
  readonly msPerFilm: number;
}

export interface AnomalyFigures {
  readonly n: number;
  /** Normal against the rest; null without both. */
  readonly auroc: number | null;
  readonly aupr: number | null;
  readonly binary: BinaryFigures;
  readonly msPerFilm: number;
  readonly intervals: { readonly auroc: Interval | null; readonly aupr: Interval | null };
}

export function anomalyFigures(
  { scores, binary, msPerFilm }: ScoredFilms,
  resamples: readonly Weights[] = [],
): AnomalyFigures {
  const figures = binaryFigures(scores, binary, resamples);
  return {
    n: scores.length,
    auroc: figures.auroc,
    aupr: figures.aupr,
    binary: figures,
    msPerFilm,
    intervals: { auroc: figures.intervals.auroc ?? null, aupr: figures.intervals.aupr ?? null },
  };
}
