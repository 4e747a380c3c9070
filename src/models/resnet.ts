import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TensorMap, type TracedModel } from '../engine/index.js';
import { batchNormParameters, ForwardPass, heFanOut, isMovingStatistic } from './layers.js';
import { smoothLabels, softmaxCrossEntropy, supervisedContrastiveLoss } from './losses.js';
import { optimize, zeroMoments, type OptimizerOptions } from './optimizers.js';
import { filled, normalNoise, seededRandom } from './random.js';
import { asNext, differentiate, makeTrainStep, type TrainStep } from './train-step.js';

/** A residual network for grey images (He et al. 2015, "Deep Residual Learning for Image Recognition"). */
export interface ResnetOptions {
  readonly depth: 18 | 34 | 50;
  /** Channels of the first stage; 64 is the paper's. */
  readonly width: number;
  /** Height and width of the images in pixels, a multiple of 32. */
  readonly inputSize: number;
  readonly classes: number;
  /** How features become classes; `plain` unless given. */
  readonly head?: ResnetHead;
  /** Mean of the training pixels, 0..1; 0.5 unless given. */
  readonly mean?: number;
  /** Standard deviation of the training pixels; 0.25 unless given. */
  readonly std?: number;
  /**
   * Subtract each image's own mean and divide by its own standard deviation, instead of the training films': brightness
   * and contrast then make no difference. False unless given.
   */
  readonly standardize?: boolean;
  /** Start every block as the identity (Goyal et al. 2017). True unless given. */
  readonly zeroInitGamma?: boolean;
}

/**
 * `plain`: pooled features → classes. `dense128`: a dense layer of 128 with ReLU and dropout between.
 * `flatten128`: the same after 2×2 average pooling and flattening, which keeps the position of a feature in the
 * image; the number of its weights grows with the size of the image.
 */
export type ResnetHead = 'plain' | 'dense128' | 'flatten128';

/** Options of {@link resnetTrainStep}. */
export interface ResnetTraining {
  readonly batchSize: number;
  readonly optimizer: OptimizerOptions;
  /** 0 unless given. */
  readonly labelSmoothing?: number;
  /** Weight of {@link supervisedContrastiveLoss} of the last stage's mean. 0 unless given. */
  readonly contrastive?: number;
  /** Trains the head alone, on a base that is run as in inference. False unless given. */
  readonly frozenBase?: boolean;
}

/** Units of the dense layer of the `dense128` and `flatten128` heads. */
export const DENSE_HEAD_UNITS = 128;

interface Block {
  readonly name: string;
  /** From 0. */
  readonly stage: number;
  readonly stride: number;
  readonly channelsIn: number;
  readonly channels: number;
  readonly channelsOut: number;
}

const STAGE_BLOCKS = { 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3] } as const;
const SCOPE = 'resnet';

function isBottleneck({ depth }: ResnetOptions): boolean {
  return depth === 50;
}

function blocksOf(options: ResnetOptions): Block[] {
  const expansion = isBottleneck(options) ? 4 : 1;
  let channelsIn = options.width;
  return STAGE_BLOCKS[options.depth].flatMap((count, stage) =>
    Array.from({ length: count }, (_, index): Block => {
      const channels = options.width * 2 ** stage;
      const block = {
        name: `stage${String(stage + 1)}/block${String(index + 1)}`,
        stage,
        stride: stage > 0 && index === 0 ? 2 : 1,
        channelsIn,
        channels,
        channelsOut: channels * expansion,
      };
      channelsIn = block.channelsOut;
      return block;
    }),
  );
}

/** Convolutions of a block as [name, kernel size, channels in, channels out, stride]. */
function convsOf(options: ResnetOptions, block: Block): [string, number, number, number, number][] {
  const { channelsIn, channels, channelsOut, stride } = block;
  return isBottleneck(options)
    ? [
        ['conv1', 1, channelsIn, channels, 1],
        ['conv2', 3, channels, channels, stride],
        ['conv3', 1, channels, channelsOut, 1],
      ]
    : [
        ['conv1', 3, channelsIn, channels, stride],
        ['conv2', 3, channels, channelsOut, 1],
      ];
}

