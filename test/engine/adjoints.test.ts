import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import fc from 'fast-check';
import { Engine, traceToOnnx, type TensorMap } from '../../src/engine/index.js';
import { dim, fill, seed } from './kernel-cases.js';

interface Linear {
  readonly op: (u: tf.Tensor) => tf.Tensor;
  readonly u: number[];
}

const images = fc.tuple(dim(2), dim(7, 3), dim(8, 3), dim(3));
const sizes = fc.tuple(dim(11), dim(11));
const filters = fc.tuple(dim(3), dim(3), dim(3));
const weights = (dims: number[]): tf.Tensor4D =>
  tf.tensor4d(fill(dims, 5).data as Float32Array, dims as [number, number, number, number]);

function resized(
  op: 'resizeBilinear' | 'resizeNearestNeighbor',
  align: boolean,
  half: boolean,
): fc.Arbitrary<Linear> {
  return fc.tuple(images, sizes).map(([u, size]) => ({
    u,
    op: (x) => tf.image[op](x as tf.Tensor4D, size, align, half),
  }));
}

/** Linear ops whose gradient TensorFlow.js' CPU backend lacks or gets wrong. */
const LINEAR: Record<string, fc.Arbitrary<Linear>> = {
  'a dilated convolution, by its images': fc.tuple(images, filters).map(([u, [height, width, dilation]]) => ({
    u,
    op: (x) => tf.conv2d(x as tf.Tensor4D, weights([height, width, u[3], 4]), 1, 'same', 'NHWC', dilation),
  })),
  'a dilated convolution, by its filters': fc
    .tuple(images, filters)
    .map(([x, [height, width, dilation]]) => ({
      u: [height, width, x[3], 4],
      op: (u) => tf.conv2d(weights(x), u as tf.Tensor4D, 1, 'same', 'NHWC', dilation),
    })),
  'a dilated depthwise convolution, by its filters': fc
    .tuple(images, filters)
    .map(([x, [height, width, dilation]]) => ({
      u: [height, width, x[3], 2],
      op: (u) => tf.depthwiseConv2d(weights(x), u as tf.Tensor4D, 1, 'same', 'NHWC', dilation),
    })),
  'a convolution with more padding than its filter has reach': images.map((u) => ({
    u,
    op: (x) => tf.conv2d(x as tf.Tensor4D, weights([1, 2, u[3], 3]), 1, 2),
  })),
  'a strided convolution whose size is rounded up': fc.tuple(images, dim(3, 2)).map(([u, stride]) => ({
    u,
    op: (x) => tf.conv2d(x as tf.Tensor4D, weights([3, 3, u[3], 3]), stride, 1, 'NHWC', 1, 'ceil'),
  })),
  'an average pool with padding': fc.tuple(images, dim(3), dim(2)).map(([u, size, stride]) => ({
    u,
    op: (x) => tf.avgPool(x as tf.Tensor4D, size, stride, 'same'),
  })),
  'bilinear resizing': resized('resizeBilinear', false, false),
  'bilinear resizing, aligned corners': resized('resizeBilinear', true, false),
  'bilinear resizing, half-pixel centres': resized('resizeBilinear', false, true),
  'resizing to the nearest pixel': resized('resizeNearestNeighbor', false, false),
  'resizing to the nearest pixel, aligned corners': resized('resizeNearestNeighbor', true, false),
  'resizing to the nearest pixel, half-pixel centres': resized('resizeNearestNeighbor', false, true),
};

describe('gradients of linear ops are their adjoints: ⟨A u, v⟩ = ⟨u, ∇⟨A u, v⟩⟩', () => {
  const engine = new Engine();
  after(() => engine.dispose());

  for (const [title, cases] of Object.entries(LINEAR)) {
    it(title, async () => {
      await fc.assert(
        fc.asyncProperty(cases, seed, async ({ op, u }, s) => {
          const products = (inputs: TensorMap): TensorMap => {
            const given = inputs['u'] as tf.Tensor;
            const product = (x: tf.Tensor): tf.Scalar => {
              const y = op(x);
              return tf.sum(tf.mul(y, tf.tensor(fill(y.shape, 99).data as Float32Array, y.shape)));
            };
            const slope = tf.grad(product)(given);
            return { forward: product(given), backward: tf.sum(tf.mul(given, slope)), size: tf.norm(slope) };
          };
          const session = await engine.load(traceToOnnx(products, { u: { shape: u } }).bytes, {
            device: 'cpu',
            threads: 1,
          });
          const { forward, backward, size } = await session.run({ u: fill(u, s) });
          await session.dispose();
          const scale = Math.max(1e-3, Number(size?.data[0]));
          expect(Math.abs(Number(forward?.data[0]) - Number(backward?.data[0])) / scale).to.be.at.most(1e-4);
        }),
        { numRuns: 6, seed: 1234 },
      );
    });
  }
});
