import * as tf from '@tensorflow/tfjs-core';
import type { HostTensors, TensorMap } from '../engine/index.js';
import { batchNormParameters, ForwardPass, isMovingStatistic } from './layers.js';
import { sigmoidCrossEntropy } from './losses.js';
import { optimize, zeroMoments, type AdamOptions } from './optimizers.js';
import { filled, normalNoise, seededRandom } from './random.js';
import { asNext, differentiate, makeTrainStep, type TrainStep } from './train-step.js';

/** A DCGAN for grey images of 64 × 64 pixels in −1..1 (Radford, Metz and Chintala 2016). */
export interface DcganOptions {
  /** Channels of the discriminator's first and the generator's last hidden layer; 64 is the paper's. */
  readonly width: number;
  /** Length of the latent vector z ~ N(0, 1); 100 unless given. */
  readonly zDim?: number;
  /** The discriminator is WGAN-GP's critic: without batch normalisation, because every image's gradient counts alone. */
  readonly critic?: boolean;
}

/** Options of the two training steps. */
export interface DcganTraining {
  readonly batchSize: number;
  /** Adam's β₁; 0.5 unless given. */
  readonly beta1?: number;
  /** Adam's β₂; 0.999 unless given. */
  readonly beta2?: number;
  /** The discriminator's target for real images; 0.9 is one-sided label smoothing (Salimans et al. 2016). 1 unless given. */
  readonly realLabel?: number;
}

/** Height and width of the images. */
export const DCGAN_IMAGE_SIZE = 64;
const LEAK = 0.2;
const KERNEL = 4;
const INIT_STD = 0.02;

/** Length of the latent vector. */
export function zDimOf({ zDim = 100 }: DcganOptions): number {
  return zDim;
}

/** Fresh parameters by name, under `generator/` and `discriminator/`; N(0, 0.02) as in the paper. */
export function initDcgan(options: DcganOptions, seed: number): HostTensors {
  const random = seededRandom(seed);
  const { width } = options;
  const draw = (...dims: number[]): HostTensors[string] => normalNoise(dims, random, { std: INIT_STD });
  const parameters: HostTensors = {};
  const addNorm = (name: string, channels: number): void => {
    const gamma = normalNoise([channels], random, { mean: 1, std: INIT_STD });
    Object.assign(parameters, batchNormParameters(`${name}/bn`, channels, gamma));
  };
  parameters['generator/project/kernel'] = draw(zDimOf(options), 4 * 4 * 8 * width);
  addNorm('generator/project', 8 * width);
  [4, 2, 1].forEach((factor, index) => {
    const name = `generator/up${String(index + 1)}`;
    parameters[`${name}/kernel`] = draw(KERNEL, KERNEL, factor * width, 2 * factor * width);
    addNorm(name, factor * width);
  });
  parameters['generator/image/kernel'] = draw(KERNEL, KERNEL, 1, width);
  parameters['generator/image/bias'] = filled([1], 0);
  parameters['discriminator/down1/kernel'] = draw(KERNEL, KERNEL, 1, width);
  parameters['discriminator/down1/bias'] = filled([width], 0);
  [2, 4, 8].forEach((factor, index) => {
    const name = `discriminator/down${String(index + 2)}`;
    parameters[`${name}/kernel`] = draw(KERNEL, KERNEL, (factor / 2) * width, factor * width);
    if (options.critic === true) parameters[`${name}/bias`] = filled([factor * width], 0);
    else addNorm(name, factor * width);
  });
  parameters['discriminator/logits/kernel'] = draw(4 * 4 * 8 * width, 1);
  parameters['discriminator/logits/bias'] = filled([1], 0);
  return parameters;
}

/** z [N,zDim] → images [N,64,64,1], −1..1. */
export function generate(options: DcganOptions, pass: ForwardPass, z: tf.Tensor2D): tf.Tensor4D {
  const projected = pass.dense('generator/project', z);
  let x: tf.Tensor4D = tf.reshape(projected, [z.shape[0], 4, 4, 8 * options.width]);
  x = tf.relu(pass.batchNorm('generator/project/bn', x));
  for (const name of ['generator/up1', 'generator/up2', 'generator/up3']) {
    x = tf.relu(pass.batchNorm(`${name}/bn`, pass.convTranspose(name, x, 2)));
  }
  return tf.tanh(pass.convTranspose('generator/image', x, 2));
}

/** Images [N,64,64,1] → the discriminator's last convolutional activations, [N,4,4,8·width]. */
export function discriminatorFeatures(pass: ForwardPass, images: tf.Tensor4D): tf.Tensor4D {
  return discriminatorStages(pass, images).at(-1) as tf.Tensor4D;
}

/** Images [N,64,64,1] → what each of the discriminator's first `count` convolutions returns: [N,32,32,width], [N,16,16,2·width], … */
export function discriminatorStages(pass: ForwardPass, images: tf.Tensor4D, count = 4): tf.Tensor4D[] {
  let x = tf.leakyRelu(pass.conv('discriminator/down1', images, 2, 'same'), LEAK);
  const stages = [x];
  for (let stage = 2; stage <= count; stage++) {
    const name = `discriminator/down${String(stage)}`;
    x = tf.leakyRelu(pass.batchNorm(`${name}/bn`, pass.conv(name, x, 2, 'same')), LEAK);
    stages.push(x);
  }
  return stages;
}

