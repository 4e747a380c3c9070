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
  for (const [n, image] of images.entries()) {
    for (let c = 0; c < channels; c++) {
      const mean = input.mean[c] ?? input.mean[0] ?? 0;
      const std = input.std[c] ?? input.std[0] ?? 1;
      const [start, step] = layout === 'NHWC' ? [c, channels] : [c * area, 1];
      const target = data.subarray(n * area * channels + start);
      if (image.channels === 1) write(image.data, 0, 1, mean, std, target, step);
      else if (image.channels === channels) write(image.data, c, channels, mean, std, target, step);
      else writeLuma(image.data, mean, std, target, step);
    }
  }
  const dims =
    layout === 'NHWC' ? [images.length, height, width, channels] : [images.length, channels, height, width];
  return { data, dims };
}

/** The input's value for each level of 8 bits. */
const levels = new Float32Array(256);

/**
 * Writes every `step`-th of the samples, beginning with `first`, to every `targetStep`-th place of the target. A function of its own,
 * not a closure: V8 loses the optimised code of closures with every major collection at which none of them is alive.
 */
function write(
  samples: Pixels['data'],
  first: number,
  step: number,
  mean: number,
  std: number,
  target: Float32Array,
  targetStep: number,
): void {
  const scale = scaleOf(samples);
  let at = 0;
  if (samples instanceof Uint8Array) {
    // Of 256 grey levels each is computed once.
    for (let level = 0; level < 256; level++) levels[level] = (level * scale - mean) / std;
    for (let i = first; i < samples.length; i += step, at += targetStep)
      target[at] = levels[samples[i] ?? 0] ?? 0;
    return;
  }
  for (let i = first; i < samples.length; i += step, at += targetStep)
    target[at] = ((samples[i] ?? 0) * scale - mean) / std;
}

/** Writes the Rec. 601 luma of colour samples to every `targetStep`-th place of the target. */
function writeLuma(
  samples: Pixels['data'],
  mean: number,
  std: number,
  target: Float32Array,
  targetStep: number,
): void {
  const scale = scaleOf(samples);
  for (let i = 0, at = 0; i < samples.length; i += 3, at += targetStep) {
    const luma = 0.299 * (samples[i] ?? 0) + 0.587 * (samples[i + 1] ?? 0) + 0.114 * (samples[i + 2] ?? 0);
    target[at] = (luma * scale - mean) / std;
  }
}

function scaleOf(data: Pixels['data']): number {
  if (data instanceof Uint8Array) return 1 / 255;
  return data instanceof Uint16Array ? 1 / 65535 : 1;
}
