import type { Box } from './image.js';
import type { Mask } from './mask-distance.js';

/** A connected part of a mask. */
export interface Component {
  /** Number of pixels. */
  readonly area: number;
  /** The smallest rectangle around it. */
  readonly box: Box;
  /** Mean position of its pixels' centres. */
  readonly centroid: { readonly x: number; readonly y: number };
}

/** The parts of a mask whose pixels touch at their sides, the largest first, and each pixel's part (0: none, 1: the largest, …). */
export function components({ width, height, data }: Mask): {
  readonly found: readonly Component[];
  readonly labels: Int32Array;
} {
  const labels = new Int32Array(width * height);
  const stack = new Int32Array(width * height);
  const parts: (Component & { readonly label: number })[] = [];
  for (let seed = 0; seed < labels.length; seed++) {
    if ((data[seed] ?? 0) === 0 || labels[seed] !== 0) continue;
    const label = parts.length + 1;
    let [area, sumX, sumY, left, top, right, bottom] = [0, 0, 0, width, height, 0, 0];
    let depth = 1;
    stack[0] = seed;
    labels[seed] = label;
    while (depth > 0) {
      const p = stack[--depth] ?? 0;
      const x = p % width;
      const y = (p - x) / width;
      area++;
      sumX += x + 0.5;
      sumY += y + 0.5;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      if (y > bottom) bottom = y;
      for (const [inside, next] of [
        [x > 0, p - 1],
        [x < width - 1, p + 1],
        [y > 0, p - width],
        [y < height - 1, p + width],
      ] as const) {
        if (!inside || labels[next] !== 0 || (data[next] ?? 0) === 0) continue;
        labels[next] = label;
        stack[depth++] = next;
      }
    }
    parts.push({
      label,
      area,
      box: { x: left, y: top, width: right - left + 1, height: bottom - top + 1 },
      centroid: { x: sumX / area, y: sumY / area },
    });
  }
  parts.sort((a, b) => b.area - a.area);
  const rank = new Int32Array(parts.length + 1);
  parts.forEach(({ label }, i) => (rank[label] = i + 1));
  return {
    found: parts.map(({ area, box, centroid }) => ({ area, box, centroid })),
    labels: labels.map((label) => rank[label] ?? 0),
  };
}
