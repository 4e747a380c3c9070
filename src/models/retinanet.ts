import * as tf from '@tensorflow/tfjs-core';
import { traceToGraph, writeOnnx, type Graph, type HostTensors, type TraceOptions } from '../engine/index.js';
import { ANCHORS_PER_PLACE, anchorsOf, PYRAMID_LEVELS } from './anchors.js';
import { MAX_LOG_SCALE } from './box-coding.js';
import { focalLoss, giouLoss, smoothL1 } from './detection-losses.js';
import { ForwardPass, isMovingStatistic } from './layers.js';
import { optimize, zeroMoments, type OptimizerOptions } from './optimizers.js';
import { filled, normalNoise, seededRandom } from './random.js';
import { initResnet, resnetStages, type ResnetOptions } from './resnet.js';
import { asNext, differentiate, makeTrainStep, type TrainStep } from './train-step.js';

/**
 * A RetinaNet for grey images (Lin et al. 2017, "Focal Loss for Dense Object Detection"): a ResNet, a feature pyramid
 * P3–P7 (Lin et al. 2017, "Feature Pyramid Networks"), and two heads that all levels share.
 */
export interface RetinanetOptions extends Pick<ResnetOptions, 'depth' | 'width' | 'mean' | 'std'> {
  /** Height and width of the images in pixels, a multiple of 32. */
  readonly inputSize: number;
  /** How many labels boxes have. */
  readonly classes: number;
  /** Channels of the pyramid and of the heads; 256 is the paper's. */
  readonly channels: number;
  /** Convolutions of each head before its last; 4 is the paper's. */
  readonly headLayers: number;
  /** Side of the smallest square anchor in pixels; 32 is the paper's. */
  readonly anchorSize: number;
}

/** Options of {@link retinanetTrainStep}. */
export interface RetinanetTraining {
  readonly batchSize: number;
  readonly optimizer: OptimizerOptions;
  readonly boxLoss: BoxLoss;
}

export const BOX_LOSSES = ['smooth-l1', 'giou'] as const;
export type BoxLoss = (typeof BOX_LOSSES)[number];

const SCOPE = 'retinanet';
/** What every anchor answers at first: a rare object, so that the many background anchors do not swamp the loss. */
const PRIOR = 0.01;
/** The pyramid's levels that come from a stage of the ResNet. */
const LATERALS = 3;

function backboneOf({ depth, width, inputSize, mean, std }: RetinanetOptions): ResnetOptions {
  return {
    ...{ depth, width, inputSize, classes: 1 },
    ...(mean !== undefined && { mean }),
    ...(std !== undefined && { std }),
  };
}

/** Whether a parameter is one of the ResNet's, which a classifier has too. */
export function isPretrained(name: string): boolean {
  return name.startsWith('stem/') || name.startsWith('stage');
}

/** Fresh parameters (weights and moving statistics) by name; the same seed gives the same numbers. */
export function initRetinanet(options: RetinanetOptions, seed: number): HostTensors {
  const { channels, classes, headLayers } = options;
  const parameters = Object.fromEntries(
    Object.entries(initResnet(backboneOf(options), seed)).filter(([name]) => isPretrained(name)),
  );
  const random = seededRandom(seed, 1);
  const addConv = (
    name: string,
    size: number,
    channelsIn: number,
    channelsOut: number,
    std?: number,
  ): void => {
    const usual = Math.sqrt(1 / (size * size * channelsIn));
    parameters[`${name}/kernel`] = normalNoise([size, size, channelsIn, channelsOut], random, {
      std: std ?? usual,
    });
    parameters[`${name}/bias`] = filled([channelsOut], 0);
  };
  const expansion = options.depth === 50 ? 4 : 1;
  for (let i = 0; i < LATERALS; i++) {
    addConv(`pyramid/lateral${String(i + 3)}`, 1, options.width * 2 ** (i + 1) * expansion, channels);
  }
  for (let level = 3; level < 3 + PYRAMID_LEVELS; level++)
    addConv(`pyramid/out${String(level)}`, 3, channels, channels);
  for (const head of ['classes', 'boxes']) {
    for (let layer = 1; layer <= headLayers; layer++) {
      addConv(`head/${head}/conv${String(layer)}`, 3, channels, channels, Math.sqrt(2 / (9 * channels)));
    }
  }
  addConv('head/classes/logits', 3, channels, ANCHORS_PER_PLACE * classes, 0.01);
  addConv('head/boxes/deltas', 3, channels, ANCHORS_PER_PLACE * 4, 0.01);
  parameters['head/classes/logits/bias'] = filled(
    [ANCHORS_PER_PLACE * classes],
    -Math.log((1 - PRIOR) / PRIOR),
  );
  return parameters;
}

