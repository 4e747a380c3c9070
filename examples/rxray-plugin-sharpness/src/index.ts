import { defineStage, imageOf, z, type Image } from 'rxray';

export default defineStage({
  name: 'sharpness',
  version: '0.1.0',
  rxray: '^0.1.0',
  summary: 'Measures how sharp a film is, and whether it is blurred.',
  options: z.strictObject({
    blurredBelow: z
      .number()
      .nonnegative()
      .default(0.0005)
      .describe('A film is blurred when its variance of the Laplacian is below; white is 1.'),
  }),
  examples: [{ title: 'Strict', with: { blurredBelow: 0.002 } }],
  keepsPixels: true,
  create: ({ blurredBelow }, { id }) => ({
    columns: [
      { name: 'variance', path: ['variance'] },
      { name: 'blurred', path: ['blurred'] },
    ],
    process(frame) {
      const variance = varianceOfLaplacian(imageOf(frame));
      return {
        ...frame,
        results: {
          ...frame.results,
          [id]: { kind: 'sharpness', variance, blurred: variance < blurredBelow },
        },
      };
    },
  }),
});

/**
 * The variance of the Laplacian (the four neighbours less four times the pixel), black 0 and white 1, without the
 * outermost rows and columns; 0 for an image that has nothing else. A measure of focus: Pech-Pacheco et al., ICPR 2000.
 */
export function varianceOfLaplacian({ width, height, channels, data }: Image): number {
  if (channels !== 1) throw new Error(`expected a grey image, not one of ${channels} channels`);
  const white = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;
  const at = (x: number, y: number): number => (data[y * width + x] ?? 0) / white;
  let [sum, squares, count] = [0, 0, 0];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const laplacian = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4 * at(x, y);
      sum += laplacian;
      squares += laplacian ** 2;
      count++;
    }
  }
  return count === 0 ? 0 : squares / count - (sum / count) ** 2;
}
