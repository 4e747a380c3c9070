import { components, type Component } from './components.js';
import type { Box } from './image.js';
import type { Mask } from './mask-distance.js';

/** One lung of a mask; lengths are shares of the film's width and height, the area a share of the film. */
export interface Lung {
  readonly area: number;
  readonly box: Box;
  readonly centroid: { readonly x: number; readonly y: number };
}

/** The contents of a lung mask. Left and right are those of the image, as a viewer shows it. */
export interface Lungs {
  /** Share of the film that is lung. */
  readonly area: number;
  /** The two largest parts; null where there is none. */
  readonly left: Lung | null;
  readonly right: Lung | null;
  /** Whether they may be two lungs, by sizes and positions. */
  readonly plausible: boolean;
  /** The reasons against it; empty if plausible. */
  readonly reason: string;
}

/** Smaller parts are treated as noise: 0.5 % of the film. */
const SMALLEST_PART = 0.005;
/**
 * Limits for two lungs on a film, wider than in 784 hand-drawn masks of children: there each lung covers 8–32 % of the
 * film, the smaller has 61 % of the larger at least, the centres are 30–50 % of the width apart, at most 15 % of the
 * height higher or lower, and at 27–67 % of the height.
 */
const LIMITS = {
  area: [0.03, 0.45],
  ratio: 0.4,
  across: 0.2,
  along: 0.25,
  centre: [0.15, 0.85],
  rest: 0.1,
} as const;

/** The lungs of a mask, and the mask without smaller parts. */
export function findLungs(mask: Mask): { readonly lungs: Lungs; readonly mask: Uint8Array } {
  const { width, height } = mask;
  const film = width * height;
  const { found, labels } = components(mask);
  const parts = found.filter(({ area }) => area >= SMALLEST_PART * film).map((part) => shares(part, mask));
  const kept = Uint8Array.from(labels, (label) => (label > 0 && label <= parts.length ? 255 : 0));
  const [first, second] = parts;
  const sides =
    first !== undefined && second !== undefined
      ? [first, second].sort((a, b) => a.centroid.x - b.centroid.x)
      : first !== undefined && first.centroid.x < 0.5
        ? [first, undefined]
        : [undefined, first];
  const reason = reasonAgainst(parts);
  return {
    lungs: {
      area: parts.reduce((sum, { area }) => sum + area, 0),
      left: sides[0] ?? null,
      right: sides[1] ?? null,
      plausible: reason === '',
      reason,
    },
    mask: kept,
  };
}

function shares({ area, box, centroid }: Component, { width, height }: Mask): Lung {
  return {
    area: area / (width * height),
    box: { x: box.x / width, y: box.y / height, width: box.width / width, height: box.height / height },
    centroid: { x: centroid.x / width, y: centroid.y / height },
  };
}

function reasonAgainst(parts: readonly Lung[]): string {
  const [first, second, ...others] = parts;
  if (first === undefined) return 'no lung was found';
  if (second === undefined) return 'only one lung was found';
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  const [smallest, largest] = LIMITS.area;
  for (const { area, centroid } of [first, second]) {
    if (area < smallest) return `a lung covers only ${percent(area)} of the film`;
    if (area > largest) return `a lung covers ${percent(area)} of the film`;
    if (centroid.y < LIMITS.centre[0] || centroid.y > LIMITS.centre[1]) {
      return `a lung is centred at ${percent(centroid.y)} of the height`;
    }
  }
  if (second.area < LIMITS.ratio * first.area) {
    return `one lung has ${percent(second.area / first.area)} of the other's area`;
  }
  const across = Math.abs(first.centroid.x - second.centroid.x);
  if (across < LIMITS.across) return `the lungs' centres are only ${percent(across)} of the width apart`;
  const along = Math.abs(first.centroid.y - second.centroid.y);
  if (along > LIMITS.along) return `one lung is ${percent(along)} of the height lower than the other`;
  const rest = others.reduce((sum, { area }) => sum + area, 0);
  if (rest > LIMITS.rest * (first.area + second.area)) {
    return `${others.length} more parts cover ${percent(rest)} of the film`;
  }
  return '';
}
