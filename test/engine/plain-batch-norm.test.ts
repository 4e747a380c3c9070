import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { batchNormTraining, Engine, traceToOnnx, type HostTensors } from '../../src/engine/index.js';
import { replaceNodes } from '../../src/engine/onnx-edit.js';
import { plainBatchNorm } from '../../src/engine/plain-batch-norm.js';
import { fill, positive } from './kernel-cases.js';

/** The same training node as a model with one operator, and composed of plain ones, on the CPU. */
async function bothWays(dims: readonly number[]): Promise<{ one: HostTensors; plain: HostTensors }> {
  const channels = [dims.at(-1) ?? 1];
  const { bytes } = traceToOnnx(
    ({ x, gamma, beta }) => {
      const { y, mean, variance } = batchNormTraining(
        x as tf.Tensor,
        gamma as tf.Tensor1D,
        beta as tf.Tensor1D,
        1e-3,
      );
      return { y, mean, variance };
    },
    { x: { shape: [...dims] }, gamma: { shape: channels }, beta: { shape: channels } },
  );
  const feeds = { x: fill(dims, 1), gamma: fill(channels, 2, positive), beta: fill(channels, 3) };
  const composed = plainBatchNorm(bytes);
  expect(operators(bytes)).to.include('BatchNormalization');
  expect(operators(composed)).to.not.include('BatchNormalization');
  const engine = new Engine();
  try {
    const [one, plain] = await Promise.all([engine.load(bytes), engine.load(composed)]);
    return { one: await one.run(feeds), plain: await plain.run(feeds) };
  } finally {
    await engine.dispose();
  }
}

function operators(bytes: Uint8Array): string[] {
  const types: string[] = [];
  replaceNodes(bytes, ({ type }) => void types.push(type));
  return types;
}

describe('batch normalisation in training, composed of plain operators', () => {
  for (const dims of [
    [3, 5, 4, 6],
    [24, 6],
  ]) {
    it(`gives what the one operator gives, [${dims.join()}]`, async () => {
      const { one, plain } = await bothWays(dims);
      expect(Object.keys(plain)).to.have.members(['y', 'mean', 'variance']);
      for (const [name, { data, dims: shape }] of Object.entries(one)) {
        expect(plain[name]?.dims).to.deep.equal(shape);
        for (const [i, value] of data.entries()) {
          expect(Number(plain[name]?.data[i])).to.be.closeTo(Number(value), 1e-5);
        }
      }
    });
  }

  it('leaves other models as they are', () => {
    const { bytes } = traceToOnnx(({ x }) => ({ y: tf.add(x as tf.Tensor, 1) }), { x: { shape: [2] } });
    expect(plainBatchNorm(bytes)).to.deep.equal(bytes);
  });
});
