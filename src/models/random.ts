import { sizeOf, type HostTensor } from '../engine/index.js';

/** A reproducible source of numbers in [0, 1) (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Normal numbers (Box and Muller 1958). */
export function normalNoise(
  dims: readonly number[],
  random: () => number,
  { mean = 0, std = 1 }: { readonly mean?: number; readonly std?: number } = {},
): HostTensor {
  const data = new Float32Array(sizeOf(dims));
  for (let index = 0; index < data.length; index += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    data[index] = mean + std * radius * Math.cos(angle);
    if (index + 1 < data.length) data[index + 1] = mean + std * radius * Math.sin(angle);
  }
  return { data, dims: [...dims] };
}

/** A mask for inverted dropout: 0 with probability `rate`, else 1 / (1 − rate). Dims [n, units]. */
export function dropoutMask(n: number, units: number, rate: number, random: () => number): HostTensor {
  const kept = 1 / (1 - rate);
  return { data: Float32Array.from({ length: n * units }, () => (random() < rate ? 0 : kept)), dims: [n, units] };
}

/** A tensor of equal elements. */
export function filled(dims: readonly number[], value: number): HostTensor {
  return { data: new Float32Array(sizeOf(dims)).fill(value), dims: [...dims] };
}
