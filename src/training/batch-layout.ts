import type { Box } from '../imaging/image.js';

/** A box in pixels of a prepared film, and the index of its label. */
export interface BoxInImage extends Box {
  readonly label: number;
}

/** A box in a batch: its corners `x0, y0, x1, y1` and the index of its label. */
export const BOX_NUMBERS = 5;

/** How many boxes each film of a batch has room for. */
export function mostBoxes(boxes: readonly (readonly BoxInImage[])[] | undefined): number {
  return (boxes ?? []).reduce((most, { length }) => Math.max(most, length), 0);
}