/** Whether the head has a dense layer, and so takes a dropout mask in training. */
export function hasDenseLayer({ head }: Pick<ResnetOptions, 'head'>): boolean {
  return head === 'dense128' || head === 'flatten128';
}

function hasProjection({ stride, channelsIn, channelsOut }: Block): boolean {
  return stride !== 1 || channelsIn !== channelsOut;
}

/** Fresh parameters (weights and moving statistics) by name; the same seed gives the same numbers. */
export function initResnet(options: ResnetOptions, seed: number): HostTensors {
  const random = seededRandom(seed);
  const parameters: HostTensors = {};
  const addConv = (name: string, size: number, channelsIn: number, channelsOut: number, gamma = 1): void => {
    parameters[`${name}/kernel`] = heFanOut([size, size, channelsIn, channelsOut], random);
    Object.assign(parameters, batchNormParameters(`${name}/bn`, channelsOut, filled([channelsOut], gamma)));
  };
  addConv('stem', 7, 1, options.width);
  const blocks = blocksOf(options);
  for (const block of blocks) {
    const convs = convsOf(options, block);
    convs.forEach(([name, size, channelsIn, channelsOut], index) => {
      const last = index === convs.length - 1 && options.zeroInitGamma !== false;
      addConv(`${block.name}/${name}`, size, channelsIn, channelsOut, last ? 0 : 1);
    });
    if (hasProjection(block)) addConv(`${block.name}/shortcut`, 1, block.channelsIn, block.channelsOut);
  }
  const channels = blocks.at(-1)?.channelsOut ?? options.width;
  let features =
    options.head === 'flatten128' ? channels * Math.floor(options.inputSize / 64) ** 2 : channels;
  const addDense = (name: string, units: number, std: number): void => {
    parameters[`${name}/kernel`] = normalNoise([features, units], random, { std });
    parameters[`${name}/bias`] = filled([units], 0);
    features = units;
  };
  if (hasDenseLayer(options)) addDense('head/dense', DENSE_HEAD_UNITS, Math.sqrt(2 / features));
  addDense('head/logits', options.classes, Math.sqrt(1 / features));
  return parameters;
}

/**
 * Images [N,S,S,1], 0..1 → logits [N,classes].
 *
 * @param dropout Mask [N,128] for a head with a dense layer in training (see `dropoutMask`).
 */
export function resnetForward(
  options: ResnetOptions,
  pass: ForwardPass,
  images: tf.Tensor4D,
  dropout?: tf.Tensor,
): tf.Tensor2D {
  return resnetHead(options, pass, resnetStages(options, pass, images).at(-1) as tf.Tensor4D, dropout);
}

/** What the last stage returns, [N,S/32,S/32,C] → logits [N,classes]. */
export function resnetHead(
  options: ResnetOptions,
  pass: ForwardPass,
  last: tf.Tensor4D,
  dropout?: tf.Tensor,
): tf.Tensor2D {
  let features: tf.Tensor2D =
    options.head === 'flatten128'
      ? tf.reshape(tf.avgPool(last, 2, 2, 'valid'), [last.shape[0], -1])
      : tf.mean(last, [1, 2]);
  if (hasDenseLayer(options)) {
    features = tf.relu(pass.dense('head/dense', features));
    if (dropout) features = tf.mul(features, dropout);
  }
  return pass.dense('head/logits', features);
}

/**
 * Images [N,S,S,1], 0..1 → what each of the first `count` stages returns, from fine to coarse: [N,S/4,S/4,·],
 * [N,S/8,S/8,·], …
 */
export function resnetStages(
  options: ResnetOptions,
  pass: ForwardPass,
  images: tf.Tensor4D,
  count = 4,
): tf.Tensor4D[] {
  const stem = tf.relu(pass.batchNorm('stem/bn', pass.conv('stem', scaled(options, images), 2, 3)));
  const x = tf.maxPool(stem, 3, 2, 1);
  return resnetStagesAfter(options, pass, x, 0, count);
}

