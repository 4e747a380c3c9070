import type { Image } from '../core/frame.js';

/** A mask: anything above 0 belongs to it. */
export type Mask = Pick<Image, 'width' | 'height'> & { readonly data: ArrayLike<number> };

/** How far the outlines of two masks of one size are apart, in pixels; null where one of them is empty. */
export interface OutlineDistance {
  /** The larger of the two 95th percentiles of the distances from one outline to the other. */
  readonly hd95: number;
  /** Mean of all distances from either outline to the other (average symmetric surface distance). */
  readonly assd: number;
}

/** Distances between the outlines of two masks: pixels of the mask with a side neighbour outside of it. */
export function outlineDistance(a: Mask, b: Mask): OutlineDistance | null {
  const [edgeA, edgeB] = [outline(a), outline(b)];
  if (edgeA.length === 0 || edgeB.length === 0) return null;
  const squaredToA = squaredDistanceTo(edgeA, a);
  const squaredToB = squaredDistanceTo(edgeB, b);
  const fromA = Array.from(edgeA, (p) => Math.sqrt(squaredToB[p] ?? 0)).sort((x, y) => x - y);
  const fromB = Array.from(edgeB, (p) => Math.sqrt(squaredToA[p] ?? 0)).sort((x, y) => x - y);
  const sum = (values: readonly number[]): number => values.reduce((x, y) => x + y, 0);
  return {
    hd95: Math.max(percentile(fromA, 0.95), percentile(fromB, 0.95)),
    assd: (sum(fromA) + sum(fromB)) / (fromA.length + fromB.length),
  };
}

/** Of sorted values, interpolated linearly as numpy does. */
export function percentile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? NaN;
  return below + (at % 1) * ((sorted[Math.ceil(at)] ?? NaN) - below);
}

/** Pixels of a mask with a side neighbour outside of it; beyond the image is outside. */
function outline({ width, height, data }: Mask): Uint32Array {
  const inside = (x: number, y: number): boolean =>
    x >= 0 && y >= 0 && x < width && y < height && (data[y * width + x] ?? 0) > 0;
  const found: number[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside(x, y)) continue;
      if (inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1)) continue;
      found.push(y * width + x);
    }
  }
  return Uint32Array.from(found);
}

/** The squared Euclidean distance of every pixel to the nearest of some (Felzenszwalb and Huttenlocher 2012). */
function squaredDistanceTo(pixels: Uint32Array, { width, height }: Mask): Float64Array {
  // Larger than any distance, but finite: the parabolas below subtract it.
  const far = 4 * (width * width + height * height);
  const distance = new Float64Array(width * height).fill(far);
  for (const p of pixels) distance[p] = 0;
  const size = Math.max(width, height);
  const values = new Float64Array(size);
  const vertices = new Int32Array(size);
  const borders = new Float64Array(size + 1);
  /** The lower envelope of the parabolas over one line of samples. */
  const along = (start: number, step: number, length: number): void => {
    for (let i = 0; i < length; i++) values[i] = distance[start + i * step] ?? far;
    const meet = (q: number, v: number): number =>
      ((values[q] ?? 0) + q * q - ((values[v] ?? 0) + v * v)) / (2 * q - 2 * v);
    let top = 0;
    vertices[0] = 0;
    borders[0] = -Infinity;
    borders[1] = Infinity;
    for (let q = 1; q < length; q++) {
      let at = meet(q, vertices[top] ?? 0);
      while (at <= (borders[top] ?? 0)) at = meet(q, vertices[--top] ?? 0);
      vertices[++top] = q;
      borders[top] = at;
      borders[top + 1] = Infinity;
    }
    for (let i = 0, k = 0; i < length; i++) {
      while ((borders[k + 1] ?? Infinity) < i) k++;
      const v = vertices[k] ?? 0;
      distance[start + i * step] = (i - v) ** 2 + (values[v] ?? 0);
    }
  };
  for (let x = 0; x < width; x++) along(x, width, height);
  for (let y = 0; y < height; y++) along(y * width, 1, width);
  return distance;
}
