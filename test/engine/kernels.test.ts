import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import fc from 'fast-check';
import { Engine, traceToOnnx, type HostTensors, type TensorMap } from '../../src/engine/index.js';
import { KERNEL_GROUPS } from '../../src/engine/kernels/index.js';
import { COMPOSITE_CASES } from './composite-cases.js';
import { INDEXING_CASES } from './indexing-cases.js';
import { fill, KERNEL_CASES, type KernelCase } from './kernel-cases.js';
import { expectClose, toHost, toTensors, useCpuBackend } from './support.js';

const RUNS = 6;
const CASES = [...KERNEL_CASES, ...INDEXING_CASES, ...COMPOSITE_CASES];

/** The results, and the gradients of Σ result·weight by every differentiable input. */
function withGradients({ fn, differentiable }: KernelCase, weights: (result: tf.Tensor) => tf.Tensor) {
  return (inputs: TensorMap): TensorMap => {
    const listed = (given: TensorMap): tf.Tensor[] => [fn(given)].flat();
    const results = listed(inputs);
    const outputs: TensorMap = Object.fromEntries(
      results.map((result, index) => [`result${String(index)}`, result]),
    );
    if (differentiable.length === 0) return outputs;
    const total = (...values: tf.Tensor[]): tf.Scalar => {
      const own = Object.fromEntries(differentiable.map((name, index) => [name, values[index] as tf.Tensor]));
      const first = listed({ ...inputs, ...own })[0] as tf.Tensor;
      return tf.sum(tf.mul(first, weights(first)));
    };
    const gradients = tf.grads(total)(differentiable.map((name) => inputs[name] as tf.Tensor));
    differentiable.forEach((name, index) => {
      outputs[`d_${name}`] = gradients[index] as tf.Tensor;
    });
    return outputs;
  };
}

function weights(result: tf.Tensor): tf.Tensor {
  return tf.tensor(fill(result.shape, 99).data as Float32Array, result.shape);
}

describe('traced kernels', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine();
  });

  after(() => engine.dispose());

  it('have cases here only where they exist (those without are covered by TensorFlow.js’ own tests)', () => {
    const registered = Object.values(KERNEL_GROUPS).flatMap((group) => group.map(({ kernel }) => kernel));
    expect(registered).to.include.members(CASES.map(({ kernel }) => kernel));
  });

  for (const { kernel, title, cases } of CASES) {
    it(`${kernel} equals TensorFlow.js' CPU backend, forward and backward: ${title}`, async () => {
      await fc.assert(
        fc.asyncProperty(cases, async (one) => {
          const fn = withGradients(one, weights);
          const expected = toHost(fn(toTensors(one.inputs)));
          const shapes = Object.fromEntries(
            Object.entries(one.inputs).map(([name, { dims }]) => [name, { shape: dims }]),
          );
          const session = await engine.load(traceToOnnx(fn, shapes).bytes, { device: 'cpu', threads: 1 });
          const used: HostTensors = {};
          for (const { name } of session.inputs) used[name] = one.inputs[name] ?? fill([], 1);
          const results = await session.run(used);
          await session.dispose();
          expectClose(results, expected, 1e-4);
        }),
        { numRuns: RUNS, seed: 1234 },
      );
    });
  }
});
