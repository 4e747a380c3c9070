import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TracedModel } from '../engine/index.js';
import { ForwardPass } from './layers.js';
import { initResnet, resnetHead, resnetStages, resnetStagesAfter, type ResnetOptions } from './resnet.js';

/**
 * A ResNet that says where in the image a class is, by Grad-CAM (Selvaraju et al. 2017) in the form for layers before
 * the last, LayerCAM (Jiang et al. 2021): each activation counts as much as its own gradient where that
 * is positive. The gradient is traced like that of a training step. For any batch size:
 * `images` [N,S,S,1] 0..1 and `target` [N,classes], 1 for the class asked about → `logits` [N,classes], `map`
 * [N,M,M], ≥ 0 and of no fixed scale, M being S/16 in the third stage, and `features` [N,C], the pooled activations of the last block.
 *
 * Of several networks in one file, the first one's: it has its parameters under their own names.
 *
 * @param parameters As `readInitializers` takes them out of the bundle's file; others than the network's are
 *   left alone. Throws where one of the network's is missing.
 * @param stage Whose activations are looked at. On 54 chest films with pneumonia the third (8 × 8 places at 128 pixels) is as
 *   often right as the last (4 × 4): its peak lies in the lungs on 67 % of them against 65 %.
 */
export function gradCamModel(parameters: HostTensors, options: ResnetOptions, stage = 3): TracedModel {
  const own = Object.keys(initResnet(options, 0)).map((name) => {
    const tensor = parameters[name];
    if (tensor === undefined) throw new Error(`the network has no parameter "${name}"`);
    return [name, tensor] as const;
  });
  const { inputSize, classes } = options;
  return traceToOnnx(
    ({ images, target }, variables) => {
      const pass = new ForwardPass(variables, false);
      const activations = resnetStages(options, pass, images as tf.Tensor4D, stage).at(-1) as tf.Tensor4D;
      const lastOf = (x: tf.Tensor4D): tf.Tensor4D => resnetStagesAfter(options, pass, x, stage).at(-1) ?? x;
      const scoreOf = (x: tf.Tensor): tf.Scalar =>
        tf.sum(tf.mul(resnetHead(options, pass, lastOf(x as tf.Tensor4D)), target as tf.Tensor));
      const gradient = tf.grad(scoreOf)(activations);
      const last = lastOf(activations);
      return {
        logits: resnetHead(options, pass, last),
        map: tf.sum(tf.mul(activations, tf.relu(gradient)), 3),
        features: tf.mean(last, [1, 2]),
      };
    },
    { images: { shape: [1, inputSize, inputSize, 1] }, target: { shape: [1, classes] } },
    { variables: Object.fromEntries(own), freeze: true, batch: 'symbolic' },
  );
}
