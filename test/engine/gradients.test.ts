import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import fc from 'fast-check';
import { COMPOSITE_CASES } from './composite-cases.js';
import { INDEXING_CASES } from './indexing-cases.js';
import { fill, KERNEL_CASES } from './kernel-cases.js';
import { toTensors, useCpuBackend } from './support.js';

/** Length of the step either way; float32 leaves about three digits of a difference over it. */
const STEP = 5e-3;
const TOLERANCE = 2e-2;

describe('gradient rules', () => {
  before(useCpuBackend);

  for (const { kernel, title, cases } of [...KERNEL_CASES, ...INDEXING_CASES, ...COMPOSITE_CASES]) {
    const sample = fc
      .sample(cases, { numRuns: 4, seed: 7 })
      .filter(({ differentiable }) => differentiable.length > 0);
    if (sample.length === 0) continue;
    it(`${kernel}: the slope along a random direction is the difference quotient (${title})`, () => {
      for (const { fn, inputs, differentiable } of sample) {
        const given = toTensors(inputs);
        const points = differentiable.map((name) => given[name] as tf.Tensor);
        const loss = (...values: tf.Tensor[]): tf.Scalar => {
          const own = Object.fromEntries(
            differentiable.map((name, index) => [name, values[index] as tf.Tensor]),
          );
          const result = [fn({ ...given, ...own })].flat()[0] as tf.Tensor;
          return tf.sum(tf.mul(result, tf.tensor(fill(result.shape, 99).data as Float32Array, result.shape)));
        };
        const directions = points.map(({ shape }, index) =>
          tf.tensor(fill(shape, 50 + index).data as Float32Array, shape),
        );
        const at = (distance: number): number =>
          Number(
            loss(
              ...points.map((point, index) =>
                tf.add(point, tf.mul(directions[index] as tf.Tensor, distance)),
              ),
            ).dataSync()[0],
          );
        const quotient = (at(STEP) - at(-STEP)) / (2 * STEP);
        const gradients = tf.grads(loss)(points);
        const slope = gradients.reduce(
          (sum, gradient, index) =>
            sum + Number(tf.sum(tf.mul(gradient, directions[index] as tf.Tensor)).dataSync()[0]),
          0,
        );
        const size = gradients.reduce(
          (sum, gradient) => sum + Number(tf.sum(tf.abs(gradient)).dataSync()[0]),
          1,
        );
        expect(Math.abs(slope - quotient) / size).to.be.at.most(TOLERANCE);
      }
    });
  }
});
