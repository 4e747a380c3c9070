import type { Image, Samples } from '../core/frame.js';
import { blankLike } from './image.js';

/** Interpolation as the Python library Pillow does it, which torchvision and timm use. */
export const PIL_INTERPOLATIONS = ['pil-bilinear', 'pil-bicubic'] as const;
export type PilInterpolation = (typeof PIL_INTERPOLATIONS)[number];

interface Filter {
  /** Half of its width, in pixels of the larger image. */
  readonly support: number;
  weight(distance: number): number;
}

const FILTERS: Readonly<Record<PilInterpolation, Filter>> = {
  'pil-bilinear': { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  'pil-bicubic': { support: 2, weight: cubic },
};

/** Keys' cubic with a = −0.5. */
function cubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/**
 * The image at another size, bit for bit as `PIL.Image.resize` for 8-bit grey and RGB: when it shrinks, the filter grows
 * with the scale, so that nothing aliases (what torchvision calls `antialias`). 16-bit samples are summed in double
 * precision and rounded after each direction, as Pillow does with `I;16`; floating-point samples are not rounded, as with `F`.
 *
 * Source: Pillow, src/libImaging/Resample.c.
 */
export function resizeAsPil(
  image: Image,
  width: number,
  height: number,
  interpolation: PilInterpolation,
): Image {
  const filter = FILTERS[interpolation];
  const { channels } = image;
  let { data } = image;
  if (width !== image.width) {
    const across = {
      ...{ lines: image.height, size: image.width, newSize: width },
      ...{ lineStep: image.width * channels, newLineStep: width * channels, pixelStep: channels, channels },
    };
    data = resample(data, across, filter);
  }
  if (height !== image.height) {
    const row = width * channels;
    // Column by column; a sample of a row is a line of its own.
    const down = {
      ...{ lines: row, size: image.height, newSize: height },
      ...{ lineStep: 1, newLineStep: 1, pixelStep: row, channels: 1 },
    };
    data = resample(data, down, filter);
  }
  return { width, height, channels, data: data === image.data ? data.slice() : data };
}

/** One direction of an image: `lines` of `size` pixels become as many of `newSize`. Steps are in samples. */
interface Direction {
  readonly lines: number;
  readonly size: number;
  readonly newSize: number;
  readonly lineStep: number;
  readonly newLineStep: number;
  readonly pixelStep: number;
  readonly channels: number;
}

function resample<S extends Samples>(data: S, direction: Direction, filter: Filter): S {
  const { lines, size, newSize, lineStep, newLineStep, pixelStep, channels } = direction;
  const { first, count, weights, most } = weightsOf(size, newSize, filter);
  const result = blankLike(data, (data.length / size) * newSize);
  const finish = FINISH[data.constructor.name as keyof typeof FINISH];
  const scaled = data instanceof Uint8Array ? fixedPoint(weights) : weights;
  const start = data instanceof Uint8Array ? HALF : 0;
  for (let at = 0; at < newSize; at++) {
    const from = (first[at] ?? 0) * pixelStep;
    const taps = count[at] ?? 0;
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        let source = line * lineStep + from + c;
        let sum = start;
        for (let tap = 0; tap < taps; tap++, source += pixelStep) {
          sum += (data[source] ?? 0) * (scaled[at * most + tap] ?? 0);
        }
        result[line * newLineStep + at * pixelStep + c] = finish(sum);
      }
    }
  }
  return result;
}

/** Pillow's fixed point for 8-bit images: 22 bits behind the point. */
const ONE = 1 << 22;
const HALF = ONE / 2;

function fixedPoint(weights: Float64Array): Float64Array {
  return weights.map((weight) => Math.trunc(weight * ONE + (weight < 0 ? -0.5 : 0.5)));
}

const FINISH = {
  Uint8Array: (sum: number): number => Math.min(255, Math.max(0, Math.floor(sum / ONE))),
  Uint16Array: (sum: number): number => Math.min(65535, Math.max(0, Math.floor(sum + 0.5))),
  Float32Array: (sum: number): number => sum,
} as const;

interface Weights {
  /** The first pixel that counts for each new one, and how many do. */
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `most` for each new pixel. */
  readonly weights: Float64Array;
  readonly most: number;
}

function weightsOf(size: number, newSize: number, { support: half, weight }: Filter): Weights {
  const scale = size / newSize;
  const stretch = Math.max(1, scale);
  const support = half * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(newSize);
  const count = new Int32Array(newSize);
  const weights = new Float64Array(newSize * most);
  const perPixel = 1 / stretch;
  for (let at = 0; at < newSize; at++) {
    const center = (at + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - support + 0.5));
    const high = Math.min(size, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let i = 0; i < high - low; i++) {
      const each = weight((i + low - center + 0.5) * perPixel);
      weights[at * most + i] = each;
      sum += each;
    }
    for (let i = 0; i < high - low && sum !== 0; i++) {
      weights[at * most + i] = (weights[at * most + i] ?? 0) / sum;
    }
    first[at] = low;
    count[at] = high - low;
  }
  return { first, count, weights, most };
}
