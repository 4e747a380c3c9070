import type { FoundBox } from '../../core/frame.js';
import type { Weights } from './bootstrap.js';
import { withIntervals, type Figure, type Intervals } from './figures.js';

/** A rectangle of one label, in pixels. */
export interface LabelledBox {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly label: string;
}

/** What was found on one film, and what is there. */
export interface DetectedFilm {
  readonly found: readonly FoundBox[];
  readonly truth: readonly LabelledBox[];
}

/** False positives per film at which the FROC curve is read (LUNA16). */
export const FROC_POINTS = [0.125, 0.25, 0.5, 1, 2, 4, 8] as const;

export interface DetectionFigures {
  readonly kind: 'detector';
  readonly films: number;
  readonly boxes: number;
  /** Mean average precision at an overlap (IoU) of a half. */
  readonly map50: number | null;
  /** Mean over the overlaps 0.5, 0.55, …, 0.95 (COCO). */
  readonly map: number | null;
  /** Mean over the overlaps 0.4, 0.45, …, 0.75 (RSNA). */
  readonly mapRsna: number | null;
  /** Share of the boxes that are found at one false positive per film, at an overlap of a half. */
  readonly sensitivityAt1: number | null;
  readonly intervals: Intervals;
  /** Average precision at a half, by label; null for one without boxes. */
  readonly perLabel: Readonly<Record<string, number | null>>;
  /** Sensitivity by false positives per film, at an overlap of a half. */
  readonly froc: readonly { readonly falsePositives: number; readonly sensitivity: number | null }[];
}

/** As numpy's `linspace`, to the last bit. */
function linspace(start: number, stop: number, count: number): number[] {
  const step = (stop - start) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? stop : i * step + start));
}

export const COCO_OVERLAPS = linspace(0.5, 0.95, 10);
export const RSNA_OVERLAPS = linspace(0.4, 0.75, 8);
const RECALLS = linspace(0, 1, 101);
/** More boxes of a label on one film than this are not looked at, the least sure first (COCO's `maxDets`). */
const MOST = 100;

/** One found box after matching. */
interface Judged {
  readonly film: number;
  readonly score: number;
  readonly isHit: boolean;
}

/**
 * Figures over films; `resamples` of them give the intervals. Average precision is COCO's (101 recall points, 100
 * boxes per film and label, all areas), as pycocotools computes it.
 */
export function detectionFigures(
  films: readonly DetectedFilm[],
  labels: readonly string[],
  resamples: readonly Weights[] = [],
): DetectionFigures {
  const judged = new Map<number, readonly Judged[][]>();
  const at = (overlap: number): readonly Judged[][] => {
    const known = judged.get(overlap);
    if (known !== undefined) return known;
    const made = labels.map((label) => judge(films, label, overlap));
    judged.set(overlap, made);
    return made;
  };
  const boxes = labels.map((label) =>
    films.map(({ truth }) => truth.filter((box) => box.label === label).length),
  );
  const meanOver =
    (overlaps: readonly number[]): Figure =>
    (weights) => {
      const all = overlaps.flatMap((overlap) =>
        at(overlap).map((found, i) => averagePrecision(found, boxes[i] ?? [], weights)),
      );
      const known = all.filter((value) => value !== null);
      return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
    };
  const half = at(0.5);
  const every = half.flat().sort((a, b) => b.score - a.score);
  const perFilm = films.map((_, film) => boxes.reduce((sum, of) => sum + (of[film] ?? 0), 0));
  const figures = {
    map50: meanOver([0.5]),
    map: meanOver(COCO_OVERLAPS),
    mapRsna: meanOver(RSNA_OVERLAPS),
    sensitivityAt1: (weights?: Weights) => sensitivityAt(every, perFilm, 1, weights),
  };
  return {
    kind: 'detector',
    films: films.length,
    boxes: perFilm.reduce((a, b) => a + b, 0),
    ...withIntervals(figures, resamples),
    perLabel: Object.fromEntries(
      labels.map((label, i) => [label, averagePrecision(half[i] ?? [], boxes[i] ?? [])]),
    ),
    froc: FROC_POINTS.map((falsePositives) => ({
      falsePositives,
      sensitivity: sensitivityAt(every, perFilm, falsePositives),
    })),
  };
}

