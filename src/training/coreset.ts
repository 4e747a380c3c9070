import { normalNoise, type Random } from '../models/random.js';

/** Dimensions of the random projection; enough here by the Johnson–Lindenstrauss lemma. */
const PROJECTED = 32;

/**
 * `count` of the rows of `vectors` [n,k], so that no row is far from a chosen one: greedy k-centre (Sener and
 * Savarese 2018), on a random projection as in PatchCore (Roth et al. 2022, algorithm 1). Numbers of rows.
 */
export function coreset(vectors: Float32Array, k: number, count: number, random: Random): Uint32Array {
  const n = vectors.length / k;
  if (count >= n) return Uint32Array.from({ length: n }, (_, i) => i);
  const [points, dims] = k <= PROJECTED ? [vectors, k] : [projected(vectors, k, random), PROJECTED];
  const nearest = new Float32Array(n).fill(Infinity);
  const chosen = new Uint32Array(count);
  let next = Math.floor(random() * n);
  for (let c = 0; c < count; c++) {
    chosen[c] = next;
    const centre = next * dims;
    let farthest = -1;
    for (let i = 0; i < n; i++) {
      let square = 0;
      for (let d = 0; d < dims; d++) square += ((points[i * dims + d] ?? 0) - (points[centre + d] ?? 0)) ** 2;
      if (square < (nearest[i] ?? 0)) nearest[i] = square;
      if ((nearest[i] ?? 0) > farthest) {
        farthest = nearest[i] ?? 0;
        next = i;
      }
    }
  }
  return chosen;
}

function projected(vectors: Float32Array, k: number, random: Random): Float32Array {
  const n = vectors.length / k;
  const axes = normalNoise([k, PROJECTED], random).data as Float32Array;
  const points = new Float32Array(n * PROJECTED);
  for (let i = 0; i < n; i++) {
    for (let from = 0; from < k; from++) {
      const value = vectors[i * k + from] ?? 0;
      for (let d = 0; d < PROJECTED; d++) {
        points[i * PROJECTED + d] =
          (points[i * PROJECTED + d] ?? 0) + value * (axes[from * PROJECTED + d] ?? 0);
      }
    }
  }
  return points;
}
