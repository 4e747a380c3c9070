import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { WorkerPool } from '../../core/workers/pool.js';
import type { Film } from '../film.js';
import { prepareFilms, type Preparation, type PreprocessOptions, type ResolvedStep } from '../preprocess.js';
import type { BinaryFigures } from './binary-figures.js';
import type { Interval } from './bootstrap.js';
import type { ShiftOptions } from './shift-stage.js';

/** An alteration of films. `clahe`: the chain without that step. */
interface Shift {
  readonly name: string;
  readonly by: (Omit<ShiftOptions, 'across' | 'down'> & Partial<ShiftOptions>) | 'no clahe';
}

/**
 * Alterations found in films from other sources. Sizes are shares of the film, so that the suite is independent of its
 * size.
 */
export const SHIFTS: readonly Shift[] = [
  { name: 'contrast × 0.7', by: { kind: 'contrast', amount: 0.7 } },
  { name: 'contrast × 1.3', by: { kind: 'contrast', amount: 1.3 } },
  { name: 'gamma 0.7', by: { kind: 'gamma', amount: 0.7 } },
  { name: 'gamma 1.4', by: { kind: 'gamma', amount: 1.4 } },
  { name: 'without CLAHE', by: 'no clahe' },
  { name: 'chest narrower: 15 % less height', by: { kind: 'crop', amount: 0.15, across: false } },
  { name: 'chest wider: 15 % less width', by: { kind: 'crop', amount: 0.15, down: false } },
  { name: 'closer: 15 % less of both', by: { kind: 'crop', amount: 0.15 } },
  { name: 'farther: 10 % more on every side', by: { kind: 'extend', amount: 0.1 } },
  { name: 'black border of 8 %', by: { kind: 'border', amount: 0.08 } },
  { name: 'blurred by 0.6 % of the side', by: { kind: 'blur', amount: 0.006 } },
  { name: 'noise of 4 %', by: { kind: 'noise', amount: 0.04 } },
  { name: 'JPEG of quality 30', by: { kind: 'jpeg', amount: 30 } },
  { name: 'half the resolution', by: { kind: 'resolution', amount: 0.5 } },
];

/** Of how a film lies: for segmenters, which must follow. */
export const ROTATIONS: readonly Shift[] = [
  { name: 'rotated by 15° clockwise', by: { kind: 'rotate', amount: 15 } },
  { name: 'rotated by 15° counterclockwise', by: { kind: 'rotate', amount: -15 } },
];

const STAGE = new URL(`./shift-stage${extname(import.meta.url)}`, import.meta.url).href;

interface ShiftedChain {
  readonly name: string;
  readonly chain: readonly ResolvedStep[];
  /** What was put in. */
  readonly step?: ResolvedStep;
}

/** The chain with each shift after `decode`, except shifts that change nothing. */
export function shiftedChains(chain: readonly ResolvedStep[], shifts = SHIFTS): ShiftedChain[] {
  const behind = chain.findIndex(({ use }) => use === 'decode') + 1;
  return shifts.flatMap(({ name, by }) => {
    if (by === 'no clahe') {
      const without = chain.filter(({ use }) => use !== 'clahe');
      return without.length === chain.length ? [] : [{ name, chain: without }];
    }
    const step = { use: 'shift', with: { across: true, down: true, ...by }, url: STAGE };
    return [{ name, chain: chain.toSpliced(behind, 0, step), step }];
  });
}

/** The films through every shift, one after the other, in threads that all of them share. Throws `TRAINING_DATA`. */
export async function* shiftedFilms(
  films: readonly Film[],
  chain: readonly ResolvedStep[],
  options: PreprocessOptions,
  shifts = SHIFTS,
): AsyncGenerator<Preparation<Film> & Omit<ShiftedChain, 'chain'> & { readonly total: number }> {
  const pool = new WorkerPool(options.log, options.threads ?? availableParallelism());
  try {
    const chains = shiftedChains(chain, shifts);
    for (const { chain: shifted, ...shift } of chains) {
      yield { ...shift, total: chains.length, ...(await prepareFilms(films, shifted, { ...options, pool })) };
    }
  } finally {
    await pool.dispose();
  }
}

/** The figures of a model under a shift. */
export interface ShiftFigures {
  readonly name: string;
  readonly auroc: number | null;
  readonly sensitivity: number | null;
  readonly specificity: number | null;
  /** Expected calibration error; null for an anomaly model. */
  readonly ece: number | null;
  readonly balancedAccuracy: number | null;
  readonly intervals: Readonly<Record<'auroc' | 'sensitivity' | 'specificity' | 'ece', Interval | null>>;
}

/** The figures of a suite, and the worst of each with the shift that it comes from. */
export interface ShiftSuite {
  readonly shifts: readonly ShiftFigures[];
  readonly worst: Readonly<
    Record<'auroc' | 'specificity' | 'ece', { readonly value: number; readonly shift: string } | null>
  >;
}

/** Figures of films that a shift has changed: of normal against the rest, and of all classes where the model has them. */
export function shiftFigures(
  name: string,
  binary: BinaryFigures | null,
  classes?: {
    readonly ece: number | null;
    readonly balancedAccuracy: number | null;
    readonly intervals: Readonly<Record<string, Interval | null>>;
  },
): ShiftFigures {
  const { auroc = null, sensitivity = null, specificity = null, intervals = {} } = binary ?? {};
  return {
    ...{ name, auroc, sensitivity, specificity },
    ece: classes?.ece ?? null,
    balancedAccuracy: classes?.balancedAccuracy ?? null,
    intervals: {
      auroc: intervals.auroc ?? null,
      sensitivity: intervals.sensitivity ?? null,
      specificity: intervals.specificity ?? null,
      ece: classes?.intervals.ece ?? null,
    },
  };
}

export function suiteOf(shifts: readonly ShiftFigures[]): ShiftSuite {
  const worst = (figure: 'auroc' | 'specificity' | 'ece', sign: 1 | -1): ShiftSuite['worst']['auroc'] =>
    shifts.reduce<ShiftSuite['worst']['auroc']>((found, shift) => {
      const value = shift[figure];
      if (value === null || (found !== null && sign * found.value <= sign * value)) return found;
      return { value, shift: shift.name };
    }, null);
  return {
    shifts,
    worst: { auroc: worst('auroc', 1), specificity: worst('specificity', 1), ece: worst('ece', -1) },
  };
}
