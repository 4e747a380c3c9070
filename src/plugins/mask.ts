import { z } from 'zod';
import { imageOf, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { resize } from '../imaging/kernels.js';
import { lungsOf } from './shared/lungs.js';

const options = z.strictObject({
  with: z.string().describe('The id of a `unet` stage, whose mask is laid over the film.'),
  keep: z
    .enum(['inside', 'outside'])
    .default('inside')
    .describe('What stays: the lungs, or everything else. The rest becomes black.'),
});

export default defineStage({
  name: 'mask',
  summary: 'Blackens everything but the lungs, or the lungs. A film without plausible lungs passes as it is.',
  options,
  examples: [{ title: 'Lungs alone', with: { with: 'lungs' } }],
  retainsNothing: true,
  create: ({ with: source, keep }, { id }) => ({
    process: (frame) => {
      const { plausible, reason, mask } = lungsOf(frame, source);
      const result = { kind: 'mask', masked: plausible, reason };
      return {
        ...frame,
        ...(plausible && { image: maskWith(imageOf(frame), mask, keep) }),
        results: { ...frame.results, [id]: result },
      };
    },
  }),
});

/** The image with black where the mask, stretched over it, is not above half (`inside`), or is (`outside`). */
export function maskWith(image: Image, mask: Image, keep: 'inside' | 'outside'): Image {
  const { width, height, channels } = image;
  const over = resize(mask, width, height, 'linear').data;
  const data = image.data.slice();
  for (let p = 0; p < width * height; p++) {
    if ((over[p] ?? 0) > 127 !== (keep === 'inside')) data.fill(0, p * channels, (p + 1) * channels);
  }
  return { ...image, data };
}
