import { z } from 'zod';
import { imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { clahe } from '../imaging/kernels.js';

const options = z.strictObject({
  clipLimit: z
    .number()
    .positive()
    .default(2)
    .describe(
      'Contrast limit for the histogram bins of a tile, as a multiple of the average bin. Higher means more contrast.',
    ),
  tileGridSize: z
    .int()
    .min(1)
    .max(64)
    .default(8)
    .describe('Tiles along each axis. More tiles emphasise smaller structures, and noise.'),
});

export default defineStage({
  name: 'clahe',
  summary: 'Equalises local contrast, tile by tile, bit for bit as OpenCV does.',
  options,
  examples: [
    { title: 'Chest film', with: { clipLimit: 2, tileGridSize: 8 } },
    { title: 'Gentle', with: { clipLimit: 1.2, tileGridSize: 4 } },
  ],
  needsPixels: true,
  retainsNothing: true,
  create: ({ clipLimit, tileGridSize }) => ({
    process: (frame) => ({ ...frame, image: clahe(imageOf(frame), clipLimit, tileGridSize) }),
  }),
});
