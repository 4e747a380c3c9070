import { z } from 'zod';
import { boxMuller, seededRandom, type Random } from '../models/random.js';
import { clahe } from '../imaging/kernels.js';
import type { Box } from '../imaging/image.js';
import type { IntegerSamples } from './preprocess.js';

/** The augmentation in training. Each value is the bound of a uniform distribution; 0 switches it off. */
export interface Augmentation {
  /** Degrees, either way. */
  readonly rotate: number;
  /** Degrees, either way. */
  readonly shear: number;
  /** Of the width and of the height, either way. */
  readonly shift: number;
  /** Either way: 0.15 scales by 1/1.15 … 1.15. */
  readonly zoom: number;
  /**
   * Stretches width against height, either way: 0.2 changes their ratio by 1/1.2 … 1.2. It hides the shape of the
   * originals, which may differ between classes, if films are scaled to a square.
   */
  readonly aspect: number;
  /** Probability of a mirror image. It moves the heart to the other side: 0 by default. */
  readonly flip: number;
  /** Of the full range, either way. */
  readonly brightness: number;
  /** Multiplies all grey levels by a factor out of this range, as Keras' `brightness_range`; [1, 1] is off. */
  readonly brightnessRange: readonly [number, number];
  /** Either way, about mid grey. */
  readonly contrast: number;
  /** Either way: 0.2 raises to a power of 1/1.2 … 1.2. */
  readonly gamma: number;
  /** Greatest side of a square set to mid grey, of the image's side (DeVries and Taylor 2017). */
  readonly cutOut: number;
  /** Greatest standard deviation of normal noise on every pixel, of the full range. */
  readonly noise: number;
  /** Greatest standard deviation of a Gaussian blur, in pixels. */
  readonly blur: number;
  /** Probability that the film takes the grey levels of another film of its batch. */
  readonly histogram: number;
  /** Probability that CLAHE is applied, with a clip limit of 1 … 4 and 8 tiles a side. */
  readonly clahe: number;
  /** Probability that pixels from outside the film are black instead of the repeated edge. */
  readonly border: number;
}

/** The settings as written by users, with sensible limits. */
export const augmentationSchema = z.strictObject({
  rotate: z.number().min(0).max(180),
  shear: z.number().min(0).max(45),
  shift: z.number().min(0).max(0.5),
  zoom: z.number().min(0).max(3),
  aspect: z.number().min(0).max(3),
  flip: z.number().min(0).max(1),
  brightness: z.number().min(0).max(1),
  brightnessRange: z.tuple([z.number().min(0).max(10), z.number().min(0).max(10)]),
  contrast: z.number().min(0).max(3),
  gamma: z.number().min(0).max(3),
  cutOut: z.number().min(0).max(1),
  noise: z.number().min(0).max(1),
  blur: z.number().min(0).max(8),
  histogram: z.number().min(0).max(1),
  clahe: z.number().min(0).max(1),
  border: z.number().min(0).max(1),
});

export const NO_AUGMENTATION: Augmentation = {
  rotate: 0,
  shear: 0,
  shift: 0,
  zoom: 0,
  aspect: 0,
  flip: 0,
  brightness: 0,
  brightnessRange: [1, 1],
  contrast: 0,
  gamma: 0,
  cutOut: 0,
  noise: 0,
  blur: 0,
  histogram: 0,
  clahe: 0,
  border: 0,
};

/** For classifiers of chest films: strong in properties that are unrelated to the lung. */
export const CHEST_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 12,
  shear: 6,
  shift: 0.08,
  zoom: 0.2,
  aspect: 0.3,
  brightness: 0.15,
  contrast: 0.3,
  gamma: 0.3,
  cutOut: 0.4,
  noise: 0.03,
};

/** As in the project that rxray grew from (Keras): every training film at a fifth of its brightness. */
export const ORIGINAL_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 20,
  shear: 0.1,
  shift: 0.1,
  flip: 0.5,
  brightnessRange: [0.2, 0.2],
};

/** For generators, which reproduce what they are trained on: gentle, without cut-out. */
export const GENTLE_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 4,
  shear: 2,
  shift: 0.03,
  zoom: 0.05,
  aspect: 0.05,
  brightness: 0.03,
  contrast: 0.08,
  gamma: 0.08,
};

