import { z } from 'zod';
import { defineStage } from '../../../../src/core/plugin.js';

export default defineStage({
  name: 'blur',
  summary: 'Leaves everything as it is.',
  options: z.strictObject({
    sigma: z.number().positive().default(1).describe('Width of the kernel in pixels.'),
    border: z.enum(['reflect', 'constant', 'wrap']).default('reflect').describe('What lies outside.'),
    size: z
      .strictObject({
        width: z.int().positive().describe('Width in pixels.'),
        height: z.int().positive().describe('Height in pixels.'),
      })
      .optional()
      .describe('Of the kernel.'),
  }),
  create: () => ({ process: (frame) => frame }),
});