/** What the network says of each anchor. */
interface Answers {
  /** [N,A,classes]. */
  readonly logits: tf.Tensor3D;
  /** [N,A,4]: `dx, dy, dw, dh`. */
  readonly deltas: tf.Tensor3D;
}

/** Images [N,S,S,1], 0..1 → the answers of all anchors, in the order of {@link anchorsOf}. */
export function retinanetForward(options: RetinanetOptions, pass: ForwardPass, images: tf.Tensor4D): Answers {
  const head = (name: string, last: string, level: tf.Tensor4D, numbers: number): tf.Tensor3D => {
    let x = level;
    for (let layer = 1; layer <= options.headLayers; layer++) {
      x = tf.relu(pass.conv(`head/${name}/conv${String(layer)}`, x, 1, 'same'));
    }
    const [n, h, w] = x.shape;
    const answer = pass.conv(`head/${name}/${last}`, x, 1, 'same');
    return tf.reshape(answer, [n, h * w * ANCHORS_PER_PLACE, numbers]);
  };
  const levels = pyramid(options, pass, images);
  return {
    logits: tf.concat(
      levels.map((level) => head('classes', 'logits', level, options.classes)),
      1,
    ),
    deltas: tf.concat(
      levels.map((level) => head('boxes', 'deltas', level, 4)),
      1,
    ),
  };
}

/** P3–P7. P6 is made of P5 and P7 of P6, with a stride of 2. */
function pyramid(options: RetinanetOptions, pass: ForwardPass, images: tf.Tensor4D): tf.Tensor4D[] {
  const stages = resnetStages(backboneOf(options), pass, images).slice(-LATERALS);
  const levels: tf.Tensor4D[] = [];
  let above: tf.Tensor4D | undefined;
  for (let i = LATERALS - 1; i >= 0; i--) {
    const stage = stages[i] as tf.Tensor4D;
    const lateral = pass.conv(`pyramid/lateral${String(i + 3)}`, stage, 1, 'same');
    const [, height, width] = lateral.shape;
    above = above ? tf.add(lateral, tf.image.resizeNearestNeighbor(above, [height, width])) : lateral;
    levels.unshift(pass.conv(`pyramid/out${String(i + 3)}`, above, 1, 'same'));
  }
  const p6 = pass.conv('pyramid/out6', levels.at(-1) as tf.Tensor4D, 2, 1);
  const p7 = pass.conv('pyramid/out7', tf.relu(p6), 2, 1);
  return [...levels, p6, p7];
}