/** Images with a mean of 0 and a standard deviation of 1, over all training films or each for itself. */
function scaled(
  { standardize = false, mean = 0.5, std = 0.25 }: ResnetOptions,
  images: tf.Tensor4D,
): tf.Tensor4D {
  if (!standardize) return tf.div(tf.sub(images, mean), std);
  const centred = tf.sub(images, tf.mean(images, [1, 2, 3], true));
  const variance = tf.mean(tf.square(centred), [1, 2, 3], true);
  return tf.div(centred, tf.sqrt(tf.add(variance, 1e-4)));
}

/** What each of the stages beyond the first `done`, up to the first `count`, makes of what the one before them returned. */
export function resnetStagesAfter(
  options: ResnetOptions,
  pass: ForwardPass,
  before: tf.Tensor4D,
  done: number,
  count = 4,
): tf.Tensor4D[] {
  const unit = (name: string, x: tf.Tensor4D, stride: number, pad: number): tf.Tensor4D =>
    pass.batchNorm(`${name}/bn`, pass.conv(name, x, stride, pad));
  let x = before;
  const stages: tf.Tensor4D[] = [];
  for (const block of blocksOf(options)) {
    if (block.stage < done) continue;
    if (block.stage >= count) break;
    const shortcut = hasProjection(block) ? unit(`${block.name}/shortcut`, x, block.stride, 0) : x;
    const convs = convsOf(options, block);
    let y = x;
    convs.forEach(([name, size, , , stride], index) => {
      y = unit(`${block.name}/${name}`, y, stride, (size - 1) / 2);
      if (index < convs.length - 1) y = tf.relu(y);
    });
    x = tf.relu(tf.add(y, shortcut));
    stages[block.stage - done] = x;
  }
  return stages;
}

/**
 * One training step at a fixed batch size.
 *
 * Feeds: `images` [N,S,S,1] 0..1, `targets` [N,classes], `sampleWeights` [N] (0 leaves a row out of the loss), `lr` [],
 * and with a dense layer in the head `dropout` [N,128].
 * Returns: `loss` [] (weighted mean), `correct` [] (right answers with a weight above 0), `logits` [N,classes].
 */
export function resnetTrainStep(options: ResnetOptions, training: ResnetTraining): TrainStep {
  const { batchSize, optimizer, labelSmoothing = 0, contrastive = 0, frozenBase = false } = training;
  const { inputSize, classes } = options;
  const parameters = initResnet(options, 0);
  const trained = Object.keys(parameters).filter(
    (name) => !isMovingStatistic(name) && (!frozenBase || name.startsWith('head/')),
  );
  const withDropout = hasDenseLayer(options);
  return makeTrainStep({
    parameters,
    moments: zeroMoments(optimizer, parameters, trained, SCOPE),
    symbolic: false,
    metadata: metadataOf('resnet-training', options),
    inputs: {
      images: { shape: [batchSize, inputSize, inputSize, 1] },
      targets: { shape: [batchSize, classes] },
      sampleWeights: { shape: [batchSize] },
      lr: { shape: [] },
      ...(withDropout ? { dropout: { shape: [batchSize, DENSE_HEAD_UNITS] } } : {}),
    },
    step: (inputs, state) => {
      const { images, targets, sampleWeights, lr } = inputs as Record<
        'images' | 'targets' | 'sampleWeights' | 'lr',
        tf.Tensor
      >;
      const { loss, outputs, gradients } = differentiate(trained, state, (current) => {
        const pass = new ForwardPass(current, !frozenBase);
        const last = resnetStages(options, pass, images as tf.Tensor4D).at(-1) as tf.Tensor4D;
        const logits = resnetHead(options, pass, last, inputs['dropout']);
        let losses = softmaxCrossEntropy(logits, smoothLabels(targets as tf.Tensor2D, labelSmoothing));
        if (contrastive > 0) {
          const contrast = supervisedContrastiveLoss(tf.mean(last, [1, 2]), targets as tf.Tensor2D);
          losses = tf.add(losses, tf.mul(contrast, contrastive));
        }
        return {
          loss: tf.div(tf.sum(tf.mul(losses, sampleWeights)), tf.maximum(tf.sum(sampleWeights), 1e-6)),
          outputs: { logits, ...asNext(pass.moving) },
        };
      });
      const right = tf.equal(tf.argMax(outputs['logits'] as tf.Tensor, 1), tf.argMax(targets, 1));
      const counted = tf.mul(tf.cast(right, 'float32'), tf.cast(tf.greater(sampleWeights, 0), 'float32'));
      return {
        loss,
        correct: tf.sum(counted),
        ...outputs,
        ...optimize(optimizer, state, gradients, lr, SCOPE),
      };
    },
  });
}

