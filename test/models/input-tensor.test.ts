import { expect } from 'chai';
import type { Image } from '../../src/core/frame.js';
import { inputTensor } from '../../src/models/input-tensor.js';

const [width, height] = [7, 5];
const area = width * height;

describe('images as a network’s input', () => {
  const types = {
    Uint8Array: [Uint8Array, 255],
    Uint16Array: [Uint16Array, 65535],
    Float32Array: [Float32Array, 1],
  } as const;
  for (const [name, [Samples, full]] of Object.entries(types)) {
    for (const from of [1, 3] as const) {
      for (const channels of [1, 3] as const) {
        it(`are scaled and normalised bit for bit: ${name}, ${from} into ${channels} channels`, () => {
          const images = [1, 2].map((seed): Image => {
            const data = new Samples(area * from).map((_, i) => (full * ((i * seed * 37) % 101)) / 100);
            return { width, height, channels: from, data };
          });
          const [mean, std] = [
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
          ];
          const expected = (n: number, p: number, c: number): number => {
            const data = images[n]?.data ?? [];
            const sample = (k: number): number => data[p * from + k] ?? NaN;
            const grey = from === 1 ? sample(0) : 0.299 * sample(0) + 0.587 * sample(1) + 0.114 * sample(2);
            const value = from === channels ? sample(c) : grey;
            return Math.fround((value * (1 / full) - (mean[c] ?? 0)) / (std[c] ?? 1));
          };
          for (const layout of ['NHWC', 'NCHW'] as const) {
            const { data, dims } = inputTensor(images, { width, height, channels, layout, mean, std });
            const wanted = Float32Array.from({ length: 2 * area * channels }, (_, i) => {
              const n = Math.floor(i / (area * channels));
              const rest = i % (area * channels);
              return layout === 'NHWC'
                ? expected(n, Math.floor(rest / channels), rest % channels)
                : expected(n, rest % area, Math.floor(rest / area));
            });
            expect(dims).to.deep.equal(
              layout === 'NHWC' ? [2, height, width, channels] : [2, channels, height, width],
            );
            expect(data).to.deep.equal(wanted);
          }
        });
      }
    }
  }
});
