import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { UMAP } from 'umap-js';
import { boxMuller, seededRandom, type Random } from '../../models/random.js';

export type Point = readonly [number, number];

/** Number of principal components that are used. */
const COMPONENTS = 30;

/** The rows' coordinates along their first principal components, by the eigenvectors of the films' scalar products. */
export function principalComponents(rows: readonly ArrayLike<number>[], count = COMPONENTS): number[][] {
  const features = new Matrix(rows.map((row) => Array.from(row)));
  const centred = features.subRowVector(features.mean('column'));
  const products = centred.mmul(centred.transpose());
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(products, {
    assumeSymmetric: true,
  });
  const kept = realEigenvalues
    .map((value, i) => ({ value, i }))
    .sort((a, b) => b.value - a.value)
    .slice(0, count)
    .filter(({ value }) => value > 0);
  return rows.map((_, film) => kept.map(({ value, i }) => eigenvectorMatrix.get(film, i) * Math.sqrt(value)));
}

/** UMAP (McInnes et al. 2018) of the rows into the plane. */
export function umap(rows: readonly (readonly number[])[], seed = 1): Point[] {
  const nNeighbors = Math.max(2, Math.min(15, rows.length - 1));
  const embedding = new UMAP({ nNeighbors, minDist: 0.1, random: seededRandom(seed) }).fit(
    rows.map((row) => [...row]),
  );
  return embedding.map(([x = 0, y = 0]) => [x, y]);
}

/**
 * t-SNE (van der Maaten and Hinton 2008) of the rows into the plane, with all pairs: for some hundred rows.
 * Gains, momentum and early exaggeration are the paper's and its reference implementation's.
 */
export function tsne(
  rows: readonly (readonly number[])[],
  { perplexity = 30, iterations = 500, seed = 1 } = {},
): Point[] {
  const n = rows.length;
  const joint = jointProbabilities(rows, Math.min(perplexity, (n - 1) / 3));
  const random = seededRandom(seed);
  const at = normal(2 * n, random, 1e-4);
  const velocity = new Float64Array(2 * n);
  const gains = new Float64Array(2 * n).fill(1);
  const similarity = new Float64Array(n * n);
  const rate = Math.max(50, n / 12);
  for (let iteration = 0; iteration < iterations; iteration++) {
    const exaggeration = iteration < 100 ? 12 : 1;
    const momentum = iteration < 250 ? 0.5 : 0.8;
    let total = 0;
    for (let i = 0; i < n; i++) {
      for (let j = i + 1; j < n; j++) {
        const [dx, dy] = [value(at, 2 * i) - value(at, 2 * j), value(at, 2 * i + 1) - value(at, 2 * j + 1)];
        const near = 1 / (1 + dx * dx + dy * dy);
        similarity[i * n + j] = near;
        similarity[j * n + i] = near;
        total += 2 * near;
      }
    }
    for (let i = 0; i < n; i++) {
      const gradient = [0, 0];
      for (let j = 0; j < n; j++) {
        const near = value(similarity, i * n + j);
        const force = 4 * (exaggeration * value(joint, i * n + j) - near / total) * near;
        for (let d = 0; d < 2; d++)
          gradient[d] = (gradient[d] ?? 0) + force * (value(at, 2 * i + d) - value(at, 2 * j + d));
      }
      for (let d = 0; d < 2; d++) {
        const k = 2 * i + d;
        const slope = gradient[d] ?? 0;
        const opposed = Math.sign(slope) !== Math.sign(value(velocity, k));
        gains[k] = Math.max(0.01, opposed ? value(gains, k) + 0.2 : value(gains, k) * 0.8);
        velocity[k] = momentum * value(velocity, k) - rate * value(gains, k) * slope;
      }
    }
    for (let k = 0; k < 2 * n; k++) at[k] = value(at, k) + value(velocity, k);
  }
  return rows.map((_, i) => [value(at, 2 * i), value(at, 2 * i + 1)]);
}

/** Each row's similarities to the others, of the given perplexity, made symmetric. */
function jointProbabilities(rows: readonly (readonly number[])[], perplexity: number): Float64Array {
  const n = rows.length;
  const conditional = new Float64Array(n * n);
  const distances = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const mine = rows[i] ?? [];
    rows.forEach((other, j) => {
      distances[j] = mine.reduce((sum, x, d) => sum + (x - (other[d] ?? 0)) ** 2, 0);
    });
    let [low, high] = [0, Infinity];
    // The mean distance sets the scale, whatever the features' unit is.
    let precision = n / (distances.reduce((a, b) => a + b, 0) || 1);
    for (let attempt = 0; attempt < 60; attempt++) {
      let [sum, weighted] = [0, 0];
      for (let j = 0; j < n; j++) {
        const p = j === i ? 0 : Math.exp(-value(distances, j) * precision);
        conditional[i * n + j] = p;
        sum += p;
        weighted += p * value(distances, j);
      }
      const entropy = sum === 0 ? 0 : Math.log(sum) + (precision * weighted) / sum;
      if (Math.abs(entropy - Math.log(perplexity)) < 1e-5) break;
      if (entropy > Math.log(perplexity)) low = precision;
      else high = precision;
      precision = high === Infinity ? precision * 2 : (low + high) / 2;
    }
    const sum = conditional.subarray(i * n, (i + 1) * n).reduce((a, b) => a + b, 0) || 1;
    for (let j = 0; j < n; j++) conditional[i * n + j] = value(conditional, i * n + j) / sum;
  }
  const joint = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      joint[i * n + j] = (value(conditional, i * n + j) + value(conditional, j * n + i)) / (2 * n);
    }
  }
  return joint;
}

function normal(count: number, random: Random, std: number): Float64Array {
  return Float64Array.from({ length: count }, () => boxMuller(1 - random(), random(), std)[0]);
}

function value(array: Float64Array, i: number): number {
  return array[i] ?? 0;
}
