import { outlineDistance, percentile, type Mask } from '../../imaging/mask-distance.js';
import { diceOf } from '../../models/dice.js';
import type { Weights } from './bootstrap.js';
import { withIntervals, type Figure, type Intervals } from './figures.js';

/** Found and true mask of one film, of one size. */
export interface MaskPair {
  readonly found: Mask;
  readonly truth: Mask;
}

/** How well the masks of one film agree. Distances are in percent of the film's diagonal. */
export interface MaskAgreement {
  /** 2 |A ∩ B| ÷ (|A| + |B|). */
  readonly dice: number;
  /** |A ∩ B| ÷ |A ∪ B|. */
  readonly iou: number;
  /** 95th percentile of the distances between the outlines; 100 where one of the masks is empty. */
  readonly hd95: number;
  /** Their mean. */
  readonly assd: number;
}

/** Means over the films, the fifth percentile of Dice, and 95 % intervals under the same names. */
export interface SegmentationFigures {
  readonly kind: 'segmenter';
  readonly films: number;
  readonly dice: number | null;
  readonly diceFifthPercentile: number | null;
  readonly iou: number | null;
  readonly hd95: number | null;
  readonly assd: number | null;
  readonly intervals: Intervals;
}

/** Compares two masks of one size. */
export function agreement({ found, truth }: MaskPair): MaskAgreement {
  const dice = diceOf(found.data, truth.data);
  const apart = outlineDistance(found, truth);
  const diagonal = Math.hypot(truth.width, truth.height);
  const none = dice === 1 ? 0 : 100;
  return {
    dice,
    iou: dice / (2 - dice),
    hd95: apart === null ? none : (100 * apart.hd95) / diagonal,
    assd: apart === null ? none : (100 * apart.assd) / diagonal,
  };
}

/** Figures over films; `resamples` of them give the intervals. */
export function segmentationFigures(
  films: readonly MaskAgreement[],
  resamples: readonly Weights[] = [],
): SegmentationFigures {
  const mean =
    (name: keyof MaskAgreement): Figure =>
    (weights) => {
      let sum = 0;
      let count = 0;
      films.forEach((film, i) => {
        const weight = weights?.[i] ?? (weights === undefined ? 1 : 0);
        sum += weight * film[name];
        count += weight;
      });
      return count === 0 ? null : sum / count;
    };
  const fifth: Figure = (weights) => {
    const values = films.flatMap(({ dice }, i) =>
      new Array<number>(weights === undefined ? 1 : (weights[i] ?? 0)).fill(dice),
    );
    return values.length === 0
      ? null
      : percentile(
          values.sort((a, b) => a - b),
          0.05,
        );
  };
  const figures = {
    dice: mean('dice'),
    diceFifthPercentile: fifth,
    iou: mean('iou'),
    hd95: mean('hd95'),
    assd: mean('assd'),
  };
  return { kind: 'segmenter', films: films.length, ...withIntervals(figures, resamples) };
}
