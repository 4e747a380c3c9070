import { Matrix, solve } from 'ml-matrix';
import type { HostTensor } from '../../src/engine/index.js';
import { normalNoise, seededRandom } from '../../src/models/index.js';

/** Images are pooled to 16 × 16 before the regression. */
const POOL = 4;
const SAMPLES = 4096;
const SAMPLES_AT_ONCE = 64;
/** Ridge, per sample. */
const RIDGE = 0.002;

/**
 * A linear guess of the latent vector behind an image, by regression over the generator's own images.
 *
 * @param generate z [N,zDim] → images [N,H,W,1].
 * @returns images [N,side,side,1] → z [N,zDim].
 */
export async function fitLinearEncoder(
  generate: (z: HostTensor) => Promise<HostTensor>,
  zDim: number,
  side: number,
): Promise<(images: HostTensor) => Promise<HostTensor>> {
  const random = seededRandom(1);
  const features = (side / POOL) ** 2 + 1;
  const gram = Matrix.eye(features).mul(RIDGE * SAMPLES);
  const moments = Matrix.zeros(features, zDim);
  for (let done = 0; done < SAMPLES; done += SAMPLES_AT_ONCE) {
    const z = normalNoise([SAMPLES_AT_ONCE, zDim], random);
    const images = (await generate(z)).data as Float32Array;
    const pooled = poolAll(images, side);
    gram.add(pooled.transpose().mmul(pooled));
    moments.add(
      pooled.transpose().mmul(Matrix.from1DArray(SAMPLES_AT_ONCE, zDim, [...(z.data as Float32Array)])),
    );
  }
  const weights = solve(gram, moments);
  return async ({ data, dims: [n = 0] }) => ({
    data: Float32Array.from(
      poolAll(data as Float32Array, side)
        .mmul(weights)
        .to1DArray(),
    ),
    dims: [n, zDim],
  });
}

/** The films one a row. */
function poolAll(images: Float32Array, side: number): Matrix {
  const size = side * side;
  return new Matrix(
    Array.from({ length: images.length / size }, (_, n) =>
      pool(images.subarray(n * size, (n + 1) * size), side),
    ),
  );
}

/** Means of squares of 4 × 4 pixels, and a 1 for the constant term. */
function pool(pixels: Float32Array, side: number): number[] {
  const width = side / POOL;
  const means = new Array<number>(width * width + 1).fill(0);
  pixels.forEach((value, at) => {
    const cell = Math.floor(at / side / POOL) * width + Math.floor((at % side) / POOL);
    means[cell] = (means[cell] ?? 0) + value / POOL ** 2;
  });
  means[width * width] = 1;
  return means;
}