/** Offsets from the anchors [N,A,4] → boxes as corners in pixels [N,A,4]. */
function decoded({ inputSize, anchorSize }: RetinanetOptions, deltas: tf.Tensor3D): tf.Tensor3D {
  const anchors = anchorsOf(inputSize, anchorSize);
  const count = anchors.length / 4;
  const column = (of: (x0: number, y0: number, x1: number, y1: number) => [number, number]): tf.Tensor3D =>
    tf.tensor3d(
      Float32Array.from(
        Array.from({ length: count }, (_, a) => {
          const [x0 = 0, y0 = 0, x1 = 0, y1 = 0] = anchors.subarray(4 * a, 4 * a + 4);
          return of(x0, y0, x1, y1);
        }).flat(),
      ),
      [1, count, 2],
    );
  const centres = column((x0, y0, x1, y1) => [(x0 + x1) / 2, (y0 + y1) / 2]);
  const sizes = column((x0, y0, x1, y1) => [x1 - x0, y1 - y0]);
  const [offsets, logarithms] = tf.split(deltas, 2, 2) as [tf.Tensor3D, tf.Tensor3D];
  const middle: tf.Tensor3D = tf.add(centres, tf.mul(offsets, sizes));
  const half: tf.Tensor3D = tf.mul(tf.exp(tf.minimum(logarithms, MAX_LOG_SCALE)), tf.div(sizes, 2));
  return tf.concat([tf.sub(middle, half), tf.add(middle, half)], 2);
}

/**
 * One training step at a fixed batch size. The loss is the focal loss plus that of the boxes, each summed over an image's
 * anchors and divided by the number of anchors that have a box; the mean over the images.
 *
 * Feeds: `images` [N,S,S,1] 0..1; `classes` [N,A,classes] 0 or 1; `counted` [N,A], 0 leaves an anchor out of the focal
 * loss; `objects` [N,A], 1 for an anchor that has a box; `boxes` [N,A,4], the anchor's box: as offsets, with `giou` as
 * corners; `lr` []. Returns: `loss`, `classLoss`, `boxLoss` [].
 */
export function retinanetTrainStep(options: RetinanetOptions, training: RetinanetTraining): TrainStep {
  const { batchSize, optimizer, boxLoss } = training;
  const { inputSize, classes } = options;
  const anchors = anchorsOf(inputSize, options.anchorSize).length / 4;
  const parameters = initRetinanet(options, 0);
  const trained = Object.keys(parameters).filter((name) => !isMovingStatistic(name));
  return makeTrainStep({
    parameters,
    moments: zeroMoments(optimizer, parameters, trained, SCOPE),
    symbolic: false,
    metadata: metadataOf('retinanet-training', options),
    inputs: {
      images: { shape: [batchSize, inputSize, inputSize, 1] },
      classes: { shape: [batchSize, anchors, classes] },
      counted: { shape: [batchSize, anchors] },
      objects: { shape: [batchSize, anchors] },
      boxes: { shape: [batchSize, anchors, 4] },
      lr: { shape: [] },
    },
    step: (inputs, state) => {
      const { images, counted, objects, lr } = inputs as Record<string, tf.Tensor> & { lr: tf.Tensor };
      const { loss, outputs, gradients } = differentiate(trained, state, (current) => {
        const pass = new ForwardPass(current, true);
        const { logits, deltas } = retinanetForward(options, pass, images as tf.Tensor4D);
        const perImage = tf.maximum(tf.sum(objects as tf.Tensor, 1), 1);
        const meanOf = (perAnchor: tf.Tensor, weights: tf.Tensor): tf.Scalar =>
          tf.mean(tf.div(tf.sum(tf.mul(perAnchor, weights), 1), perImage));
        const focal = focalLoss(logits, inputs['classes'] as tf.Tensor3D);
        const truth = inputs['boxes'] as tf.Tensor3D;
        const apart =
          boxLoss === 'giou'
            ? giouLoss(decoded(options, deltas), truth)
            : tf.sum(smoothL1(deltas, truth, SMOOTH_L1_BETA), 2);
        const classLoss = meanOf(tf.sum(focal, 2), counted as tf.Tensor);
        const regression = meanOf(apart, objects as tf.Tensor);
        return {
          loss: tf.add(classLoss, regression),
          outputs: { classLoss, boxLoss: regression, ...asNext(pass.moving) },
        };
      });
      return { loss, ...outputs, ...optimize(optimizer, state, gradients, lr, SCOPE) };
    },
  });
}

/** Below this offset the box loss is quadratic (Detectron's for RetinaNet). */
const SMOOTH_L1_BETA = 1 / 9;