/** Features [N,4,4,8·width] → logits [N,1]; positive means real. */
export function discriminatorLogits(pass: ForwardPass, features: tf.Tensor4D): tf.Tensor2D {
  const [n, h, w, c] = features.shape;
  return pass.dense('discriminator/logits', tf.reshape(features, [n, h * w * c]));
}

/**
 * One step of the discriminator: real images towards `realLabel`, generated ones towards 0.
 *
 * Feeds: `images` [N,64,64,1] −1..1, `z` [N,zDim], `lr` []. Returns: `loss` [] (sum of both halves),
 * `realProbability` [] and `fakeProbability` [] (means of the discriminator's sigmoid).
 */
export function dcganDiscriminatorStep(options: DcganOptions, training: DcganTraining): TrainStep {
  const { batchSize, realLabel = 1 } = training;
  return ganStep('discriminator', options, training, {
    inputs: { images: { shape: [batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] } },
    loss: ({ images, z }, generator, discriminator) => {
      const fakes = generate(options, generator, z as tf.Tensor2D);
      const real = discriminatorLogits(
        discriminator,
        discriminatorFeatures(discriminator, images as tf.Tensor4D),
      );
      const fake = discriminatorLogits(discriminator, discriminatorFeatures(discriminator, fakes));
      return {
        loss: tf.add(sigmoidCrossEntropy(real, realLabel), sigmoidCrossEntropy(fake, 0)),
        reports: { realProbability: tf.mean(tf.sigmoid(real)), fakeProbability: tf.mean(tf.sigmoid(fake)) },
      };
    },
  });
}

/**
 * One step of the generator, towards images that the discriminator calls real.
 *
 * Feeds: `z` [N,zDim], `lr` []. Returns: `loss` [].
 */
export function dcganGeneratorStep(options: DcganOptions, training: DcganTraining): TrainStep {
  return ganStep('generator', options, training, {
    inputs: {},
    loss: ({ z }, generator, discriminator) => {
      const fakes = generate(options, generator, z as tf.Tensor2D);
      const fake = discriminatorLogits(discriminator, discriminatorFeatures(discriminator, fakes));
      return { loss: sigmoidCrossEntropy(fake, 1), reports: {} };
    },
  });
}

/** Images from latent vectors with the parameters of a state store, at any batch size: `z` → `images`. */
export function dcganSampleStep(options: DcganOptions): TrainStep {
  return makeTrainStep({
    parameters: ofNetwork(initDcgan(options, 0), 'generator'),
    moments: {},
    symbolic: true,
    metadata: { 'rxray.model': 'dcgan-sample', 'rxray.options': JSON.stringify(options) },
    inputs: { z: { shape: [1, zDimOf(options)] } },
    step: ({ z }, state) => ({ images: generate(options, new ForwardPass(state, false), z as tf.Tensor2D) }),
  });
}

/** The parameters of one of the two networks. */
export function ofNetwork(parameters: HostTensors, network: 'generator' | 'discriminator'): HostTensors {
  return Object.fromEntries(Object.entries(parameters).filter(([name]) => name.startsWith(`${network}/`)));
}

/** What a step of one of the two networks is made of. */
export interface GanStep {
  readonly inputs: Record<string, { shape: number[] }>;
  readonly loss: (
    inputs: TensorMap,
    generator: ForwardPass,
    discriminator: ForwardPass,
  ) => { loss: tf.Scalar; reports: TensorMap };
}

/** A step of one of the two networks by Adam, the other one frozen. */
export function ganStep(
  network: 'generator' | 'discriminator',
  options: DcganOptions,
  { batchSize, beta1 = 0.5, beta2 = 0.999 }: DcganTraining,
  { inputs, loss }: GanStep,
): TrainStep {
  const optimizer: AdamOptions = { kind: 'adam', beta1, beta2 };
  const parameters = initDcgan(options, 0);
  const trained = Object.keys(ofNetwork(parameters, network)).filter((name) => !isMovingStatistic(name));
  return makeTrainStep({
    parameters,
    moments: zeroMoments(optimizer, parameters, trained, network),
    symbolic: false,
    metadata: { 'rxray.model': `dcgan-${network}-training`, 'rxray.options': JSON.stringify(options) },
    inputs: { ...inputs, z: { shape: [batchSize, zDimOf(options)] }, lr: { shape: [] } },
    step: (feeds, state) => {
      const step = differentiate(trained, state, (current) => {
        const generator = new ForwardPass(current, true);
        const discriminator = new ForwardPass(current, true);
        const result = loss(feeds, generator, discriminator);
        const moving = network === 'generator' ? generator.moving : discriminator.moving;
        return { loss: result.loss, outputs: { ...result.reports, ...asNext(moving) } };
      });
      return {
        loss: step.loss,
        ...step.outputs,
        ...optimize(optimizer, state, step.gradients, feeds['lr'] as tf.Tensor, network),
      };
    },
  });
}