/** For networks that find objects: a film may be turned, moved and exposed otherwise; nothing is cut out of it. */
export const DETECTION_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 8,
  shift: 0.08,
  zoom: 0.2,
  aspect: 0.15,
  flip: 0.5,
  brightness: 0.1,
  contrast: 0.25,
  gamma: 0.25,
  noise: 0.03,
};

/** For segmentation: rotation, crop and exposure in many ways. */
export const SEGMENTATION_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 15,
  shear: 6,
  shift: 0.1,
  zoom: 0.3,
  aspect: 0.3,
  flip: 0.5,
  brightness: 0.15,
  contrast: 0.5,
  gamma: 0.5,
  cutOut: 0.3,
  noise: 0.03,
  blur: 1,
  border: 0.5,
};

/**
 * For classifiers of films from other sources: `chest`, with changes of contrast and detail by scanners and viewers.
 */
export const ELSEWHERE_AUGMENTATION: Augmentation = {
  ...CHEST_AUGMENTATION,
  flip: 0.5,
  contrast: 0.6,
  gamma: 0.6,
  noise: 0.05,
  blur: 1.2,
  clahe: 0.5,
  border: 0.3,
};

/** For a network that detects pasted patches: realistic changes only. */
export const PRETEXT_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 8,
  shift: 0.05,
  zoom: 0.1,
  aspect: 0.1,
  brightness: 0.08,
  contrast: 0.15,
  gamma: 0.2,
};

/** The sets that have a name. */
export const AUGMENTATIONS: Readonly<Record<string, Augmentation>> = {
  chest: CHEST_AUGMENTATION,
  elsewhere: ELSEWHERE_AUGMENTATION,
  gentle: GENTLE_AUGMENTATION,
  original: ORIGINAL_AUGMENTATION,
};

/** A mask that is moved as its film is, and where to write it as 0–1. */
export interface AugmentedMask {
  readonly source: IntegerSamples;
  readonly target: Float32Array;
}

/**
 * Varies one grey image of `width` × `height` samples and writes it to `target` as 0–1. One affine
 * warp about the centre, sampled bilinearly, edge pixels repeated outside or black; then the square is cut
 * out. A mask gets the same warp and nothing else.
 *
 * Returns the warp, for {@link movedBox}.
 */
export function augment(
  source: IntegerSamples,
  width: number,
  height: number,
  settings: Augmentation,
  random: Random,
  target: Float32Array,
  mask?: AugmentedMask,
): AffineMap {
  const { rotate, shear, shift, zoom, aspect, flip, brightness, contrast, gamma, cutOut, noise } = settings;
  const [darkest, brightest] = settings.brightnessRange;
  const either = (range: number): number => (random() * 2 - 1) * range;
  const factor = (range: number): number => (1 + range) ** either(1);

  // Every setting draws a random number, also if it is off, so that changing one does not change the others.
  const angle = (either(rotate) * Math.PI) / 180;
  const slant = Math.tan((either(shear) * Math.PI) / 180);
  const dx = either(shift) * width;
  const dy = either(shift) * height;
  const scale = factor(zoom);
  const stretch = Math.sqrt(factor(aspect));
  const mirror = random() < flip ? -1 : 1;
  const tone = { brightness: either(brightness), contrast: factor(contrast), gamma: factor(gamma) };
  const gain = darkest === brightest ? darkest : darkest + random() * (brightest - darkest);
  // These were added later and draw only if they are on, so that older settings give the same films.
  const equalised =
    settings.clahe > 0 && random() < settings.clahe
      ? clahe({ width, height, channels: 1, data: source }, 1 + 3 * random(), 8).data
      : source;
  const black = settings.border > 0 && random() < settings.border;
  const sigma = settings.blur > 0 ? random() * settings.blur : 0;
  const toned = toneOf(equalised as IntegerSamples, { ...tone, gain });

  // The map from target to source. It is used as the inverse of rotate · shear · scale: since that is random, it need
  // not be inverted.
  const sx = (mirror * stretch) / scale;
  const sy = 1 / (stretch * scale);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const map = {
    xx: sx * cos,
    xy: sx * (slant * cos - sin),
    yx: sy * sin,
    yy: sy * (slant * sin + cos),
    dx,
    dy,
  };
  warp(toned, width, height, map, black, target);
  if (mask !== undefined) warp(toneOf(mask.source, AS_IT_IS), width, height, map, black, mask.target);

  const side = random() * cutOut;
  const left = Math.round(random() * width - (side * width) / 2);
  const head = Math.round(random() * height - (side * height) / 2);
  for (let y = Math.max(0, head); y < Math.min(height, head + side * height); y++) {
    target.fill(
      0.5,
      y * width + Math.max(0, left),
      y * width + Math.max(0, Math.min(width, left + side * width)),
    );
  }

  if (sigma > MIN_SIGMA) blur(target, width, height, sigma);
  const std = random() * noise;
  if (std > 0) addNoise(target, std, random);
  return map;
}

