import type { Mask } from './mask-distance.js';

/**
 * The outline of what is above `level`, by marching squares (Lorensen & Cline 1987, in two dimensions) between the
 * pixels' centres.
 *
 * @returns The `d` of an SVG path, in pixels of the mask (its left upper corner is 0, 0); empty where nothing is above.
 */
export function outlineOf({ width, height, data }: Mask, level: number): string {
  // Beyond the edges nothing is above, so that every outline is closed.
  const at = (x: number, y: number): number =>
    x < 0 || y < 0 || x >= width || y >= height ? Math.min(0, level) : (data[y * width + x] ?? 0);
  const segments: string[] = [];
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      const corners = [at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)] as const;
      const crossings = CORNERS.flatMap(([x0, y0], i) => {
        const [from, to] = [corners[i] ?? 0, corners[(i + 1) % 4] ?? 0];
        if (from > level === to > level) return [];
        const [x1, y1] = CORNERS[(i + 1) % 4] ?? [0, 0];
        const share = (level - from) / (to - from);
        const place = (start: number, end: number, offset: number): string =>
          String(Math.round(100 * (offset + 0.5 + start + share * (end - start))) / 100);
        return [`${place(x0, x1, x)} ${place(y0, y1, y)}`];
      });
      // Two parts that touch at a corner stay apart.
      if (crossings.length === 4 && corners[0] <= level) crossings.push(crossings.shift() ?? '');
      for (let i = 0; i < crossings.length; i += 2) {
        segments.push(`M${crossings.at(i - 1) ?? ''}L${crossings[i] ?? ''}`);
      }
    }
  }
  return segments.join('');
}

/** The corners of a square of four pixels' centres, clockwise. */
const CORNERS = [
  [0, 0],
  [1, 0],
  [1, 1],
  [0, 1],
] as const;
