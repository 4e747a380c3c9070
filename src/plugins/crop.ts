import { z } from 'zod';
import { type Image, imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { cropTo } from '../imaging/image.js';

const options = z
  .strictObject({
    x: z.number().min(0).default(0).describe('Left edge, in `unit`s from the left.'),
    y: z.number().min(0).default(0).describe('Top edge, in `unit`s from the top.'),
    width: z.number().positive().optional().describe('Width, in `unit`s; without it, up to the right edge.'),
    height: z.number().positive().optional().describe('Height, in `unit`s; without it, down to the bottom.'),
    unit: z
      .enum(['pixels', 'fraction'])
      .default('pixels')
      .describe('`fraction` counts in parts of the whole image: 0.1 is a tenth of its width or height.'),
  })
  .refine(
    ({ unit, x, y, width = 0, height = 0 }) => unit === 'pixels' || (x + width <= 1 && y + height <= 1),
    'with `unit: fraction` the part must lie inside the image: x + width and y + height at most 1',
  );
export type CropOptions = z.output<typeof options>;

export default defineStage({
  name: 'crop',
  summary: 'Cuts out a part of every image.',
  options,
  examples: [
    { title: 'A fixed part', with: { x: 100, y: 50, width: 800, height: 900 } },
    {
      title: 'A tenth off every side',
      with: { x: 0.1, y: 0.1, width: 0.8, height: 0.8, unit: 'fraction' },
    },
  ],
  create: (settings) => ({
    process: (frame) => ({ ...frame, image: cropPart(imageOf(frame), settings) }),
  }),
});

/** The part of the image that the options name; throws when it does not lie inside. */
export function cropPart(image: Image, { x, y, width, height, unit }: CropOptions): Image {
  const [w, h] = unit === 'pixels' ? [1, 1] : [image.width, image.height];
  const left = Math.round(x * w);
  const top = Math.round(y * h);
  const right = width === undefined ? image.width : Math.round((x + width) * w);
  const bottom = height === undefined ? image.height : Math.round((y + height) * h);
  return cropTo(image, { x: left, y: top, width: right - left, height: bottom - top });
}
