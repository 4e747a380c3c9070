import { z } from 'zod';
import { defineStage } from '../core/plugin.js';

/**
 * The host brings the branches of a frame together before any stage with several entries in `from`: it merges their
 * results and metadata, and keeps the pixels of the first. This stage does nothing more.
 */
export default defineStage({
  name: 'join',
  summary: 'Joins branches: one frame with the results of all branches in `from`.',
  options: z.strictObject({}),
  runsIn: 'main',
  keepsPixels: true,
  create: () => ({ process: (frame) => frame }),
});
