import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TensorMap, type TracedModel } from '../engine/index.js';
import { batchNormParameters, ForwardPass, heFanOut, isMovingStatistic } from './layers.js';
import { sigmoidCrossEntropyOf, softDice } from './losses.js';
import { optimize, zeroMoments, type OptimizerOptions } from './optimizers.js';
import { filled, seededRandom } from './random.js';
import { asNext, differentiate, makeTrainStep, type TrainStep } from './train-step.js';

/**
 * A U-Net for grey images (Ronneberger, Fischer and Brox 2015) that separates one structure from the rest.
 *
 * Convolutions are padded, so the mask is as large as the image. On the way up the channels are halved
 * before they meet those of the same level on the way down.
 */
export interface UnetOptions {
  /** Channels at full resolution; doubled by each pooling. */
  readonly width: number;
  /** How often the image is halved. */
  readonly poolings: number;
  /** Height and width of the images in pixels, a multiple of 2^poolings. */
  readonly inputSize: number;
  /** Batch normalisation after each convolution; true unless given. */
  readonly batchNorm?: boolean;
  /** `nearest`: a 1×1 convolution, then each pixel four times. `transposed`: a 2×2 transposed convolution. */
  readonly upsampling?: UnetUpsampling;
  /** Mean of the training pixels, 0..1; 0.5 unless given. */
  readonly mean?: number;
  /** Standard deviation of the training pixels; 0.25 unless given. */
  readonly std?: number;
}

export const UNET_UPSAMPLING = ['nearest', 'transposed'] as const;
export type UnetUpsampling = (typeof UNET_UPSAMPLING)[number];

/** Options of {@link unetTrainStep}. */
export interface UnetTraining {
  readonly batchSize: number;
  readonly optimizer: OptimizerOptions;
  /** Share of the Dice loss; the rest is cross-entropy. 0.5 unless given. */
  readonly diceShare?: number;
}

const SCOPE = 'unet';

/** Fresh parameters (weights and moving statistics) by name; the same seed gives the same numbers. */
export function initUnet(options: UnetOptions, seed: number): HostTensors {
  const { width, poolings, batchNorm = true, upsampling = 'nearest' } = options;
  const random = seededRandom(seed);
  const parameters: HostTensors = {};
  const addConv = (name: string, channelsIn: number, channels: number): void => {
    parameters[`${name}/kernel`] = heFanOut([3, 3, channelsIn, channels], random);
    if (batchNorm) Object.assign(parameters, batchNormParameters(`${name}/bn`, channels));
    else parameters[`${name}/bias`] = filled([channels], 0);
  };
  const addPair = (name: string, channelsIn: number, channels: number): void => {
    addConv(`${name}/conv1`, channelsIn, channels);
    addConv(`${name}/conv2`, channels, channels);
  };
  for (let level = 0; level <= poolings; level++) {
    addPair(`down${String(level)}`, level === 0 ? 1 : width * 2 ** (level - 1), width * 2 ** level);
  }
  for (let level = poolings - 1; level >= 0; level--) {
    const channels = width * 2 ** level;
    const size = upsampling === 'nearest' ? 1 : 2;
    // A transposed convolution's kernel is [h,w,out,in].
    parameters[`up${String(level)}/halve/kernel`] = heFanOut(
      upsampling === 'nearest' ? [size, size, 2 * channels, channels] : [size, size, channels, 2 * channels],
      random,
    );
    parameters[`up${String(level)}/halve/bias`] = filled([channels], 0);
    addPair(`up${String(level)}`, 2 * channels, channels);
  }
  parameters['logits/kernel'] = heFanOut([1, 1, width, 1], random);
  parameters['logits/bias'] = filled([1], 0);
  return parameters;
}

