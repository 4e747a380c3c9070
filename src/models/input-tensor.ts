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
  const [pixelStep, channelStep] = layout === 'NHWC' ? [channels, 1] : [1, area];
  images.forEach((image, n) => {
    const scale = scaleOf(image.data);
    for (let c = 0; c < channels; c++) {
      const mean = input.mean[c] ?? input.mean[0] ?? 0;
      const std = input.std[c] ?? input.std[0] ?? 1;
      const sample = sampler(image, c, channels);
      let at = n * area * channels + c * channelStep;
      for (let p = 0; p < area; p++, at += pixelStep) data[at] = (sample(p) * scale - mean) / std;
    }
  });
  const dims =
    layout === 'NHWC' ? [images.length, height, width, channels] : [images.length, channels, height, width];
  return { data, dims };
}

function sampler({ data, channels }: Pixels, channel: number, wanted: number): (pixel: number) => number {
  if (channels === 1) return (p) => data[p] ?? 0;
  if (wanted === channels) return (p) => data[p * channels + channel] ?? 0;
  return (p) => 0.299 * (data[p * 3] ?? 0) + 0.587 * (data[p * 3 + 1] ?? 0) + 0.114 * (data[p * 3 + 2] ?? 0);
}

function scaleOf(data: Pixels['data']): number {
  if (data instanceof Uint8Array) return 1 / 255;
  return data instanceof Uint16Array ? 1 / 65535 : 1;
}
