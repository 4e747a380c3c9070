import { z } from 'zod';
import { type Image, imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { cropReplicated, cropTo, padTo, type Box } from '../imaging/image.js';
import { viewOfPart } from '../imaging/view.js';
import { lintLungs, lungsOf } from './shared/lungs.js';
import type { Segmentation } from './unet.js';

const options = z
  .strictObject({
    x: z.number().min(0).default(0).describe('Left edge, in `unit`s from the left.'),
    y: z.number().min(0).default(0).describe('Top edge, in `unit`s from the top.'),
    width: z.number().positive().optional().describe('Width, in `unit`s. Default: up to the right edge.'),
    height: z.number().positive().optional().describe('Height, in `unit`s. Default: down to the bottom.'),
    to: z
      .string()
      .optional()
      .describe(
        'Instead of x, y, width and height: the id of a `unet` stage; the image is cropped to its lungs. A film without plausible lungs is not cropped, and `results.<id>.cropped` is false.',
      ),
    margin: z
      .number()
      .min(0)
      .max(1)
      .default(0.08)
      .describe('With `to`: margin around the lungs on every side, as a share of their box.'),
    square: z
      .boolean()
      .default(true)
      .describe(
        'With `to`: crop to a square, so that a resize keeps the proportions. It may reach beyond the film.',
      ),
    border: z
      .enum(['constant', 'replicate'])
      .default('constant')
      .describe(
        "With `to`: pixels outside the film. `constant`: black; `replicate`: as the film's nearest edge.",
      ),
    unit: z
      .enum(['pixels', 'fraction'])
      .default('pixels')
      .describe('`fraction` is a share of the image: 0.1 is a tenth of its width or height.'),
  })
  .refine(
    ({ unit, x, y, width = 0, height = 0 }) => unit === 'pixels' || (x + width <= 1 && y + height <= 1),
    'with `unit: fraction` the part must lie inside the image: x + width and y + height at most 1',
  )
  .refine(
    ({ to, x, y, width, height }) =>
      to === undefined || (x === 0 && y === 0 && (width ?? height) === undefined),
    'either `to`, or x, y, width and height',
  )
  .refine(
    ({ to, border }) => to !== undefined || border === 'constant',
    '`border` needs `to`: other regions lie inside the image',
  );
export type CropOptions = z.output<typeof options>;

export default defineStage({
  name: 'crop',
  summary: 'Crops every image.',
  options,
  examples: [
    { title: 'A fixed region', with: { x: 100, y: 50, width: 800, height: 900 } },
    {
      title: 'A tenth off every side',
      with: { x: 0.1, y: 0.1, width: 0.8, height: 0.8, unit: 'fraction' },
    },
    { title: 'The lungs', with: { to: 'lungs', margin: 0.08 } },
  ],
  needsPixels: true,
  retainsNothing: true,
  lint: ({ to }, context) => (to === undefined ? [] : lintLungs('to', to, context)),
  create: (settings, { id }) => ({
    process: (frame) => {
      const image = imageOf(frame);
      if (settings.to === undefined) {
        const part = partOf(image, settings);
        return { ...frame, image: cropTo(image, part), view: viewOfPart(part, image, frame.view) };
      }
      const found = lungsOf(frame, settings.to);
      const box = found.plausible ? lungBox(found, settings) : undefined;
      const result = { kind: 'crop', cropped: box !== undefined, box: box ?? null, reason: found.reason };
      return {
        ...frame,
        ...(box !== undefined && {
          image: cutOut(image, box, settings.border),
          view: viewOfPart(box, image, frame.view),
        }),
        results: { ...frame.results, [id]: result },
      };
    },
  }),
});

/** The square (or rectangle) around both lungs and their margin, in whole pixels; it may reach beyond the film. */
function lungBox(
  { left, right }: Pick<Segmentation, 'left' | 'right'>,
  { margin, square }: Pick<CropOptions, 'margin' | 'square'>,
): Box | undefined {
  const boxes = [left, right].flatMap((lung) => (lung === null ? [] : [lung.box]));
  if (boxes.length === 0) return undefined;
  const x0 = Math.min(...boxes.map((box) => box.x));
  const y0 = Math.min(...boxes.map((box) => box.y));
  const across = Math.max(...boxes.map((box) => box.x + box.width)) - x0;
  const down = Math.max(...boxes.map((box) => box.y + box.height)) - y0;
  const side = Math.max(across, down);
  const width = Math.max(1, Math.round((square ? side : across) * (1 + 2 * margin)));
  const height = Math.max(1, Math.round((square ? side : down) * (1 + 2 * margin)));
  return {
    x: Math.round(x0 + across / 2 - width / 2),
    y: Math.round(y0 + down / 2 - height / 2),
    width,
    height,
  };
}

/** The pixels inside `box`, which may reach beyond the image; the two must overlap. */
function cutOut(image: Image, box: Box, border: CropOptions['border']): Image {
  const left = Math.max(0, box.x);
  const top = Math.max(0, box.y);
  const inside = {
    x: left,
    y: top,
    width: Math.min(image.width, box.x + box.width) - left,
    height: Math.min(image.height, box.y + box.height) - top,
  };
  if (inside.width === box.width && inside.height === box.height) return cropTo(image, inside);
  if (border === 'replicate') return cropReplicated(image, box);
  return padTo(cropTo(image, inside), { ...box, x: left - box.x, y: top - box.y }, 0);
}

/** The region of the image given by the options; throws if it is not inside the image. */
export function cropPart(image: Image, settings: Parameters<typeof partOf>[1]): Image {
  return cropTo(image, partOf(image, settings));
}

/** Where that part is, in whole pixels. */
function partOf(
  image: Image,
  { x, y, width, height, unit }: Pick<CropOptions, 'x' | 'y' | 'width' | 'height' | 'unit'>,
): Box {
  const [w, h] = unit === 'pixels' ? [1, 1] : [image.width, image.height];
  const left = Math.round(x * w);
  const top = Math.round(y * h);
  const right = width === undefined ? image.width : Math.round((x + width) * w);
  const bottom = height === undefined ? image.height : Math.round((y + height) * h);
  return { x: left, y: top, width: right - left, height: bottom - top };
}
