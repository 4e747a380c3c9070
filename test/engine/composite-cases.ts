import * as tf from '@tensorflow/tfjs-core';
import { fill, onShape, positive, seed, type KernelCases } from './kernel-cases.js';

type Loss = (labels: tf.Tensor, predictions: tf.Tensor) => tf.Tensor;

/** A loss between 0/1 labels and predictions; differentiated by the predictions. */
function loss(kernel: string, title: string, of: Loss, inside = false): KernelCases {
  return {
    kernel,
    title,
    cases: seed.map((s) => ({
      fn: ({ labels, predictions }) => of(labels as tf.Tensor, predictions as tf.Tensor),
      inputs: {
        labels: fill([4, 3], s, (random) => (random() < 0.5 ? 0 : 1)),
        predictions: inside ? fill([4, 3], s + 1, (random) => 0.05 + 0.9 * random()) : fill([4, 3], s + 1),
      },
      differentiable: ['predictions'],
    })),
  };
}

/** Mean and variance over all axes but the last (batch) or over the last (layer), then scale and offset. */
const normalized = (x: tf.Tensor, axes: number[]): tf.Tensor => {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-3)));
};

/** What networks build of several ops: activations, norms, losses. */
export const COMPOSITE_CASES: readonly KernelCases[] = [
  onShape('Sigmoid', 'swish', [3, 4], (x) => tf.mul(x, tf.sigmoid(x))),
  onShape('Softplus', 'mish', [3, 4], (x) => tf.mul(x, tf.tanh(tf.softplus(x)))),
  onShape('Erf', 'GELU', [3, 4], (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1))),
  onShape('LogSoftmax', 'log-sum-exp', [3, 4], (x) => tf.logSumExp(x, 1)),
  onShape('Mean', 'batch norm in parts', [2, 3, 3, 4], (x) => normalized(x, [0, 1, 2])),
  onShape('Mean', 'layer norm', [2, 5, 4], (x) => normalized(x, [-1])),
  onShape('Sum', 'Euclidean norm', [3, 4], (x) => tf.norm(x, 'euclidean', 1)),
  {
    kernel: 'Multiply',
    title: 'dropout with its mask as an input',
    cases: seed.map((s) => ({
      fn: ({ x, mask }) => tf.div(tf.mul(x as tf.Tensor, mask as tf.Tensor), 0.75),
      inputs: { x: fill([4, 5], s), mask: fill([4, 5], s + 1, (random) => (random() < 0.75 ? 1 : 0)) },
      differentiable: ['x'],
    })),
  },
  {
    kernel: 'Conv2D',
    title: 'a separable convolution',
    cases: seed.map((s) => ({
      fn: ({ x, depthwise, pointwise }) =>
        tf.separableConv2d(x as tf.Tensor4D, depthwise as tf.Tensor4D, pointwise as tf.Tensor4D, 1, 'same'),
      inputs: {
        x: fill([2, 5, 6, 3], s),
        depthwise: fill([3, 3, 3, 2], s + 1),
        pointwise: fill([1, 1, 6, 4], s + 2),
      },
      differentiable: ['x', 'depthwise', 'pointwise'],
    })),
  },
  loss('Log', 'log loss', (labels, predictions) => tf.losses.logLoss(labels, predictions), true),
  loss('Abs', 'absolute difference', (labels, predictions) =>
    tf.losses.absoluteDifference(labels, predictions),
  ),
  loss('SquaredDifference', 'mean squared error', (labels, predictions) =>
    tf.losses.meanSquaredError(labels, predictions),
  ),
  loss('Minimum', 'Huber loss', (labels, predictions) => tf.losses.huberLoss(labels, predictions)),
  loss('Relu', 'hinge loss', (labels, predictions) => tf.losses.hingeLoss(labels, predictions)),
  loss('Sum', 'cosine distance', (labels, predictions) => tf.losses.cosineDistance(labels, predictions, 1)),
  loss('Log1p', 'sigmoid cross-entropy', (labels, predictions) =>
    tf.losses.sigmoidCrossEntropy(labels, predictions),
  ),
  loss('LogSoftmax', 'softmax cross-entropy', (labels, predictions) =>
    tf.losses.softmaxCrossEntropy(tf.softmax(labels), predictions),
  ),
  {
    kernel: 'Pow',
    title: 'focal loss',
    cases: seed.map((s) => ({
      fn: ({ x }) => tf.neg(tf.mul(tf.pow(tf.sub(3, x as tf.Tensor), 2), tf.log(x as tf.Tensor))),
      inputs: { x: fill([3, 4], s, positive) },
      differentiable: ['x'],
    })),
  },
];
