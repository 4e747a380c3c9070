import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { float32Of, type HostTensor, type HostTensors } from '../engine/index.js';
import { foldBatchNorm } from './fold-batch-norm.js';

/** The generator's first layer. */
const LAYER = 'generator/project/';
/** [zDim, 4·4·8·width]. */
const PROJECT = `${LAYER}kernel`;
/** The encoder's last layer, where there is an encoder. */
const ENCODED = ['encoder/z/kernel', 'encoder/z/bias'] as const;

/**
 * The same networks with the latent space turned into the principal axes of the generator's first layer. The prior N(0,
 * 1) does not change, but each coordinate now has its own scale, to which Adam adapts: along the old axes a latent
 * search is slow.
 */
export function turnLatentSpace(parameters: HostTensors): HostTensors {
  const layer = Object.entries(parameters).filter(([name]) => name.startsWith(LAYER));
  const folded = matrixOf(
    foldBatchNorm(Object.fromEntries(layer), () => false),
    PROJECT,
  );
  const axes = new EigenvalueDecomposition(folded.mmul(folded.transpose()), { assumeSymmetric: true })
    .eigenvectorMatrix;
  const encoder = ENCODED.flatMap((name): [string, HostTensor][] => {
    const tensor = parameters[name];
    return tensor === undefined ? [] : [[name, tensorOf(matrixOf(parameters, name).mmul(axes), tensor.dims)]];
  });
  const project = matrixOf(parameters, PROJECT);
  return {
    ...parameters,
    [PROJECT]: tensorOf(axes.transpose().mmul(project), [project.rows, project.columns]),
    ...Object.fromEntries(encoder),
  };
}

/** A vector as one row. */
function matrixOf(parameters: HostTensors, name: string): Matrix {
  const columns = parameters[name]?.dims.at(-1) ?? 0;
  const values = float32Of(parameters, name);
  return Matrix.from1DArray(values.length / columns, columns, values);
}

function tensorOf(matrix: Matrix, dims: readonly number[]): HostTensor {
  return { data: Float32Array.from(matrix.to1DArray()), dims };
}
