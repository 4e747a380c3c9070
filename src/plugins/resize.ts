import { z } from 'zod';
import { type Image, imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { cropTo, fullScale, padTo, type Box } from '../imaging/image.js';
import { viewOfPart } from '../imaging/view.js';
import { INTERPOLATIONS as OPENCV, resize as resizeAsOpenCv } from '../imaging/kernels.js';
import { PIL_INTERPOLATIONS, resizeAsPil, type PilInterpolation } from '../imaging/pil.js';

export const INTERPOLATIONS = [...OPENCV, ...PIL_INTERPOLATIONS] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];

const options = z.strictObject({
  width: z.int().min(1).max(16384).describe('Width of the result in pixels.'),
  height: z.int().min(1).max(16384).describe('Height of the result in pixels.'),
  fit: z
    .enum(['stretch', 'contain', 'cover'])
    .default('stretch')
    .describe(
      '`stretch` ignores the proportions; `contain` keeps them and pads; `cover` keeps them and crops evenly.',
    ),
  background: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('Grey level of the padding for `contain`: 0 is black, 1 is white.'),
  interpolation: z
    .enum(INTERPOLATIONS)
    .default('area')
    .describe(
      "OpenCV's: `area` averages, best for shrinking; `linear`, `cubic` and `lanczos4` alias when they shrink much; `nearest` creates no new grey levels. Pillow's, for models from torchvision or timm: `pil-bilinear`, `pil-bicubic`.",
    ),
});
export type ResizeOptions = z.output<typeof options>;

export default defineStage({
  name: 'resize',
  summary: 'Resizes every image to one size, as OpenCV or Pillow does.',
  options,
  examples: [
    { title: 'For a model', with: { width: 224, height: 224 } },
    {
      title: 'For a model that was trained with torchvision',
      with: { width: 224, height: 224, interpolation: 'pil-bilinear' },
    },
    { title: 'Proportions kept, padded with black', with: { width: 512, height: 512, fit: 'contain' } },
  ],
  needsPixels: true,
  retainsNothing: true,
  create: (settings) => ({
    process: (frame) => {
      const image = imageOf(frame);
      return {
        ...frame,
        image: fitTo(image, settings),
        view: viewOfPart(partOf(image, settings), image, frame.view),
      };
    },
  }),
});

/** The part of the image that the result of {@link fitTo} shows; with `contain` it reaches beyond the image. */
export function partOf(
  image: Pick<Image, 'width' | 'height'>,
  { width, height, fit }: Pick<ResizeOptions, 'width' | 'height' | 'fit'>,
): Box {
  if (fit === 'stretch') return { x: 0, y: 0, width: image.width, height: image.height };
  const across = width / image.width;
  const down = height / image.height;
  if (fit === 'contain') {
    const scale = Math.min(across, down);
    const w = Math.max(1, Math.round(image.width * scale));
    const h = Math.max(1, Math.round(image.height * scale));
    const [perColumn, perRow] = [image.width / w, image.height / h];
    return {
      x: -((width - w) >> 1) * perColumn,
      y: -((height - h) >> 1) * perRow,
      width: width * perColumn,
      height: height * perRow,
    };
  }
  const scale = Math.max(across, down);
  const w = Math.max(1, Math.min(image.width, Math.round(width / scale)));
  const h = Math.max(1, Math.min(image.height, Math.round(height / scale)));
  return { x: (image.width - w) >> 1, y: (image.height - h) >> 1, width: w, height: h };
}

/** The image at exactly `width` × `height`; sample type and channels are kept. */
export function fitTo(image: Image, { width, height, fit, background, interpolation }: ResizeOptions): Image {
  if (fit === 'stretch') return resize(image, width, height, interpolation);
  if (fit === 'contain') {
    const scale = Math.min(width / image.width, height / image.height);
    const w = Math.max(1, Math.round(image.width * scale));
    const h = Math.max(1, Math.round(image.height * scale));
    const canvas = { x: (width - w) >> 1, y: (height - h) >> 1, width, height };
    return padTo(resize(image, w, h, interpolation), canvas, background * fullScale(image.data));
  }
  // Crops first, to whole pixels, so that no unused pixels are computed.
  return resize(cropTo(image, partOf(image, { width, height, fit })), width, height, interpolation);
}

function resize(image: Image, width: number, height: number, interpolation: Interpolation): Image {
  return isPil(interpolation)
    ? resizeAsPil(image, width, height, interpolation)
    : resizeAsOpenCv(image, width, height, interpolation);
}

function isPil(interpolation: Interpolation): interpolation is PilInterpolation {
  return PIL_INTERPOLATIONS.some((name) => name === interpolation);
}
