import * as tf from '@tensorflow/tfjs-core';
import { BATCH_NORM_TRAINING } from '../kernels/normalization.js';
import { TRACE_BACKEND } from '../tracer.js';

/** What {@link batchNormTraining} returns. */
export interface BatchNormTraining {
  readonly y: tf.Tensor;
  /** Mean of the batch, [C]. */
  readonly mean: tf.Tensor1D;
  /** Population variance of the batch, [C]. */
  readonly variance: tf.Tensor1D;
}

/**
 * Batch normalisation with the statistics of the batch (Ioffe and Szegedy 2015), over all axes but the last.
 * While tracing it is one ONNX node with a short gradient; on other backends it is composed of plain ops.
 *
 * @param x [N,H,W,C] or [N,C].
 * @param gamma Scale, [C].
 * @param beta Offset, [C].
 */
export function batchNormTraining(
  x: tf.Tensor,
  gamma: tf.Tensor1D,
  beta: tf.Tensor1D,
  epsilon: number,
): BatchNormTraining {
  if (tf.getBackend() === TRACE_BACKEND) {
    registerTrainingGradient();
    const outputs: unknown = tf.engine().runKernel(BATCH_NORM_TRAINING, { x, gamma, beta }, { epsilon });
    const [y, mean, variance] = outputs as [tf.Tensor, tf.Tensor1D, tf.Tensor1D];
    return { y, mean, variance };
  }
  const { mean, variance } = tf.moments(x, reducedAxes(x));
  const y = tf.batchNorm(
    x as tf.Tensor4D,
    mean as tf.Tensor1D,
    variance as tf.Tensor1D,
    beta,
    gamma,
    epsilon,
  );
  return { y, mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D };
}

let registered = false;

/**
 * dx = a·dy + b·x + c with one a, b, c per channel, so that only two sums over the batch are needed.
 * The statistics are not differentiable outputs: they feed the moving averages only.
 */
function registerTrainingGradient(): void {
  if (registered) return;
  registered = true;
  tf.registerGradient({
    kernelName: BATCH_NORM_TRAINING,
    inputsToSave: ['x', 'gamma'],
    outputsToSave: [false, true, true],
    gradFunc: (dys, saved, attrs) => {
      const dy = Array.isArray(dys) ? (dys[0] as tf.Tensor) : dys;
      const [x, gamma, mean, variance] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const axes = reducedAxes(x);
      const count = x.size / gamma.size;
      const inverse = tf.rsqrt(tf.add(variance, Number(attrs['epsilon'])));
      const sumDy = tf.sum(dy, axes);
      const sumDyX = tf.sum(tf.mul(dy, x), axes);
      const dGamma = tf.mul(tf.sub(sumDyX, tf.mul(mean, sumDy)), inverse);
      const a = tf.mul(gamma, inverse);
      const b = tf.mul(tf.mul(a, tf.mul(inverse, dGamma)), -1 / count);
      const c = tf.sub(tf.mul(tf.mul(a, sumDy), -1 / count), tf.mul(b, mean));
      return {
        x: () => tf.add(tf.add(tf.mul(dy, a), tf.mul(x, b)), c),
        gamma: () => dGamma,
        beta: () => sumDy,
      };
    },
  });
}

function reducedAxes(x: tf.Tensor): number[] {
  return Array.from({ length: x.rank - 1 }, (_, axis) => axis);
}
