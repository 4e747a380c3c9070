import { temper } from '../../models/calibration.js';
import { balancedAccuracy, recalls } from '../metrics.js';
import { binaryFigures, type BinaryFigures, type BinaryQuestion } from './binary-figures.js';
import type { Weights } from './bootstrap.js';
import { expectedCalibrationError, reliability } from './calibrate.js';
import { finite, withIntervals, type Figure, type Intervals } from './figures.js';
import { aupr, auroc, operatingPoints, rank, type Ranking } from './ranking.js';

/** Outputs of a classifier, and the true classes. */
export interface ClassifiedFilms {
  readonly labels: readonly string[];
  /** Index into the labels; −1 for a class that the model does not know. */
  readonly truth: readonly number[];
  /** Films × labels, calibrated. */
  readonly probabilities: readonly (readonly number[])[];
  /** The calibration's temperature; 1 where the bundle has none. */
  readonly temperature: number;
  readonly binary: BinaryQuestion | null;
}

export interface ClassFigures {
  readonly n: number;
  readonly recall: number | null;
  readonly precision: number | null;
  readonly auroc: number | null;
  readonly aupr: number | null;
  readonly intervals: Intervals;
}

export interface ClassifierFigures {
  readonly n: number;
  readonly labels: readonly string[];
  /** This and the other figures over all classes are null if the model lacks the class of a film. */
  readonly accuracy: number | null;
  readonly balancedAccuracy: number | null;
  /** Mean of the classes' areas, each against the rest. */
  readonly auroc: number | null;
  readonly aupr: number | null;
  readonly ece: number | null;
  readonly eceUncalibrated: number | null;
  readonly temperature: number;
  readonly perClass: Readonly<Record<string, ClassFigures>>;
  /** Rows: the true class; columns: the predicted one; both in the order of `labels`. */
  readonly confusion: readonly (readonly number[])[];
  readonly binary: BinaryFigures | null;
  readonly intervals: Intervals;
}

/** Every figure over the films, with 95 % intervals where there are resamples. */
export function classifierFigures(
  films: ClassifiedFilms,
  resamples: readonly Weights[] = [],
): ClassifierFigures {
  const { labels, truth, temperature, binary } = films;
  return {
    n: truth.length,
    labels,
    ...(truth.includes(-1) ? UNKNOWN_CLASSES : multiclassFigures(films, resamples)),
    temperature,
    binary: binary === null ? null : binaryFigures(scoresOf(films, binary.normal), binary, resamples),
  };
}

type FigureName = 'accuracy' | 'balancedAccuracy' | 'auroc' | 'aupr' | 'ece' | 'eceUncalibrated';

/** Films of a class without a label are neither correct nor wrong. */
const UNKNOWN_CLASSES = {
  accuracy: null,
  balancedAccuracy: null,
  auroc: null,
  aupr: null,
  ece: null,
  eceUncalibrated: null,
  perClass: {},
  confusion: [],
  intervals: {},
};

function multiclassFigures(
  films: ClassifiedFilms,
  resamples: readonly Weights[],
): Omit<ClassifierFigures, 'n' | 'labels' | 'temperature' | 'binary'> {
  const { labels, truth, probabilities } = films;
  const raw = uncalibrated(films);
  const predicted = probabilities.map((row) => row.indexOf(Math.max(...row)));
  const rankings = labels.map((_, label) =>
    rank(
      probabilities.map((row) => row[label] ?? 0),
      truth.map((mine) => mine === label),
    ),
  );
  const confusion = (weights?: Weights): number[][] => {
    const matrix = labels.map(() => new Array<number>(labels.length).fill(0));
    truth.forEach((label, i) => {
      const row = matrix[label] ?? [];
      const column = predicted[i] ?? 0;
      row[column] = (row[column] ?? 0) + (weights === undefined ? 1 : (weights[i] ?? 0));
    });
    return matrix;
  };
  const areaOf =
    (ranking: Ranking, area: typeof auroc): Figure =>
    (weights) =>
      finite(area(operatingPoints(ranking, weights)));
  const macro =
    (area: typeof auroc): Figure =>
    (weights) =>
      mean(rankings.map((ranking) => areaOf(ranking, area)(weights)));
  const perClass = labels.map((name, label): [string, ClassFigures] => {
    const ranking = rankings[label] as Ranking;
    const figures: Record<'recall' | 'precision' | 'auroc' | 'aupr', Figure> = {
      recall: (weights) => recalls(confusion(weights))[label] ?? null,
      precision: (weights) => precisionOf(confusion(weights), label),
      auroc: areaOf(ranking, auroc),
      aupr: areaOf(ranking, aupr),
    };
    return [name, { n: truth.filter((mine) => mine === label).length, ...withIntervals(figures, resamples) }];
  });
  const ece =
    (rows: readonly (readonly number[])[]): Figure =>
    (weights) =>
      finite(expectedCalibrationError(reliability(rows, truth, weights)));
  const figures: Record<FigureName, Figure> = {
    accuracy: (weights) => shareOnDiagonal(confusion(weights)),
    balancedAccuracy: (weights) => finite(balancedAccuracy(confusion(weights))),
    auroc: macro(auroc),
    aupr: macro(aupr),
    ece: ece(probabilities),
    eceUncalibrated: ece(raw),
  };
  return {
    ...withIntervals(figures, resamples),
    perClass: Object.fromEntries(perClass),
    confusion: confusion(),
  };
}

/** The probabilities as the network gave them, before the temperature. */
export function uncalibrated({ probabilities, temperature }: ClassifiedFilms): number[][] {
  return probabilities.map((row) => temper(row, 1 / temperature));
}

/** 1 − P(normal) of each film. */
export function scoresOf({ labels, probabilities }: ClassifiedFilms, normal: string): number[] {
  const healthy = labels.indexOf(normal);
  return probabilities.map((row) => 1 - (row[healthy] ?? 0));
}

function shareOnDiagonal(matrix: readonly (readonly number[])[]): number | null {
  const films = matrix.flat().reduce((a, b) => a + b, 0);
  const right = matrix.reduce((sum, row, i) => sum + (row[i] ?? 0), 0);
  return films === 0 ? null : right / films;
}

function precisionOf(matrix: readonly (readonly number[])[], label: number): number | null {
  const called = matrix.reduce((sum, row) => sum + (row[label] ?? 0), 0);
  return called === 0 ? null : (matrix[label]?.[label] ?? 0) / called;
}

function mean(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
}
