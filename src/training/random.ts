/** A stream of pseudo-random numbers in [0, 1). */
export type Random = () => number;

/**
 * A seeded stream that depends on every one of `seeds` (integers): `seeded(seed, epoch, index)` gives each
 * film of each epoch its own, so that nothing depends on the order of the work and a resumed run draws
 * what an uninterrupted one would have drawn. The generator is sfc32 (C. Doty-Humphrey, PractRand).
 */
export function seeded(...seeds: readonly number[]): Random {
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
