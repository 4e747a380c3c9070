import * as tf from '@tensorflow/tfjs-core';
import { batchNormTraining, type HostTensors, type TensorMap } from '../engine/index.js';
import { filled, normalNoise } from './random.js';

/** Added to variances before the root. */
export const BATCH_NORM_EPSILON = 1e-5;
/** Weight of the newest batch in the moving statistics. */
export const MOVING_STATISTICS_RATE = 0.1;

/**
 * How a network is run. In training, batch normalisation uses the batch's statistics and leaves the moving ones, updated,
 * in `moving`; in inference `moving` stays empty.
 */
export class ForwardPass {
  /** Next values of the moving statistics, by name. */
  readonly moving: TensorMap = {};

  constructor(
    readonly parameters: TensorMap,
    readonly training: boolean,
  ) {}

  /** A parameter by name. */
  get(name: string): tf.Tensor {
    const tensor = this.parameters[name];
    if (tensor) return tensor;
    throw new Error(`Expected a parameter "${name}"; the dictionary has none of that name.`);
  }

  /** Convolution, [N,H,W,C] → [N,H',W',O], with a bias where `name/bias` exists. */
  conv(name: string, x: tf.Tensor4D, stride: number, pad: 'same' | number): tf.Tensor4D {
    const y = tf.conv2d(x, this.get(`${name}/kernel`) as tf.Tensor4D, stride, pad);
    return this.#biased(name, y);
  }

  /** Transposed convolution that multiplies height and width by `stride`; the kernel is [h,w,out,in]. */
  convTranspose(name: string, x: tf.Tensor4D, stride: number): tf.Tensor4D {
    const kernel = this.get(`${name}/kernel`) as tf.Tensor4D;
    const [n, h, w] = x.shape;
    const y = tf.conv2dTranspose(x, kernel, [n, h * stride, w * stride, kernel.shape[2]], stride, 'same');
    return this.#biased(name, y);
  }

  /** Matrix product, [N,I] → [N,O], with a bias where `name/bias` exists. */
  dense(name: string, x: tf.Tensor2D): tf.Tensor2D {
    return this.#biased(name, tf.matMul(x, this.get(`${name}/kernel`) as tf.Tensor2D));
  }

  /** Batch normalisation over all axes but the last; nothing where the network has none, or none any more: folded. */
  batchNorm<T extends tf.Tensor>(name: string, x: T): T {
    if (this.parameters[`${name}/gamma`] === undefined) return x;
    const gamma = this.get(`${name}/gamma`) as tf.Tensor1D;
    const beta = this.get(`${name}/beta`) as tf.Tensor1D;
    const mean = this.moving[`${name}/movingMean`] ?? this.get(`${name}/movingMean`);
    const variance = this.moving[`${name}/movingVariance`] ?? this.get(`${name}/movingVariance`);
    if (!this.training) {
      const normalised: tf.Tensor = tf.batchNorm(x, mean, variance, beta, gamma, BATCH_NORM_EPSILON);
      return normalised as T;
    }
    const batch = batchNormTraining(x, gamma, beta, BATCH_NORM_EPSILON);
    this.moving[`${name}/movingMean`] = blend(mean, batch.mean);
    this.moving[`${name}/movingVariance`] = blend(variance, batch.variance);
    return batch.y as T;
  }

  #biased<T extends tf.Tensor>(name: string, y: T): T {
    const bias = this.parameters[`${name}/bias`];
    return bias ? tf.add(y, bias) : y;
  }
}

function blend(old: tf.Tensor, current: tf.Tensor): tf.Tensor {
  return tf.add(tf.mul(old, 1 - MOVING_STATISTICS_RATE), tf.mul(current, MOVING_STATISTICS_RATE));
}

/** Whether a parameter is a moving statistic: updated by the forward pass, not by the optimiser. */
export function isMovingStatistic(name: string): boolean {
  return name.endsWith('/movingMean') || name.endsWith('/movingVariance');
}

/** Initial parameters of a batch normalisation; `gamma` as a constant, or drawn (DCGAN: N(1, 0.02)). */
export function batchNormParameters(
  name: string,
  channels: number,
  gamma = filled([channels], 1),
): HostTensors {
  return {
    [`${name}/gamma`]: gamma,
    [`${name}/beta`]: filled([channels], 0),
    [`${name}/movingMean`]: filled([channels], 0),
    [`${name}/movingVariance`]: filled([channels], 1),
  };
}

/** He et al. 2015 initialisation over the fan-out: std = √(2 / (h·w·out)) of a [h,w,in,out] kernel. */
export function heFanOut(
  dims: readonly [number, number, number, number],
  random: () => number,
): HostTensors[string] {
  const [height, width, , out] = dims;
  return normalNoise(dims, random, { std: Math.sqrt(2 / (height * width * out)) });
}
