import { Matrix, QrDecomposition } from 'ml-matrix';
import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx } from '../engine/index.js';
import { normalNoise, seededRandom } from '../models/random.js';
import { imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';

/** The mean of normal films and their principal components, over pooled pixels. */
export interface Pca {
  /** Of the films. */
  readonly side: number;
  /** [SIDE²] */
  readonly mean: Float32Array;
  /** [SIDE², components]: orthonormal columns. */
  readonly components: Float32Array;
}

/** Films are pooled to 32 × 32. */
const SIDE = 32;
const COMPONENTS = 32;
const ITERATIONS = 8;

/**
 * Principal components of the given films by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4): the
 * simplest reconstruction, used as a baseline.
 */
export function fitPca(films: PreparedFilms, normals: Uint32Array, seed: number): Pca {
  const rows = Array.from(normals, (film) => pooled(films, film));
  const mean = Float32Array.from({ length: SIDE ** 2 }, (_, p) => {
    return rows.reduce((sum, row) => sum + (row[p] ?? 0), 0) / rows.length;
  });
  const centred = new Matrix(rows.map((row) => Array.from(row, (value, p) => value - (mean[p] ?? 0))));
  const components = Math.min(COMPONENTS, rows.length);
  const noise = normalNoise([SIDE ** 2, components], seededRandom(seed)).data as Float32Array;
  let basis = Matrix.from1DArray(SIDE ** 2, components, noise);
  const transposed = centred.transpose();
  for (let i = 0; i < ITERATIONS; i++) {
    basis = new QrDecomposition(transposed.mmul(centred.mmul(basis))).orthogonalMatrix;
  }
  return { side: films.width, mean, components: Float32Array.from(basis.to1DArray()) };
}

/** `images` [N,S,S,1] 0..1 → `error` [N], the mean squared error of the pooled film's projection, at any batch size. */
export function exportPca({ side, mean, components }: Pca): Uint8Array {
  const pixels = SIDE ** 2;
  const variables = {
    mean: { data: mean, dims: [pixels] },
    components: { data: components, dims: [pixels, components.length / pixels] },
  };
  return traceToOnnx(
    ({ images }, given) => {
      const { mean: middle, components: basis } = given as { mean: tf.Tensor1D; components: tf.Tensor2D };
      const small = tf.avgPool(images as tf.Tensor4D, side / SIDE, side / SIDE, 'valid');
      const x = tf.sub(tf.reshape(small, [small.shape[0], pixels]), middle);
      const rest = tf.sub(x, tf.matMul(tf.matMul(x as tf.Tensor2D, basis), basis, false, true));
      return { error: tf.mean(tf.square(rest), 1) };
    },
    { images: { shape: [1, side, side, 1] } },
    { variables, freeze: true, batch: 'symbolic', metadata: { 'rxray.model': 'pca' } },
  ).bytes;
}

function pooled(films: PreparedFilms, film: number): Float32Array {
  const pixels = imagesOf(films, Uint32Array.of(film), unscaledInput(films)).data as Float32Array;
  const { width } = films;
  const scale = width / SIDE;
  const means = new Float32Array(SIDE ** 2);
  pixels.forEach((value, at) => {
    const cell = Math.floor(at / width / scale) * SIDE + Math.floor((at % width) / scale);
    means[cell] = (means[cell] ?? 0) + value / scale ** 2;
  });
  return means;
}