/**
 * The found boxes of a label over all films, surest first, and which of them hit: each takes the free true box that it
 * overlaps most, surer boxes first (pycocotools' `evaluateImg`).
 */
function judge(films: readonly DetectedFilm[], label: string, overlap: number): Judged[] {
  const judged = films.flatMap(({ found, truth }, film) => {
    const there = truth.filter((box) => box.label === label);
    const taken = there.map(() => false);
    return found
      .filter((box) => box.label === label)
      .sort((a, b) => b.score - a.score)
      .slice(0, MOST)
      .map((box): Judged => {
        let best = -1;
        let most = Math.min(overlap, 1 - 1e-10);
        there.forEach((other, i) => {
          const iou = iouOf(box, other);
          if (taken[i] === true || iou < most) return;
          most = iou;
          best = i;
        });
        if (best >= 0) taken[best] = true;
        return { film, score: box.score, isHit: best >= 0 };
      });
  });
  return judged.sort((a, b) => b.score - a.score);
}

/** Intersection over union of two rectangles. */
export function iouOf(a: Omit<LabelledBox, 'label'>, b: Omit<LabelledBox, 'label'>): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  return both / (a.width * a.height + b.width * b.height - both);
}

/**
 * The mean of the precision at 101 recalls, each the highest at that recall or beyond; null without true boxes.
 *
 * @param boxes How many true boxes each film has.
 */
function averagePrecision(
  found: readonly Judged[],
  boxes: readonly number[],
  weights?: Weights,
): number | null {
  const all = total(boxes, weights);
  if (all === 0) return null;
  const recalls: number[] = [];
  const precisions: number[] = [];
  let hits = 0;
  let misses = 0;
  for (const { film, isHit } of found) {
    const weight = weights === undefined ? 1 : (weights[film] ?? 0);
    if (weight === 0) continue;
    if (isHit) hits += weight;
    else misses += weight;
    recalls.push(hits / all);
    precisions.push(hits / (hits + misses + Number.EPSILON));
  }
  for (let i = precisions.length - 1; i > 0; i--) {
    precisions[i - 1] = Math.max(precisions[i - 1] ?? 0, precisions[i] ?? 0);
  }
  let sum = 0;
  let at = 0;
  for (const recall of RECALLS) {
    while (at < recalls.length && (recalls[at] ?? 0) < recall) at++;
    sum += precisions[at] ?? 0;
  }
  return sum / RECALLS.length;
}

/** The highest share of the true boxes that is found with at most so many false positives per film. */
function sensitivityAt(
  found: readonly Judged[],
  boxes: readonly number[],
  falsePositives: number,
  weights?: Weights,
): number | null {
  const all = total(boxes, weights);
  if (all === 0) return null;
  const films =
    weights === undefined ? boxes.length : boxes.reduce((sum, _, film) => sum + (weights[film] ?? 0), 0);
  let hits = 0;
  let misses = 0;
  let best = 0;
  found.forEach(({ film, score, isHit }, i) => {
    const weight = weights === undefined ? 1 : (weights[film] ?? 0);
    if (isHit) hits += weight;
    else misses += weight;
    // Boxes of one score come above or below a threshold together.
    if (found[i + 1]?.score !== score && misses <= falsePositives * films) best = Math.max(best, hits / all);
  });
  return best;
}

function total(boxes: readonly number[], weights?: Weights): number {
  return boxes.reduce(
    (sum, count, film) => sum + count * (weights === undefined ? 1 : (weights[film] ?? 0)),
    0,
  );
}

/** Without boxes to choose by. */
const USUAL_THRESHOLD = 0.5;

/**
 * The score from which boxes of a label count so that precision and recall are best together (F1, at an overlap of a
 * half): halfway between the least sure box that counts and the next one.
 */
export function bestThreshold(films: readonly DetectedFilm[], label: string): number {
  const found = judge(films, label, 0.5);
  const all = films.reduce((sum, { truth }) => sum + truth.filter((box) => box.label === label).length, 0);
  let best = { f1: 0, threshold: USUAL_THRESHOLD };
  let hits = 0;
  found.forEach(({ score, isHit }, i) => {
    if (isHit) hits++;
    const next = found[i + 1]?.score ?? 0;
    const f1 = (2 * hits) / (i + 1 + all);
    if (next !== score && f1 > best.f1) best = { f1, threshold: (score + next) / 2 };
  });
  return best.threshold;
}
