import { z } from 'zod';
import { type Image, imageOf } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { fullScale } from '../imaging/image.js';

const perChannel = z.union([z.number(), z.array(z.number()).length(1), z.array(z.number()).length(3)]);
const notZero = 'must not be 0: the image is divided by it';

const options = z.strictObject({
  mode: z
    .enum(['scale', 'minMax', 'zScore'])
    .default('scale')
    .describe(
      "`scale`: the sample type's whole range to 0–1; `minMax`: the image's own range to 0–1; `zScore`: the image to mean 0 and standard deviation 1.",
    ),
  mean: perChannel.default(0).describe('Subtracted afterwards: one number, or one per channel.'),
  std: perChannel
    .refine((std) => ![std].flat().includes(0), notZero)
    .default(1)
    .describe('Divided by afterwards: one number, or one per channel.'),
});
export type NormalizeOptions = z.output<typeof options>;

export default defineStage({
  name: 'normalize',
  summary: 'Converts samples to floating point of a known range.',
  options,
  examples: [
    { title: 'To the range −1 to 1', with: { mean: 0.5, std: 0.5 } },
    {
      title: 'ImageNet statistics',
      with: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
    },
    { title: "Each film's own mean and spread", with: { mode: 'zScore' } },
  ],
  needsPixels: true,
  retainsNothing: true,
  create: (settings) => ({
    process: (frame) => ({ ...frame, image: normalize(imageOf(frame), settings) }),
  }),
});

/**
 * `(f(sample) − mean) ÷ std` as `Float32Array`, where `f` is the mode. Statistics run over all
 * channels together. An image of one single grey level becomes 0 in the modes `minMax` and `zScore`.
 */
export function normalize(image: Image, { mode, mean, std }: NormalizeOptions): Image {
  const { channels } = image;
  const { offset, range } = spread(image, mode);
  const means = forChannels(mean, channels, 'mean');
  const stds = forChannels(std, channels, 'std');
  const data = new Float32Array(image.data.length);
  for (let c = 0; c < channels; c++) {
    const m = means[c] ?? 0;
    const s = stds[c] ?? 1;
    for (let i = c; i < data.length; i += channels) {
      data[i] = (((image.data[i] ?? 0) - offset) / range - m) / s;
    }
  }
  return { ...image, data };
}

function spread({ data }: Image, mode: NormalizeOptions['mode']): { offset: number; range: number } {
  if (mode === 'scale') return { offset: 0, range: fullScale(data) };
  if (mode === 'minMax') {
    let low = Infinity;
    let high = -Infinity;
    for (const sample of data) {
      if (sample < low) low = sample;
      if (sample > high) high = sample;
    }
    return { offset: low, range: high - low || 1 };
  }
  let sum = 0;
  for (const sample of data) sum += sample;
  const offset = sum / data.length;
  let squares = 0;
  for (const sample of data) squares += (sample - offset) ** 2;
  return { offset, range: Math.sqrt(squares / data.length) || 1 };
}

function forChannels(value: number | number[], channels: number, name: string): number[] {
  if (typeof value === 'number') return Array<number>(channels).fill(value);
  if (value.length === channels) return value;
  throw new Error(
    `\`${name}\` has ${value.length} numbers, the image has ${channels} ${channels === 1 ? 'channel' : 'channels'}`,
  );
}