/** Inference with the parameters of a state store, at any batch size: `images` → `logits`, `probabilities` [N,classes]. */
export function resnetEvalStep(options: ResnetOptions): TrainStep {
  return makeTrainStep({
    parameters: initResnet(options, 0),
    moments: {},
    symbolic: true,
    metadata: metadataOf('resnet-evaluation', options),
    inputs: { images: { shape: [1, options.inputSize, options.inputSize, 1] } },
    step: ({ images }, state) => resnetClassify(options, images as tf.Tensor4D, state),
  });
}

/** How a trained network is stored and asked. */
export interface ResnetExport {
  /** Answers with the mean over the image and its mirror image (test-time augmentation); twice the work. */
  readonly mirror?: boolean;
  /** Stores the weights in half precision; the arithmetic stays in single. */
  readonly half?: boolean;
}

/**
 * One or more networks as one ONNX file for any batch size: `images` [N,S,S,1] 0..1 → `logits`, `probabilities`
 * [N,classes]. Several answer together, by the mean of their logits.
 *
 * The parameters are constants of the file (`readInitializers` takes them back): the first network's under
 * their own names, the second's under `member2/…`, and so on.
 */
export function exportResnet(
  parameters: HostTensors | readonly HostTensors[],
  options: ResnetOptions,
  { mirror = false, half = false }: ResnetExport = {},
): TracedModel {
  const members = Array.isArray(parameters)
    ? (parameters as readonly HostTensors[])
    : [parameters as HostTensors];
  const named = members.flatMap((member, i) =>
    Object.entries(member).map(([name, tensor]) => [memberPrefix(i) + name, tensor] as const),
  );
  const whole = { ...options, members: members.length, mirror };
  return traceToOnnx(
    ({ images }, variables) => resnetClassify(whole, images as tf.Tensor4D, variables),
    { images: { shape: [1, options.inputSize, options.inputSize, 1] } },
    {
      variables: Object.fromEntries(named),
      freeze: true,
      batch: 'symbolic',
      storage: half ? 'half' : 'single',
      metadata: metadataOf('resnet', options),
    },
  );
}

/** Images [N,S,S,1], 0..1 → `logits` (of several networks their mean), `probabilities` [N,classes]. */
export function resnetClassify(
  options: ResnetOptions & { readonly members?: number; readonly mirror?: boolean },
  images: tf.Tensor4D,
  parameters: TensorMap,
): TensorMap {
  const { members = 1, mirror = false } = options;
  const views = mirror ? [images, tf.reverse(images, 2)] : [images];
  const answers = Array.from({ length: members }, (_, i) => {
    const pass = new ForwardPass(i === 0 ? parameters : memberOf(parameters, i), false);
    return views.map((view) => resnetForward(options, pass, view));
  }).flat();
  const logits = answers.length === 1 ? (answers[0] as tf.Tensor) : tf.div(tf.addN(answers), answers.length);
  return { logits, probabilities: tf.softmax(logits) };
}

function memberPrefix(i: number): string {
  return i === 0 ? '' : `member${String(i + 1)}/`;
}

function memberOf(parameters: TensorMap, i: number): TensorMap {
  const prefix = memberPrefix(i);
  return Object.fromEntries(
    Object.entries(parameters).flatMap(([name, tensor]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), tensor]] : [],
    ),
  );
}

function metadataOf(model: string, options: ResnetOptions): Record<string, string> {
  return { 'rxray.model': model, 'rxray.options': JSON.stringify(options) };
}
