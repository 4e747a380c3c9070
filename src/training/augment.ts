import { z } from 'zod';
import { boxMuller, seededRandom, type Random } from '../models/random.js';
import type { IntegerSamples } from './preprocess.js';

/** How films are varied in training. Each is a range drawn from uniformly, and 0 switches it off. */
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
   * Stretches width against height, either way: 0.2 changes their ratio by 1/1.2 … 1.2. Where films are
   * squashed to a square and the classes differ in the shape of their originals, this hides that cue.
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
}

/** The switches as a person writes them, with the limits beyond which a film is no film any more. */
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
};

/** For classifiers of chest films: strong in what tells nothing about the lung. */
export const CHEST_AUGMENTATION: Augmentation = {
  rotate: 12,
  shear: 6,
  shift: 0.08,
  zoom: 0.2,
  aspect: 0.3,
  flip: 0,
  brightness: 0.15,
  brightnessRange: [1, 1],
  contrast: 0.3,
  gamma: 0.3,
  cutOut: 0.4,
  noise: 0.03,
};

/** As the project that rxray grew from had it, in Keras: every training film at a fifth of its brightness. */
export const ORIGINAL_AUGMENTATION: Augmentation = {
  ...NO_AUGMENTATION,
  rotate: 20,
  shear: 0.1,
  shift: 0.1,
  flip: 0.5,
  brightnessRange: [0.2, 0.2],
};

/** For generators, which learn to make whatever they are shown: gentle, and nothing cut out. */
export const GENTLE_AUGMENTATION: Augmentation = {
  rotate: 4,
  shear: 2,
  shift: 0.03,
  zoom: 0.05,
  aspect: 0.05,
  flip: 0,
  brightness: 0.03,
  brightnessRange: [1, 1],
  contrast: 0.08,
  gamma: 0.08,
  cutOut: 0,
  noise: 0,
};

/** For a network that has to find what was pasted in: the film itself stays believable. */
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
  gentle: GENTLE_AUGMENTATION,
  original: ORIGINAL_AUGMENTATION,
};

/**
 * Varies one grey image of `width` × `height` samples and writes it to `target` as 0–1. One affine
 * warp about the centre, sampled bilinearly, edge pixels repeated outside; then the square is cut out.
 */
export function augment(
  source: IntegerSamples,
  width: number,
  height: number,
  settings: Augmentation,
  random: Random,
  target: Float32Array,
): void {
  const { rotate, shear, shift, zoom, aspect, flip, brightness, contrast, gamma, cutOut, noise } = settings;
  const [darkest, brightest] = settings.brightnessRange;
  const either = (range: number): number => (random() * 2 - 1) * range;
  const factor = (range: number): number => (1 + range) ** either(1);

  // Every switch draws, on or off, so that changing one leaves the others' draws as they were.
  const angle = (either(rotate) * Math.PI) / 180;
  const slant = Math.tan((either(shear) * Math.PI) / 180);
  const dx = either(shift) * width;
  const dy = either(shift) * height;
  const scale = factor(zoom);
  const stretch = Math.sqrt(factor(aspect));
  const mirror = random() < flip ? -1 : 1;
  const tone = { brightness: either(brightness), contrast: factor(contrast), gamma: factor(gamma) };
  const gain = darkest === brightest ? darkest : darkest + random() * (brightest - darkest);
  const toned = toneOf(source, { ...tone, gain });

  // The map from target to source: the inverse of rotate · shear · scale, which being random needs no inverting.
  const sx = (mirror * stretch) / scale;
  const sy = 1 / (stretch * scale);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const xx = sx * cos;
  const xy = sx * (slant * cos - sin);
  const yx = sy * sin;
  const yy = sy * (slant * sin + cos);
  const cx = (width - 1) / 2;
  const cy = (height - 1) / 2;
  const right = width - 1;
  const bottom = height - 1;

  let at = 0;
  for (let y = 0; y < height; y++) {
    let u = cx + dx - xx * cx + xy * (y - cy);
    let v = cy + dy - yx * cx + yy * (y - cy);
    for (let x = 0; x < width; x++, u += xx, v += yx) {
      const uc = u < 0 ? 0 : u > right ? right : u;
      const vc = v < 0 ? 0 : v > bottom ? bottom : v;
      const u0 = uc | 0;
      const v0 = vc | 0;
      const u1 = u0 < right ? u0 + 1 : right;
      const top = v0 * width;
      const low = v0 < bottom ? top + width : top;
      const fu = uc - u0;
      const fv = vc - v0;
      const a = toned[top + u0] ?? 0;
      const b = toned[top + u1] ?? 0;
      const c = toned[low + u0] ?? 0;
      const d = toned[low + u1] ?? 0;
      const upper = a + (b - a) * fu;
      target[at++] = upper + (c + (d - c) * fu - upper) * fv;
    }
  }

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

  const std = random() * noise;
  if (std > 0) addNoise(target, std, random);
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
 * How much of each row of a batch is left when it is mixed with the next: from Beta(α, α), α up to 1
 * (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"), folded to at least ½, so that a row's
 * own label leads. Every step of every epoch draws anew.
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
