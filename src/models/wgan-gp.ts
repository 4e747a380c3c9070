import * as tf from '@tensorflow/tfjs-core';
import type { TensorMap } from '../engine/index.js';
import {
  DCGAN_IMAGE_SIZE,
  discriminatorFeatures,
  discriminatorLogits,
  ganStep,
  generate,
  type DcganOptions,
} from './dcgan.js';
import type { ForwardPass } from './layers.js';
import type { TrainStep } from './train-step.js';

/** Options of both steps; Adam with β₁ = 0 and β₂ = 0.9, as in the paper. */
export interface WganTraining {
  readonly batchSize: number;
  /** λ: weight of the gradient penalty; 10 in the paper. */
  readonly penalty: number;
}

const ADAM = { beta1: 0, beta2: 0.9 } as const;
/** Under the root of the gradient's norm, whose derivative at 0 has none. */
const EPSILON = 1e-12;

/**
 * One step of the critic: mean D(G(z)) − mean D(x) + λ · mean (‖∇D(x̂)‖ − 1)² (Gulrajani et al. 2017,
 * arXiv:1704.00028), with x̂ somewhere between a real and a generated image. The penalty is a function of the
 * critic's gradient, so this step contains second derivatives.
 *
 * Feeds: `images` [N,64,64,1] −1..1, `z` [N,zDim], `mix` [N] 0..1 (the position of x̂; 1 is the real image), `lr` [].
 * Returns: `loss`, `realScore`, `fakeScore` and `gradientPenalty` [] (means; the penalty without λ).
 */
export function wganCriticStep(options: DcganOptions, { batchSize, penalty }: WganTraining): TrainStep {
  return ganStep(
    'discriminator',
    critical(options),
    { batchSize, ...ADAM },
    {
      inputs: {
        images: { shape: [batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] },
        mix: { shape: [batchSize] },
      },
      loss: (feeds, generator, critic) => criticLoss(options, penalty, feeds, generator, critic),
    },
  );
}

/** The loss of the critic and what it is made of; see {@link wganCriticStep}. */
export function criticLoss(
  options: DcganOptions,
  penalty: number,
  { images, z, mix }: TensorMap,
  generator: ForwardPass,
  critic: ForwardPass,
): { loss: tf.Scalar; reports: TensorMap } {
  const real = images as tf.Tensor4D;
  const fake = generate(options, generator, z as tf.Tensor2D);
  const realScore = tf.mean(scores(critic, real));
  const fakeScore = tf.mean(scores(critic, fake));
  const between = tf.add(fake, tf.mul(tf.reshape(mix as tf.Tensor1D, [-1, 1, 1, 1]), tf.sub(real, fake)));
  const gradient = tf.grad((x: tf.Tensor) => tf.sum(scores(critic, x as tf.Tensor4D)))(between);
  const norm = tf.sqrt(tf.add(tf.sum(tf.square(gradient), [1, 2, 3]), EPSILON));
  const gradientPenalty: tf.Scalar = tf.mean(tf.square(tf.sub(norm, 1)));
  return {
    loss: tf.add(tf.sub(fakeScore, realScore), tf.mul(gradientPenalty, penalty)),
    reports: { realScore, fakeScore, gradientPenalty },
  };
}

/**
 * One step of the generator, towards images that the critic scores higher.
 *
 * Feeds: `z` [N,zDim], `lr` []. Returns: `loss` [].
 */
export function wganGeneratorStep(options: DcganOptions, { batchSize }: WganTraining): TrainStep {
  return ganStep(
    'generator',
    critical(options),
    { batchSize, ...ADAM },
    {
      inputs: {},
      loss: ({ z }, generator, critic) => ({
        loss: tf.neg(tf.mean(scores(critic, generate(options, generator, z as tf.Tensor2D)))),
        reports: {},
      }),
    },
  );
}

function scores(critic: ForwardPass, images: tf.Tensor4D): tf.Tensor2D {
  return discriminatorLogits(critic, discriminatorFeatures(critic, images));
}

function critical(options: DcganOptions): DcganOptions {
  return { ...options, critic: true };
}
