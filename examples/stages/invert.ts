import { defineStage, imageOf, z } from 'rxray';

const options = z.strictObject({
  maximum: z.number().positive().optional().describe('White. Default: the highest value of the sample type.'),
});

export default defineStage({
  name: 'invert',
  summary: 'Turns black into white: bone becomes dark.',
  options,
  examples: [{ title: 'Eight bit', with: { maximum: 255 } }],
  create: ({ maximum }) => ({
    process(frame) {
      const image = imageOf(frame);
      const white =
        maximum ?? { Uint8Array: 255, Uint16Array: 65535, Float32Array: 1 }[image.data.constructor.name] ?? 1;
      return { ...frame, image: { ...image, data: image.data.map((sample) => white - sample) } };
    },
  }),
});
