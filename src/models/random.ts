import { sizeOf, type HostTensor } from '../engine/index.js';

/** A stream of pseudo-random numbers in [0, 1). */
export type Random = () => number;

/**
 * A seeded stream that depends on every one of `seeds` (integers): `seededRandom(seed, epoch, index)` gives each film
 * of each epoch its own, so that results do not depend on the order of work, and a resumed run draws the same numbers
 * as an uninterrupted one. The generator is sfc32 (C. Doty-Humphrey, PractRand).
 */
export function seededRandom(...seeds: readonly number[]): Random {
  let a = 0x9e3779b9;
  let b = 0x243f6a88;
  let c = 0xb7e15162;
  let counter = 1;
  const next = (): number => {
    const t = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    return t >>> 0;
  };
  for (const seed of seeds) {
    a = (a ^ seed) | 0;
    for (let i = 0; i < 12; i++) next();
  }
  return () => next() / 2 ** 32;
}

/** The integers 0 … n−1 in random order (Fisher–Yates). */
export function shuffled(n: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const swap = order[i] ?? 0;
    order[i] = order[j] ?? 0;
    order[j] = swap;
  }
  return order;
}

/**
 * Two independent normal numbers of mean 0 out of two uniform ones, `u` in (0, 1] and `v` in [0, 1)
 * (Box and Muller 1958).
 */
export function boxMuller(u: number, v: number, std = 1): [number, number] {
  const radius = Math.sqrt(-2 * Math.log(u));
  const angle = 2 * Math.PI * v;
  return [std * radius * Math.cos(angle), std * radius * Math.sin(angle)];
}

/** Normal numbers. */
export function normalNoise(
  dims: readonly number[],
  random: Random,
  { mean = 0, std = 1 }: { readonly mean?: number; readonly std?: number } = {},
): HostTensor {
  const data = new Float32Array(sizeOf(dims));
  for (let index = 0; index < data.length; index += 2) {
    const [one, other] = boxMuller(1 - random(), random(), std);
    data[index] = mean + one;
    if (index + 1 < data.length) data[index + 1] = mean + other;
  }
  return { data, dims: [...dims] };
}

/** A mask for inverted dropout: 0 with probability `rate`, else 1 / (1 − rate). Dims [n, units]. */
export function dropoutMask(n: number, units: number, rate: number, random: Random): HostTensor {
  const kept = 1 / (1 - rate);
  return {
    data: Float32Array.from({ length: n * units }, () => (random() < rate ? 0 : kept)),
    dims: [n, units],
  };
}

/** A tensor of equal elements. */
export function filled(dims: readonly number[], value: number): HostTensor {
  return { data: new Float32Array(sizeOf(dims)).fill(value), dims: [...dims] };
}