/** Of a box that reaches out of the image, less than this share of its area no longer counts as an object. */
const LEAST_VISIBLE = 0.4;

/**
 * The box after the warp of {@link augment}: the smallest rectangle around the ellipse that fills it, cut at the
 * image's edges. Undefined where too little of it is left.
 */
export function movedBox(
  box: Box,
  width: number,
  height: number,
  { xx, xy, yx, yy, dx, dy }: AffineMap,
): Box | undefined {
  const [cx, cy] = [(width - 1) / 2, (height - 1) / 2];
  // Samples are points in the middle of their pixels.
  const u = box.x + box.width / 2 - 0.5 - cx - dx;
  const v = box.y + box.height / 2 - 0.5 - cy - dy;
  const determinant = xx * yy - xy * yx;
  const x = (yy * u - xy * v) / determinant + cx + 0.5;
  const y = (xx * v - yx * u) / determinant + cy + 0.5;
  const across = Math.hypot(yy * box.width, xy * box.height) / Math.abs(determinant);
  const down = Math.hypot(yx * box.width, xx * box.height) / Math.abs(determinant);
  const left = Math.max(0, x - across / 2);
  const top = Math.max(0, y - down / 2);
  const right = Math.min(width, x + across / 2);
  const bottom = Math.min(height, y + down / 2);
  const visible = Math.max(0, right - left) * Math.max(0, bottom - top);
  if (visible < LEAST_VISIBLE * across * down) return undefined;
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** An affine map from target to source pixels, about the centre. */
export interface AffineMap {
  readonly xx: number;
  readonly xy: number;
  readonly yx: number;
  readonly yy: number;
  readonly dx: number;
  readonly dy: number;
}

/**
 * Samples `source` bilinearly at the position of each pixel of `target` by `map`; outside it is black, or the edge is
 * repeated.
 */
export function warp(
  source: Float32Array,
  width: number,
  height: number,
  { xx, xy, yx, yy, dx, dy }: AffineMap,
  black: boolean,
  target: Float32Array,
): void {
  const cx = (width - 1) / 2;
  const cy = (height - 1) / 2;
  const right = width - 1;
  const bottom = height - 1;
  let at = 0;
  for (let y = 0; y < height; y++) {
    let u = cx + dx - xx * cx + xy * (y - cy);
    let v = cy + dy - yx * cx + yy * (y - cy);
    for (let x = 0; x < width; x++, u += xx, v += yx) {
      if (black && (u < -0.5 || v < -0.5 || u > right + 0.5 || v > bottom + 0.5)) {
        target[at++] = 0;
        continue;
      }
      const uc = u < 0 ? 0 : u > right ? right : u;
      const vc = v < 0 ? 0 : v > bottom ? bottom : v;
      const u0 = uc | 0;
      const v0 = vc | 0;
      const u1 = u0 < right ? u0 + 1 : right;
      const top = v0 * width;
      const low = v0 < bottom ? top + width : top;
      const fu = uc - u0;
      const fv = vc - v0;
      const a = source[top + u0] ?? 0;
      const b = source[top + u1] ?? 0;
      const c = source[low + u0] ?? 0;
      const d = source[low + u1] ?? 0;
      const upper = a + (b - a) * fu;
      target[at++] = upper + (c + (d - c) * fu - upper) * fv;
    }
  }
}

/** Below this standard deviation a Gaussian changes nothing worth the work. */
const MIN_SIGMA = 0.2;

/** Gaussian blur in place, edge pixels repeated outside. */
function blur(image: Float32Array, width: number, height: number, sigma: number): void {
  const radius = Math.ceil(2.5 * sigma);
  const kernel = Float32Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)),
  );
  const sum = kernel.reduce((a, b) => a + b, 0);
  const line = new Float32Array(Math.max(width, height));
  const along = (start: number, step: number, length: number): void => {
    for (let i = 0; i < length; i++) line[i] = image[start + i * step] ?? 0;
    for (let i = 0; i < length; i++) {
      let value = 0;
      for (let k = -radius; k <= radius; k++) {
        const from = Math.min(length - 1, Math.max(0, i + k));
        value += (kernel[k + radius] ?? 0) * (line[from] ?? 0);
      }
      image[start + i * step] = value / sum;
    }
  };
  for (let y = 0; y < height; y++) along(y * width, 1, width);
  for (let x = 0; x < width; x++) along(x, width, height);
}

