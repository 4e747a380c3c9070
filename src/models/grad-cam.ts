import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TracedModel } from '../engine/index.js';
import { ForwardPass } from './layers.js';
import { initResnet, resnetHead, resnetStages, resnetStagesAfter, type ResnetOptions } from './resnet.js';

/** The stages whose maps are joined: the finer ones show where exactly, the coarser ones what counts for the class. */
const STAGES = [1, 2, 3, 4] as const;
const LAST = 4;
const LEAST = 1e-12;

/**
 * A ResNet that says where in the image a class is, by Grad-CAM (Selvaraju et al. 2017) in the form for layers before
 * the last, LayerCAM (Jiang et al. 2021): each activation counts as much as the gradient around it where that is positive. The
 * maps of several stages, each relative to its highest value, are joined by their geometric mean at the finest one's
 * size, so that a place counts if every stage finds evidence there. The gradients are traced like that of a training
 * step. For any batch size: `images` [N,S,S,1] 0..1 and `target` [N,classes], 1 for the class asked about → `logits`
 * [N,classes], `map` [N,M,M], ≥ 0, M being S/4 with the first stage (of no fixed scale for one stage alone, else 0–1),
 * and `features` [N,C], the pooled activations of the last block.
 *
 * Of several networks in one file, the first one's: it has its parameters under their own names.
 *
 * @param parameters As `readInitializers` takes them out of the bundle's file; others than the network's are
 *   left alone. Throws where one of the network's is missing.
 * @param stages From fine to coarse.
 */
export function gradCamModel(
  parameters: HostTensors,
  options: ResnetOptions,
  stages: readonly number[] = STAGES,
): TracedModel {
  const own = Object.keys(initResnet(options, 0)).map((name) => {
    const tensor = parameters[name];
    if (tensor === undefined) throw new Error(`the network has no parameter "${name}"`);
    return [name, tensor] as const;
  });
  const { inputSize, classes } = options;
  return traceToOnnx(
    ({ images, target }, variables) => {
      const pass = new ForwardPass(variables, false);
      const outputs = resnetStages(options, pass, images as tf.Tensor4D);
      const maps = stages.map((stage) => {
        const activations = outputs[stage - 1] as tf.Tensor4D;
        const scoreOf = (x: tf.Tensor): tf.Scalar => {
          const last = resnetStagesAfter(options, pass, x as tf.Tensor4D, stage).at(-1) ?? x;
          return tf.sum(tf.mul(resnetHead(options, pass, last as tf.Tensor4D), target as tf.Tensor));
        };
        const gradient = smoothed(tf.grad(scoreOf)(activations) as tf.Tensor4D, 2 ** (LAST - stage));
        return tf.sum<tf.Tensor4D>(tf.mul(activations, tf.relu(gradient)), 3, true);
      });
      const last = outputs.at(-1) as tf.Tensor4D;
      return {
        logits: resnetHead(options, pass, last),
        map: tf.sum(maps.length === 1 ? (maps[0] as tf.Tensor4D) : joined(maps), 3),
        features: tf.mean(last, [1, 2]),
      };
    },
    { images: { shape: [1, inputSize, inputSize, 1] }, target: { shape: [1, classes] } },
    { variables: Object.fromEntries(own), freeze: true, batch: 'symbolic' },
  );
}

/**
 * The mean gradient around each place, over blocks of `side` places. Convolutions with a stride reach some places more
 * often than their neighbours: the gradient itself is a lattice of dots, of which one block has a whole period.
 */
function smoothed(gradient: tf.Tensor4D, side: number): tf.Tensor4D {
  const [, height, width] = gradient.shape;
  const block = Math.min(side, height, width);
  if (block === 1) return gradient;
  return tf.image.resizeBilinear(tf.avgPool(gradient, block, block, 'valid'), [height, width], false, true);
}

/** The geometric mean of maps [N,M,M,1], each relative to its highest value, at the size of the first. */
function joined(maps: readonly tf.Tensor4D[]): tf.Tensor4D {
  const [, height = 1, width = 1] = maps[0]?.shape ?? [];
  const product = maps
    .map((map) => tf.div<tf.Tensor4D>(map, tf.add(tf.max(map, [1, 2, 3], true), LEAST)))
    .map((map) =>
      map.shape[1] === height ? map : tf.image.resizeBilinear(map, [height, width], false, true),
    )
    .reduce((a, b) => tf.mul<tf.Tensor4D>(a, b));
  return tf.pow(product, 1 / maps.length);
}
