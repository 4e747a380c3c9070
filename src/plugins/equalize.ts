import { z } from 'zod';
import { imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { equalizeHist } from '../imaging/equalize-hist.js';

export default defineStage({
  name: 'equalize',
  summary: "Spreads a film's grey levels evenly, bit for bit as OpenCV's equalizeHist does.",
  options: z.strictObject({}),
  examples: [{ title: 'Grey levels that do not depend on contrast or gamma', with: {} }],
  needsPixels: true,
  retainsNothing: true,
  create: () => ({
    process: (frame) => ({ ...frame, image: equalizeHist(imageOf(frame)) }),
  }),
});
