import type { Corners } from './anchors.js';

/** Largest logarithm of a size relative to its anchor that is decoded: 62.5 times (Girshick et al., Detectron). */
export const MAX_LOG_SCALE = Math.log(1000 / 16);

/**
 * Boxes relative to their anchors (Girshick et al. 2014, as torchvision's `BoxCoder` with weights of 1): offsets of the
 * centres in anchor sizes, and logarithms of the sizes' ratios. `[n,4]` both; returns `dx, dy, dw, dh`.
 */
export function encodeBoxes(boxes: Corners, anchors: Corners): Float32Array {
  const coded = new Float32Array(anchors.length);
  for (let i = 0; i < anchors.length; i += 4) {
    const [x, y, w, h] = centred(boxes, i);
    const [ax, ay, aw, ah] = centred(anchors, i);
    coded[i] = (x - ax) / aw;
    coded[i + 1] = (y - ay) / ah;
    coded[i + 2] = Math.log(w / aw);
    coded[i + 3] = Math.log(h / ah);
  }
  return coded;
}

/** The inverse of {@link encodeBoxes}; sizes are at most {@link MAX_LOG_SCALE} of the anchor's. */
export function decodeBoxes(coded: Float32Array, anchors: Corners): Corners {
  const boxes = new Float32Array(anchors.length);
  for (let i = 0; i < anchors.length; i += 4) {
    const [ax, ay, aw, ah] = centred(anchors, i);
    const x = ax + (coded[i] ?? 0) * aw;
    const y = ay + (coded[i + 1] ?? 0) * ah;
    const w = aw * Math.exp(Math.min(coded[i + 2] ?? 0, MAX_LOG_SCALE));
    const h = ah * Math.exp(Math.min(coded[i + 3] ?? 0, MAX_LOG_SCALE));
    boxes.set([x - w / 2, y - h / 2, x + w / 2, y + h / 2], i);
  }
  return boxes;
}

/** Centre and size of the box at element `i`. */
function centred(boxes: Corners, i: number): [number, number, number, number] {
  const [x0 = 0, y0 = 0, x1 = 0, y1 = 0] = boxes.subarray(i, i + 4);
  return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0];
}

/** The class of an anchor without a box: background, or too close to a box to count as background. */
export const BACKGROUND = -1;
export const BETWEEN = -2;

/** From which overlap on an anchor has a box, and below which it is background. */
export interface Overlaps {
  readonly object: number;
  readonly background: number;
}

/** The paper's. */
const OVERLAPS: Overlaps = { object: 0.5, background: 0.4 };

/**
 * For each anchor the index of the box that it overlaps most, {@link BACKGROUND} or {@link BETWEEN}. Each box also gets
 * the anchors that overlap it most, however little that is (torchvision's `Matcher` with `allow_low_quality_matches`).
 * The arithmetic is in single precision, as there, so that ties are the same.
 */
export function matchAnchors(
  anchors: Corners,
  boxes: Corners,
  { object, background }: Overlaps = OVERLAPS,
): Int32Array {
  const count = anchors.length / 4;
  const of = boxes.length / 4;
  const best = new Int32Array(count).fill(BACKGROUND);
  if (of === 0) return best;
  const most = new Float32Array(count).fill(-1);
  const mostOfBox = new Float32Array(of);
  const overlaps = new Float32Array(count * of);
  for (let b = 0; b < of; b++) {
    for (let a = 0; a < count; a++) {
      const overlap = overlapOf(boxes, 4 * b, anchors, 4 * a);
      overlaps[b * count + a] = overlap;
      if (overlap > (most[a] ?? 0)) {
        most[a] = overlap;
        best[a] = b;
      }
      if (overlap > (mostOfBox[b] ?? 0)) mostOfBox[b] = overlap;
    }
  }
  const matches = best.map((box, a) => {
    const overlap = most[a] ?? 0;
    return overlap >= Math.fround(object) ? box : overlap < Math.fround(background) ? BACKGROUND : BETWEEN;
  });
  for (let b = 0; b < of; b++) {
    const highest = mostOfBox[b] ?? 0;
    if (highest === 0) continue;
    for (let a = 0; a < count; a++) {
      if (overlaps[b * count + a] === highest) matches[a] = best[a] ?? b;
    }
  }
  return matches;
}

/** Intersection over union of the box at element `i` of one list and at element `j` of the other, in single precision. */
function overlapOf(one: Corners, i: number, other: Corners, j: number): number {
  const { fround, max, min } = Math;
  const ax0 = one[i] ?? 0;
  const ay0 = one[i + 1] ?? 0;
  const ax1 = one[i + 2] ?? 0;
  const ay1 = one[i + 3] ?? 0;
  const bx0 = other[j] ?? 0;
  const by0 = other[j + 1] ?? 0;
  const bx1 = other[j + 2] ?? 0;
  const by1 = other[j + 3] ?? 0;
  const width = fround(min(ax1, bx1) - max(ax0, bx0));
  const height = fround(min(ay1, by1) - max(ay0, by0));
  if (width <= 0 || height <= 0) return 0;
  const both = fround(width * height);
  const a = fround(fround(ax1 - ax0) * fround(ay1 - ay0));
  const b = fround(fround(bx1 - bx0) * fround(by1 - by0));
  return fround(both / fround(fround(a + b) - both));
}