/** The network of {@link exportRetinanet} with the parameters of a state store. */
export function retinanetEvalStep(options: RetinanetOptions): Uint8Array {
  return writeOnnx(detectionGraph(options, initRetinanet(options, 0), false, 'retinanet-evaluation'));
}

/**
 * The network with its suppression of overlapping boxes as one ONNX file for any batch size.
 *
 * Inputs: `images` [N,S,S,1] 0..1; `scoreThreshold`, `iouThreshold` [] float32; `maxDetections` [] int64, of each image and
 * label. Outputs: `boxes` [D,4] as corners in pixels, `scores` [D], `labels` [D] int64, `films` [D] int64 (which image of
 * the batch), and `highest` [N,classes], the highest score of each label on each image, also below the threshold.
 */
export function exportRetinanet(
  parameters: HostTensors,
  options: RetinanetOptions,
  { half = false }: { readonly half?: boolean } = {},
): Uint8Array {
  return writeOnnx(detectionGraph(options, parameters, true, 'retinanet'), half ? 'half' : 'single');
}

function detectionGraph(
  options: RetinanetOptions,
  parameters: HostTensors,
  freeze: boolean,
  model: string,
): Graph {
  const { inputSize } = options;
  const settings: TraceOptions = { variables: parameters, freeze, batch: 'symbolic' };
  const graph = traceToGraph(
    ({ images }, variables) => {
      const pass = new ForwardPass(variables, false);
      const { logits, deltas } = retinanetForward(options, pass, images as tf.Tensor4D);
      const scores = tf.transpose(tf.sigmoid(logits), [0, 2, 1]);
      return {
        allBoxes: tf.clipByValue(decoded(options, deltas), 0, inputSize),
        allScores: scores,
        highest: tf.max(scores, 2),
      };
    },
    { images: { shape: [1, inputSize, inputSize, 1] } },
    settings,
  );
  Object.assign(graph.metadata, metadataOf(model, options));
  suppressOverlaps(graph);
  return graph;
}

/**
 * Turns the outputs `allBoxes` [N,A,4] and `allScores` [N,classes,A] into the boxes that are left when of those which
 * overlap, label by label, only the surest stays. How many that are is not known while a function is traced, so this is
 * added to the finished graph.
 */
function suppressOverlaps(graph: Graph): void {
  const kept = graph.outputs.filter(({ name }) => name === 'highest');
  graph.inputs.push(
    { name: 'scoreThreshold', dtype: 'float32', dims: [] },
    { name: 'iouThreshold', dtype: 'float32', dims: [] },
    { name: 'maxDetections', dtype: 'int64', dims: [] },
  );
  const selected = graph.add('NonMaxSuppression', [
    ...['allBoxes', 'allScores', 'maxDetections', 'iouThreshold', 'scoreThreshold'],
  ]);
  const node = (
    type: string,
    inputs: string[],
    output: string,
    attributes: Readonly<Record<string, number>> = {},
  ): void => {
    graph.nodes.push({ type, inputs, outputs: [output], attributes });
  };
  // Rows of `selected` are image, label, anchor.
  const places = graph.add('Gather', [selected, graph.integers([0, 2])], { axis: 1 });
  node('GatherND', ['allBoxes', places], 'boxes');
  node('GatherND', ['allScores', selected], 'scores');
  node('Gather', [selected, graph.scalar(1, 'int64')], 'labels', { axis: 1 });
  node('Gather', [selected, graph.scalar(0, 'int64')], 'films', { axis: 1 });
  graph.outputs.splice(
    0,
    Infinity,
    { name: 'boxes', dtype: 'float32', dims: ['D', 4] },
    { name: 'scores', dtype: 'float32', dims: ['D'] },
    { name: 'labels', dtype: 'int64', dims: ['D'] },
    { name: 'films', dtype: 'int64', dims: ['D'] },
    ...kept,
  );
}

function metadataOf(model: string, options: RetinanetOptions): Record<string, string> {
  return { 'rxray.model': model, 'rxray.options': JSON.stringify(options) };
}
