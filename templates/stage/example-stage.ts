import { defineStage, imageOf, z } from 'rxray';

export default defineStage({
  name: 'example-stage',
  summary: 'Measures how bright a film is, and whether it is too dark.',
  options: z.strictObject({
    darkBelow: z.number().min(0).max(1).default(0.2).describe('A film is dark when its mean is below, 0–1.'),
  }),
  examples: [{ title: 'Strict', with: { darkBelow: 0.4 } }],
  keepsPixels: true,
  create: ({ darkBelow }, { id }) => ({
    columns: [
      { name: 'mean', path: ['mean'] },
      { name: 'dark', path: ['dark'] },
    ],
    process(frame) {
      const { data } = imageOf(frame);
      const full = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;
      let sum = 0;
      for (const sample of data) sum += sample;
      const mean = sum / data.length / full;
      return {
        ...frame,
        results: { ...frame.results, [id]: { kind: 'brightness', mean, dark: mean < darkBelow } },
      };
    },
  }),
});
