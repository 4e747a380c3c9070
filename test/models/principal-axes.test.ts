import { expect } from 'chai';
import { Matrix } from 'ml-matrix';
import { float32Of, type HostTensors } from '../../src/engine/index.js';
import { foldBatchNorm } from '../../src/models/fold-batch-norm.js';
import { initDcgan, normalNoise, seededRandom, turnLatentSpace } from '../../src/models/index.js';

const PROJECT = 'generator/project/kernel';

function matrix(parameters: HostTensors, name: string): Matrix {
  const columns = parameters[name]?.dims.at(-1) ?? 0;
  const values = float32Of(parameters, name);
  return Matrix.from1DArray(values.length / columns, columns, values);
}

function largest(values: Matrix): number {
  return values.clone().abs().max();
}

describe('the latent space along its principal axes', () => {
  const random = seededRandom(2);
  const parameters: HostTensors = {
    ...initDcgan({ width: 2, zDim: 6 }, 1),
    'generator/project/bn/movingVariance': {
      data: Float32Array.from({ length: 16 }, () => 0.1 + random()),
      dims: [16],
    },
    'encoder/z/kernel': normalNoise([5, 6], random),
    'encoder/z/bias': normalNoise([6], random),
  };
  const turned = turnLatentSpace(parameters);

  it('has a scale of its own for each coordinate: the first layer is orthogonal by rows', () => {
    const layer = matrix(
      foldBatchNorm(turned, () => false),
      PROJECT,
    );
    const gram = layer.mmul(layer.transpose());
    const between = Matrix.sub(gram, Matrix.diag(gram.diag()));
    expect(largest(between)).to.be.below(1e-5 * largest(gram));
  });

  it('is the same space: the layer gets the same distribution, and the output of an encoder gives the same image', () => {
    const [before, after] = [parameters, turned].map((each) => ({
      spread: matrix(each, PROJECT).transpose().mmul(matrix(each, PROJECT)),
      encoded: matrix(each, 'encoder/z/kernel').mmul(matrix(each, PROJECT)),
      offset: matrix(each, 'encoder/z/bias').mmul(matrix(each, PROJECT)),
    }));
    for (const part of ['spread', 'encoded', 'offset'] as const) {
      const expected = before?.[part] ?? Matrix.zeros(1, 1);
      const difference = Matrix.sub(expected, after?.[part] ?? Matrix.zeros(1, 1));
      expect(largest(difference), part).to.be.below(1e-5 * largest(expected));
    }
    expect(turned['encoder/z/bias']?.dims).to.deep.equal([6]);
  });

  it('leaves every other layer alone', () => {
    const others = (all: HostTensors): HostTensors =>
      Object.fromEntries(
        Object.entries(all).filter(([name]) => name !== PROJECT && !name.startsWith('encoder/')),
      );
    expect(others(turned)).to.deep.equal(others(parameters));
  });
});
