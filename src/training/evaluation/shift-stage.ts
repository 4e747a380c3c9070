import sharp from 'sharp';
import { z } from 'zod';
import { imageOf, type Image } from '../../core/frame.js';
import { defineStage } from '../../core/plugin.js';
import { blankLike, cropTo, fullScale } from '../../imaging/image.js';
import { resize } from '../../imaging/kernels.js';
import { warp } from '../augment.js';
import { normalNoise, seededRandom } from '../../models/random.js';

const options = z.strictObject({
  kind: z.enum([
    ...['contrast', 'gamma', 'extend', 'border', 'crop', 'rotate'],
    ...['blur', 'noise', 'jpeg', 'resolution'],
  ] as const),
  amount: z.number().describe('How much of it; what it counts depends on the kind.'),
  across: z.boolean().default(true).describe('`crop`: left and right.'),
  down: z.boolean().default(true).describe('`crop`: above and below.'),
});
export type ShiftOptions = z.output<typeof options>;

/** Whether it moves pixels: a mask of the film then needs the same. */
export const movesPixels = (kind: unknown): boolean =>
  kind === 'extend' || kind === 'border' || kind === 'crop' || kind === 'rotate';

/** Alters a film as another scanner, viewer or export would. Only for evaluations, not for graphs. */
export default defineStage({
  name: 'shift',
  summary: 'Changes a film as another scanner, viewer or export would.',
  options,
  create: (settings) => ({
    process: async (frame) => ({ ...frame, image: await shift(imageOf(frame), settings) }),
  }),
});

/**
 * The film as it would look from elsewhere; integer samples, of the same type. `amount` is
 *
 * - `contrast`: the factor about mid grey; `gamma`: the exponent;
 * - `extend`, `border`: what is added on every side, as a share of it: the edge repeated, or black;
 * - `crop`: what is cut off altogether, as a share of the width and height;
 * - `rotate`: degrees clockwise, of a film that keeps its size; corners from outside are black;
 * - `blur`: the standard deviation, and `noise`: the same of normal noise, as shares of the shorter side and of full scale;
 * - `jpeg`: the quality of an 8-bit JPEG; `resolution`: the factor by which the film is reduced and enlarged again.
 */
export async function shift(image: Image, { kind, amount, across, down }: ShiftOptions): Promise<Image> {
  switch (kind) {
    case 'contrast':
      return toned(image, (level) => (level - 0.5) * amount + 0.5);
    case 'gamma':
      return toned(image, (level) => level ** amount);
    case 'extend':
    case 'border':
      return framed(image, amount, kind === 'border');
    case 'crop': {
      const [left, top] = [across, down].map((cut, axis) =>
        cut ? Math.round(((axis === 0 ? image.width : image.height) * amount) / 2) : 0,
      ) as [number, number];
      const [width, height] = [image.width - 2 * left, image.height - 2 * top];
      return cropTo(image, { x: left, y: top, width, height });
    }
    case 'rotate':
      return rotated(image, amount);
    case 'blur':
      return blurred(image, amount * Math.min(image.width, image.height));
    case 'noise':
      return noisy(image, amount);
    case 'jpeg':
      return compressed(image, amount);
    case 'resolution': {
      const [width, height] = [image.width, image.height].map((side) =>
        Math.max(1, Math.round(side * amount)),
      );
      return resize(resize(image, width ?? 1, height ?? 1, 'area'), image.width, image.height, 'linear');
    }
  }
}

function toned(image: Image, tone: (level: number) => number): Image {
  const full = fullScale(image.data);
  const levels = Float64Array.from({ length: full + 1 }, (_, level) => {
    return Math.round(Math.min(1, Math.max(0, tone(level / full))) * full);
  });
  const data = blankLike(image.data, image.data.length);
  for (let i = 0; i < data.length; i++) data[i] = levels[image.data[i] ?? 0] ?? 0;
  return { ...image, data };
}

function framed(image: Image, share: number, black: boolean): Image {
  const [right, bottom] = [Math.round(image.width * share), Math.round(image.height * share)];
  const [width, height] = [image.width + 2 * right, image.height + 2 * bottom];
  const data = blankLike(image.data, width * height * image.channels);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = [x - right, y - bottom];
      const inside = u >= 0 && v >= 0 && u < image.width && v < image.height;
      const from =
        Math.min(Math.max(v, 0), image.height - 1) * image.width + Math.min(Math.max(u, 0), image.width - 1);
      for (let c = 0; c < image.channels; c++, at++) {
        if (inside || !black) data[at] = image.data[from * image.channels + c] ?? 0;
      }
    }
  }
  return { width, height, channels: image.channels, data };
}

/** About the centre. */
function rotated(image: Image, degrees: number): Image {
  const { width, height, channels } = image;
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const map = { xx: cos, xy: sin, yx: -sin, yy: cos, dx: 0, dy: 0 };
  const data = blankLike(image.data, image.data.length);
  const target = new Float32Array(width * height);
  for (let c = 0; c < channels; c++) {
    const plane = Float32Array.from(target, (_, p) => image.data[p * channels + c] ?? 0);
    warp(plane, width, height, map, true, target);
    target.forEach((level, p) => {
      data[p * channels + c] = Math.round(level);
    });
  }
  return { ...image, data };
}

/** A Gaussian, edge pixels repeated outside. */
function blurred(image: Image, sigma: number): Image {
  const radius = Math.ceil(3 * sigma);
  const weights = Float64Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)),
  );
  const sum = weights.reduce((a, b) => a + b, 0);
  const { width, height, channels } = image;
  const along = (
    from: ArrayLike<number>,
    step: number,
    length: number,
    place: (i: number) => number,
  ): Float64Array =>
    Float64Array.from({ length: from.length }, (_, i) => {
      const at = place(i);
      let value = 0;
      for (let k = -radius; k <= radius; k++) {
        const near = Math.min(length - 1, Math.max(0, at + k));
        value += (weights[k + radius] ?? 0) * (from[i + (near - at) * step] ?? 0);
      }
      return value / sum;
    });
  const rows = along(image.data, channels, width, (i) => Math.floor(i / channels) % width);
  const both = along(rows, width * channels, height, (i) => Math.floor(i / channels / width));
  const data = blankLike(image.data, both.length);
  both.forEach((value, i) => {
    data[i] = Math.round(value);
  });
  return { ...image, data };
}

/** The same film gets the same noise. */
function noisy(image: Image, std: number): Image {
  const full = fullScale(image.data);
  let seed = 1;
  for (const level of image.data) seed = (seed * 31 + level) % 2 ** 31;
  const noise = normalNoise([image.data.length], seededRandom(seed), { std: std * full })
    .data as Float32Array;
  const data = blankLike(image.data, image.data.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = Math.min(full, Math.max(0, Math.round((image.data[i] ?? 0) + (noise[i] ?? 0))));
  }
  return { ...image, data };
}

async function compressed(image: Image, quality: number): Promise<Image> {
  const { width, height, channels } = image;
  const scale = fullScale(image.data) / 255;
  const bytes = Uint8Array.from(image.data, (level) => Math.round(level / scale));
  const jpeg = await sharp(bytes, { raw: { width, height, channels } }).jpeg({ quality }).toBuffer();
  const decoded = await sharp(jpeg)
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .raw()
    .toBuffer();
  const data = blankLike(image.data, image.data.length);
  decoded.forEach((level, i) => {
    data[i] = level * scale;
  });
  return { ...image, data };
}