/** Normal noise, clipped to 0–1. */
function addNoise(target: Float32Array, std: number, random: Random): void {
  for (let i = 0; i < target.length; i += 2) {
    const [one, other] = boxMuller(1 - random(), random(), std);
    target[i] = Math.min(1, Math.max(0, (target[i] ?? 0) + one));
    if (i + 1 < target.length) target[i + 1] = Math.min(1, Math.max(0, (target[i + 1] ?? 0) + other));
  }
}

interface Tone {
  readonly gamma: number;
  readonly contrast: number;
  readonly brightness: number;
  readonly gain: number;
}

const AS_IT_IS: Tone = { gamma: 1, contrast: 1, brightness: 0, gain: 1 };

/** IntegerSamples → 0–1 by gamma, contrast about mid grey, brightness and gain, clipped. */
function toneOf(source: IntegerSamples, { gamma, contrast, brightness, gain }: Tone): Float32Array {
  const tone = (sample: number): number => {
    const value = ((sample ** gamma - 0.5) * contrast + 0.5 + brightness) * gain;
    return Math.min(1, Math.max(0, value));
  };
  const toned = new Float32Array(source.length);
  if (source instanceof Uint16Array) {
    for (let i = 0; i < toned.length; i++) toned[i] = tone((source[i] ?? 0) / 65535);
  } else {
    const levels = Float32Array.from({ length: 256 }, (_, level) => tone(level / 255));
    for (let i = 0; i < toned.length; i++) toned[i] = levels[source[i] ?? 0] ?? 0;
  }
  return toned;
}

/**
 * The share of each row of a batch when it is mixed with the next: from Beta(α, α), α up to 1 (Zhang et al. 2018,
 * "mixup: Beyond Empirical Risk Minimization"), folded to at least ½, so that a row's own label dominates. Every step
 * of every epoch draws again.
 */
export function mixShares(
  rows: number,
  alpha: number,
  seed: number,
  epoch: number,
  step: number,
): Float32Array {
  const random = seededRandom(seed, epoch, step, 1);
  return Float32Array.from({ length: rows }, () => {
    const share = betaNumber(alpha, random);
    return Math.max(share, 1 - share);
  });
}

/** Mixes every row with the next one, the last with the first: pixels, targets and weights alike. */
export function mix(values: Float32Array, shares: Float32Array): void {
  const before = values.slice();
  const width = values.length / shares.length;
  shares.forEach((share, row) => {
    const other = ((row + 1) % shares.length) * width;
    for (let i = 0; i < width; i++) {
      const at = row * width + i;
      values[at] = share * (before[at] ?? 0) + (1 - share) * (before[other + i] ?? 0);
    }
  });
}

/** A number from Beta(α, α), α up to 1 (Jöhnk 1964). */
function betaNumber(alpha: number, random: Random): number {
  for (;;) {
    const u = random() ** (1 / alpha);
    const v = random() ** (1 / alpha);
    if (u + v > 0 && u + v <= 1) return u / (u + v);
  }
}