/** Images [N,S,S,1], 0..1 → logits of belonging to the structure [N,S,S,1]. */
export function unetForward(options: UnetOptions, pass: ForwardPass, images: tf.Tensor4D): tf.Tensor4D {
  const { poolings, upsampling = 'nearest', mean = 0.5, std = 0.25 } = options;
  const pair = (name: string, x: tf.Tensor4D): tf.Tensor4D =>
    ['conv1', 'conv2'].reduce((y, conv) => {
      const layer = `${name}/${conv}`;
      return tf.relu(pass.batchNorm(`${layer}/bn`, pass.conv(layer, y, 1, 'same')));
    }, x);
  const up = (name: string, x: tf.Tensor4D): tf.Tensor4D => {
    if (upsampling === 'transposed') return pass.convTranspose(`${name}/halve`, x, 2);
    const [, height, width] = x.shape;
    return tf.image.resizeNearestNeighbor(pass.conv(`${name}/halve`, x, 1, 'same'), [2 * height, 2 * width]);
  };
  let x = pair('down0', tf.div(tf.sub(images, mean), std));
  const skips: tf.Tensor4D[] = [];
  for (let level = 1; level <= poolings; level++) {
    skips.push(x);
    x = pair(`down${String(level)}`, tf.maxPool(x, 2, 2, 0));
  }
  for (let level = poolings - 1; level >= 0; level--) {
    const name = `up${String(level)}`;
    x = pair(name, tf.concat([up(name, x), skips[level] as tf.Tensor4D], 3));
  }
  return pass.conv('logits', x, 1, 'same');
}

/**
 * One training step at a fixed batch size. The loss is `diceShare` of the soft Dice loss, mean over the
 * images, and else binary cross-entropy, mean over the pixels.
 *
 * Feeds: `images` [N,S,S,1] 0..1, `masks` [N,S,S,1] 0..1, `lr` []. Returns: `loss` [], `dice` [] (the soft
 * Dice coefficient, mean over the images).
 */
export function unetTrainStep(options: UnetOptions, training: UnetTraining): TrainStep {
  const { batchSize, optimizer, diceShare = 0.5 } = training;
  const dims = [batchSize, options.inputSize, options.inputSize, 1];
  const parameters = initUnet(options, 0);
  const trained = Object.keys(parameters).filter((name) => !isMovingStatistic(name));
  return makeTrainStep({
    parameters,
    moments: zeroMoments(optimizer, parameters, trained, SCOPE),
    symbolic: false,
    metadata: metadataOf('unet-training', options),
    inputs: { images: { shape: dims }, masks: { shape: dims }, lr: { shape: [] } },
    step: (inputs, state) => {
      const { images, masks, lr } = inputs as Record<'images' | 'masks' | 'lr', tf.Tensor>;
      const { loss, outputs, gradients } = differentiate(trained, state, (current) => {
        const pass = new ForwardPass(current, true);
        const logits = unetForward(options, pass, images as tf.Tensor4D);
        const dice = tf.mean<tf.Scalar>(softDice(tf.sigmoid(logits), masks));
        return {
          loss: tf.add(
            tf.mul(tf.sub(1, dice), diceShare),
            tf.mul(sigmoidCrossEntropyOf(logits, masks), 1 - diceShare),
          ),
          outputs: { dice, ...asNext(pass.moving) },
        };
      });
      return { loss, ...outputs, ...optimize(optimizer, state, gradients, lr, SCOPE) };
    },
  });
}

/** Inference with the parameters of a state store, at any batch size: `images` → `probabilities` [N,S,S,1]. */
export function unetEvalStep(options: UnetOptions): TrainStep {
  return makeTrainStep({
    parameters: initUnet(options, 0),
    moments: {},
    symbolic: true,
    metadata: metadataOf('unet-evaluation', options),
    inputs: { images: { shape: [1, options.inputSize, options.inputSize, 1] } },
    step: ({ images }, state) => unetSegment(options, images as tf.Tensor4D, state),
  });
}

/** The network as one ONNX file for any batch size: `images` [N,S,S,1] 0..1 → `probabilities` [N,S,S,1]. */
export function exportUnet(
  parameters: HostTensors,
  options: UnetOptions,
  { half = false }: { readonly half?: boolean } = {},
): TracedModel {
  return traceToOnnx(
    ({ images }, variables) => unetSegment(options, images as tf.Tensor4D, variables),
    { images: { shape: [1, options.inputSize, options.inputSize, 1] } },
    {
      variables: parameters,
      freeze: true,
      batch: 'symbolic',
      storage: half ? 'half' : 'single',
      metadata: metadataOf('unet', options),
    },
  );
}

export function unetSegment(options: UnetOptions, images: tf.Tensor4D, parameters: TensorMap): TensorMap {
  return { probabilities: tf.sigmoid(unetForward(options, new ForwardPass(parameters, false), images)) };
}

function metadataOf(model: string, options: UnetOptions): Record<string, string> {
  return { 'rxray.model': model, 'rxray.options': JSON.stringify(options) };
}
