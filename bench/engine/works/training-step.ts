import type * as tf from '@tensorflow/tfjs-core';
import { scalar, type HostTensors } from '../../../src/engine/index.js';
import { discriminatorFeatures, discriminatorLogits, generate } from '../../../src/models/dcgan.js';
import {
  DCGAN_IMAGE_SIZE,
  dcganDiscriminatorStep,
  dcganGeneratorStep,
  filled,
  initDcgan,
  initResnet,
  initUnet,
  normalNoise,
  resnetForward,
  resnetTrainStep,
  seededRandom,
  unetForward,
  unetTrainStep,
  type DcganOptions,
  type ForwardPass,
  type ResnetOptions,
  type TrainStep,
  type UnetOptions,
} from '../../../src/models/index.js';
import type { Work } from '../contender.js';
import { countFlops, trainedSize } from '../count-flops.js';
import { oursInTraining } from '../ours.js';
import { pytorch } from '../pytorch.js';

const Z_DIM = 100;

/** One step of SGD with momentum and weight decay, batch normalisation in training. */
export function resnetStep(options: ResnetOptions, batchSize: number): Work {
  const { depth, inputSize, classes } = options;
  const parameters = initResnet(options, 1);
  const dims = [batchSize, inputSize, inputSize, 1];
  const step = (): TrainStep =>
    resnetTrainStep(options, { batchSize, optimizer: { kind: 'sgd', momentum: 0.9, weightDecay: 1e-4 } });
  const feeds: HostTensors = {
    images: normalNoise(dims, seededRandom(2), { mean: 0.5, std: 0.25 }),
    targets: {
      data: Float32Array.from({ length: batchSize * classes }, (_, at) =>
        at % classes === Math.floor(at / classes) % classes ? 1 : 0,
      ),
      dims: [batchSize, classes],
    },
    sampleWeights: filled([batchSize], 1),
    lr: scalar(1e-3),
  };
  return {
    name: `training step: ResNet-${depth}, ${inputSize}×${inputSize}, batch ${batchSize}`,
    flops: () =>
      3 *
      countFlops(
        (pass, { images }) => resnetForward(options, pass, images as tf.Tensor4D),
        { images: dims },
        parameters,
      ),
    parameters: trainedSize(parameters),
    goals: { PyTorch: 1 },
    file: () => ({ bytes: step().bytes, batchSize }),
    ours: (setting) => oursInTraining(step(), parameters, feeds, setting),
    peers: async (setting) => [
      await pytorch('resnet_training', { depth, size: inputSize, classes, batch: batchSize }, setting),
    ],
  };
}

/** One step of Adam on Dice loss and cross-entropy, batch normalisation in training. */
export function unetStep(options: UnetOptions, batchSize: number): Work {
  const { width, poolings, inputSize } = options;
  const parameters = initUnet(options, 1);
  const dims = [batchSize, inputSize, inputSize, 1];
  const step = (): TrainStep => unetTrainStep(options, { batchSize, optimizer: { kind: 'adam' } });
  const images = normalNoise(dims, seededRandom(2), { mean: 0.5, std: 0.25 });
  const masks = Float32Array.from(images.data as Float32Array, (level) => (level > 0.5 ? 1 : 0));
  const feeds: HostTensors = { images, masks: { data: masks, dims }, lr: scalar(1e-4) };
  return {
    name: `training step: U-Net, width ${width}, ${inputSize}×${inputSize}, batch ${batchSize}`,
    flops: () =>
      3 *
      countFlops(
        (pass, inputs) => unetForward(options, pass, inputs['images'] as tf.Tensor4D),
        { images: dims },
        parameters,
      ),
    parameters: trainedSize(parameters),
    goals: { PyTorch: 1.3 },
    file: () => ({ bytes: step().bytes, batchSize }),
    ours: (setting) => oursInTraining(step(), parameters, feeds, setting),
    peers: async (setting) => [
      await pytorch('unet_training', { width, poolings, size: inputSize, batch: batchSize }, setting),
    ],
  };
}

/** One step of Adam on one of a DCGAN's two networks. */
export function dcganStep(
  network: 'generator' | 'discriminator',
  options: DcganOptions,
  batchSize: number,
): Work {
  const { width } = options;
  const parameters = initDcgan(options, 1);
  const stepOf = network === 'generator' ? dcganGeneratorStep : dcganDiscriminatorStep;
  const step = (): TrainStep => stepOf(options, { batchSize });
  const random = seededRandom(2);
  const z = normalNoise([batchSize, Z_DIM], random);
  const lr = scalar(1e-5);
  const images = normalNoise([batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1], random, { std: 0.5 });
  const feeds: HostTensors = network === 'generator' ? { z, lr } : { z, lr, images };
  return {
    name: `training step: DCGAN ${network}, width ${width}, batch ${batchSize}`,
    flops: () => {
      const { generating, judging } = dcganFlops(options, batchSize);
      // The discriminator judges real and generated images, and its step ends at its input.
      return network === 'generator' ? 3 * generating + 2 * judging : generating + 2 * 3 * judging;
    },
    parameters: trainedSize(parameters),
    goals: { PyTorch: 1 },
    file: () => ({ bytes: step().bytes, batchSize }),
    ours: (setting) => oursInTraining(step(), parameters, feeds, setting),
    peers: async (setting) => [
      await pytorch('dcgan_training', { network, width, batch: batchSize }, setting),
    ],
  };
}

function dcganFlops(options: DcganOptions, batchSize: number): { generating: number; judging: number } {
  const parameters = initDcgan(options, 0);
  const judge = (pass: ForwardPass, images: tf.Tensor): tf.Tensor =>
    discriminatorLogits(pass, discriminatorFeatures(pass, images as tf.Tensor4D));
  return {
    generating: countFlops(
      (pass, { z }) => generate(options, pass, z as tf.Tensor2D),
      { z: [batchSize, Z_DIM] },
      parameters,
    ),
    judging: countFlops(
      (pass, { images }) => judge(pass, images as tf.Tensor),
      { images: [batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] },
      parameters,
    ),
  };
}
