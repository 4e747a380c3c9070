import type { HostTensor } from '../engine/index.js';
import type { Bundle } from './bundle.js';

/** Pixels as a frame has them: row-major, channels last. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint16Array | Float32Array;
}

/**
 * Images as a network's input, N × H × W × C or N × C × H × W float32: `(sample × scale − mean) ÷ std`
 * with scale 1/255 for 8-bit and 1/65535 for 16-bit samples; floating-point samples are taken to be 0–1
 * already. Grey fills all channels of a colour network, colour goes into a grey one by Rec. 601 luma.
 * All images have the input's width and height.
 */
export function inputTensor(images: readonly Pixels[], input: Bundle['input']): HostTensor {
  const { width, height, channels, layout } = input;
  const area = width * height;
  const data = new Float32Array(images.length * area * channels);
  const table = new Float32Array(256);
  const [pixelStep, channelStep] = layout === 'NHWC' ? [channels, 1] : [1, area];
  images.forEach((image, n) => {
    const scale = scaleOf(image.data);
    for (let c = 0; c < channels; c++) {
      const mean = input.mean[c] ?? input.mean[0] ?? 0;
      const std = input.std[c] ?? input.std[0] ?? 1;
      const value = (sample: number): number => (sample * scale - mean) / std;
      let at = n * area * channels + c * channelStep;
      if (image.channels !== 1 && image.channels !== channels) {
        const sample = luma(image);
        for (let p = 0; p < area; p++, at += pixelStep) data[at] = value(sample(p));
        continue;
      }
      const { data: samples, channels: step } = image;
      const end = area * step;
      const first = step === 1 ? 0 : c;
      if (samples instanceof Uint8Array) {
        // Of 256 grey levels each is computed once.
        for (let level = 0; level < 256; level++) table[level] = value(level);
        for (let i = first; i < end; i += step, at += pixelStep) data[at] = table[samples[i] ?? 0] ?? 0;
      } else {
        for (let i = first; i < end; i += step, at += pixelStep) data[at] = value(samples[i] ?? 0);
      }
    }
  });
  const dims =
    layout === 'NHWC' ? [images.length, height, width, channels] : [images.length, channels, height, width];
  return { data, dims };
}

/** Rec. 601. */
function luma({ data }: Pixels): (pixel: number) => number {
  return (p) => 0.299 * (data[p * 3] ?? 0) + 0.587 * (data[p * 3 + 1] ?? 0) + 0.114 * (data[p * 3 + 2] ?? 0);
}

function scaleOf(data: Pixels['data']): number {
  if (data instanceof Uint8Array) return 1 / 255;
  return data instanceof Uint16Array ? 1 / 65535 : 1;
}
