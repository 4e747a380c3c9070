import { Matrix, EigenvalueDecomposition, solve } from 'ml-matrix';
import { float32Of, type HostTensor, type HostTensors } from '../../src/engine/index.js';
import { normalNoise, seededRandom } from '../../src/models/index.js';

const PROJECT = 'generator/project/kernel';
/** Images are pooled to 16 × 16 before the regression. */
const POOL = 4;
const SAMPLES = 4096;
const SAMPLES_AT_ONCE = 64;
/** Ridge, per sample. */
const RIDGE = 0.002;

/**
 * The same generator with its latent space turned into the principal axes of its first layer. The prior N(0, 1) stays what
 * it was, but each coordinate now has a scale of its own, which is what Adam can adapt to.
 */
export function turnLatentSpace(parameters: HostTensors): HostTensors {
  const kernel = matrixOf(parameters, PROJECT);
  const axes = new EigenvalueDecomposition(kernel.mmul(kernel.transpose()), { assumeSymmetric: true })
    .eigenvectorMatrix;
  const data = Float32Array.from(axes.transpose().mmul(kernel).to1DArray());
  return { ...parameters, [PROJECT]: { data, dims: [kernel.rows, kernel.columns] } };
}

/**
 * A linear guess of the latent vector behind an image, by regression over the generator's own images.
 *
 * @param generate z [N,zDim] → images [N,H,W,1].
 * @returns One film's pixels, side × side → z.
 */
export async function fitLinearEncoder(
  generate: (z: HostTensor) => Promise<HostTensor>,
  zDim: number,
  side: number,
): Promise<(film: Float32Array) => Float32Array> {
  const random = seededRandom(1);
  const features = (side / POOL) ** 2 + 1;
  const gram = Matrix.eye(features).mul(RIDGE * SAMPLES);
  const moments = Matrix.zeros(features, zDim);
  for (let done = 0; done < SAMPLES; done += SAMPLES_AT_ONCE) {
    const z = normalNoise([SAMPLES_AT_ONCE, zDim], random);
    const images = (await generate(z)).data as Float32Array;
    const pooled = new Matrix(
      Array.from({ length: SAMPLES_AT_ONCE }, (_, n) =>
        pool(images.subarray(n * side * side, (n + 1) * side * side), side),
      ),
    );
    gram.add(pooled.transpose().mmul(pooled));
    moments.add(
      pooled.transpose().mmul(Matrix.from1DArray(SAMPLES_AT_ONCE, zDim, [...(z.data as Float32Array)])),
    );
  }
  const weights = solve(gram, moments);
  return (film) => Float32Array.from(Matrix.rowVector(pool(film, side)).mmul(weights).to1DArray());
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

function matrixOf(parameters: HostTensors, name: string): Matrix {
  const [rows = 0, columns = 0] = parameters[name]?.dims ?? [];
  return Matrix.from1DArray(rows, columns, [...float32Of(parameters, name)]);
}
