import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors } from '../engine/index.js';
import {
  DCGAN_IMAGE_SIZE,
  discriminatorFeatures,
  generate,
  initDcgan,
  zDimOf,
  type DcganOptions,
} from './dcgan.js';
import { foldBatchNorm } from './fold-batch-norm.js';
import { batchNormParameters, ForwardPass, isMovingStatistic } from './layers.js';
import { optimize, zeroMoments, type AdamOptions } from './optimizers.js';
import { filled, normalNoise, seededRandom } from './random.js';
import { asNext, differentiate, makeTrainStep, type TrainStep } from './train-step.js';

/** Options of {@link iziTrainStep}. */
export interface IziTraining {
  readonly batchSize: number;
  /** κ: weight of the feature residual; 1 in the paper. */
  readonly kappa: number;
}

const SCOPE = 'encoder';
const LEAK = 0.2;
const KERNEL = 4;
const INIT_STD = 0.02;

/** Fresh parameters of the encoder, under `encoder/`: the discriminator's layers with zDim outputs. */
export function initEncoder(options: DcganOptions, seed: number): HostTensors {
  const random = seededRandom(seed);
  const { width } = options;
  const draw = (...dims: number[]): HostTensors[string] => normalNoise(dims, random, { std: INIT_STD });
  const parameters: HostTensors = {};
  [1, 2, 4, 8].forEach((factor, index) => {
    const name = `encoder/down${String(index + 1)}`;
    const channelsIn = index === 0 ? 1 : (factor / 2) * width;
    parameters[`${name}/kernel`] = draw(KERNEL, KERNEL, channelsIn, factor * width);
    Object.assign(parameters, batchNormParameters(`${name}/bn`, factor * width));
  });
  parameters['encoder/z/kernel'] = draw(4 * 4 * 8 * width, zDimOf(options));
  parameters['encoder/z/bias'] = filled([zDimOf(options)], 0);
  return parameters;
}

/** Images [N,64,64,1], −1..1 → z [N,zDim]. */
export function encode(pass: ForwardPass, images: tf.Tensor4D): tf.Tensor2D {
  let x = images;
  for (const name of ['encoder/down1', 'encoder/down2', 'encoder/down3', 'encoder/down4']) {
    x = tf.leakyRelu(pass.batchNorm(`${name}/bn`, pass.conv(name, x, 2, 'same')), LEAK);
  }
  const [n, h, w, c] = x.shape;
  return pass.dense('encoder/z', tf.reshape(x, [n, h * w * c]));
}

/**
 * One step of the encoder in front of a frozen generator and discriminator: izi_f of f-AnoGAN (Schlegl et al.
 * 2019, doi:10.1016/j.media.2019.01.010). Loss = mean (x − G(E(x)))² + κ · mean (f(x) − f(G(E(x))))².
 *
 * Feeds: `images` [N,64,64,1] −1..1, `lr` []. Returns: `loss`, `imageResidual`, `featureResidual` []. The state
 * holds the parameters of all three networks.
 */
export function iziTrainStep(options: DcganOptions, { batchSize, kappa }: IziTraining): TrainStep {
  const optimizer: AdamOptions = { kind: 'adam', beta1: 0.5 };
  const parameters = { ...initDcgan(options, 0), ...initEncoder(options, 0) };
  const trained = Object.keys(parameters).filter(
    (name) => name.startsWith('encoder/') && !isMovingStatistic(name),
  );
  return makeTrainStep({
    parameters,
    moments: zeroMoments(optimizer, parameters, trained, SCOPE),
    symbolic: false,
    metadata: { 'rxray.model': 'izi-encoder-training', 'rxray.options': JSON.stringify(options) },
    inputs: { images: { shape: [batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] }, lr: { shape: [] } },
    step: (feeds, state) => {
      const images = feeds['images'] as tf.Tensor4D;
      const frozen = new ForwardPass(state, false);
      const { loss, outputs, gradients } = differentiate(trained, state, (current) => {
        const encoder = new ForwardPass(current, true);
        const reconstruction = generate(options, frozen, encode(encoder, images));
        const imageResidual: tf.Scalar = tf.mean(tf.square(tf.sub(images, reconstruction)));
        const features = tf.sub(
          discriminatorFeatures(frozen, images),
          discriminatorFeatures(frozen, reconstruction),
        );
        const featureResidual: tf.Scalar = tf.mean(tf.square(features));
        return {
          loss: tf.add(imageResidual, tf.mul(featureResidual, kappa)),
          outputs: { imageResidual, featureResidual, ...asNext(encoder.moving) },
        };
      });
      return {
        loss,
        ...outputs,
        ...optimize(optimizer, state, gradients, feeds['lr'] as tf.Tensor, SCOPE),
      };
    },
  });
}

/** Whether an encoder is among the parameters. */
export function hasEncoder(parameters: HostTensors): boolean {
  return parameters['encoder/z/kernel'] !== undefined;
}

/** The encoder as an ONNX file for any batch size: `images` [N,64,64,1] −1..1 → `z` [N,zDim]. */
export function exportEncoder(
  parameters: HostTensors,
  options: DcganOptions,
  { half = false }: { readonly half?: boolean } = {},
): Uint8Array {
  const encoder = Object.fromEntries(
    Object.entries(parameters).filter(([name]) => name.startsWith('encoder/')),
  );
  return traceToOnnx(
    ({ images }, variables) => ({ z: encode(new ForwardPass(variables, false), images as tf.Tensor4D) }),
    { images: { shape: [1, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] } },
    {
      variables: foldBatchNorm(encoder, () => false),
      freeze: true,
      batch: 'symbolic',
      storage: half ? 'half' : 'single',
      metadata: { 'rxray.model': 'izi-encoder', 'rxray.options': JSON.stringify(options) },
    },
  ).bytes;
}
