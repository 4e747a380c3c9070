import { z } from 'zod';
import { imageOf, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { resize } from '../imaging/kernels.js';
import { lintLungs, lungsOf } from './shared/lungs.js';

const options = z.strictObject({
  with: z.string().describe('The id of the `unet` stage with the mask.'),
  keep: z
    .enum(['inside', 'outside'])
    .default('inside')
    .describe('What is kept: the lungs, or everything else. The rest becomes black.'),
});

export default defineStage({
  name: 'mask',
  summary:
    'Blackens everything except the lungs, or the lungs. A film without plausible lungs is not changed.',
  options,
  examples: [{ title: 'Lungs alone', with: { with: 'lungs' } }],
  needsPixels: true,
  retainsNothing: true,
  lint: ({ with: source }, context) => lintLungs('with', source, context),
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

/** The image, black where the mask, stretched to its size, is at most half (`inside`) or above half (`outside`). */
export function maskWith(image: Image, mask: Image, keep: 'inside' | 'outside'): Image {
  const { width, height, channels } = image;
  const over = resize(mask, width, height, 'linear').data;
  const data = image.data.slice();
  for (let p = 0; p < width * height; p++) {
    if ((over[p] ?? 0) > 127 !== (keep === 'inside')) data.fill(0, p * channels, (p + 1) * channels);
  }
  return { ...image, data };
}
