import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TracedModel } from '../engine/index.js';
import { ForwardPass } from './layers.js';
import { initResnet, resnetHead, resnetStages, type ResnetOptions } from './resnet.js';

/**
 * A ResNet that says where in the image a class is: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2), its
 * gradient traced like that of a training step. For any batch size:
 * `images` [N,S,S,1] 0..1 and `target` [N,classes], 1 for the class asked about → `logits` [N,classes], `map`
 * [N,S/32,S/32], ≥ 0 and of no fixed scale, and `features` [N,C], the pooled activations of the last block.
 *
 * Of several networks in one file, the first one's: it has its parameters under their own names.
 *
 * @param parameters As `readInitializers` takes them out of the bundle's file; others than the network's are
 *   left alone. Throws where one of the network's is missing.
 */
export function gradCamModel(parameters: HostTensors, options: ResnetOptions): TracedModel {
  const own = Object.keys(initResnet(options, 0)).map((name) => {
    const tensor = parameters[name];
    if (tensor === undefined) throw new Error(`the network has no parameter "${name}"`);
    return [name, tensor] as const;
  });
  const { inputSize, classes } = options;
  return traceToOnnx(
    ({ images, target }, variables) => {
      const pass = new ForwardPass(variables, false);
      const activations = resnetStages(options, pass, images as tf.Tensor4D).at(-1) as tf.Tensor4D;
      const logitsOf = (x: tf.Tensor4D): tf.Tensor2D => resnetHead(options, pass, x);
      const scoreOf = (x: tf.Tensor): tf.Scalar => tf.sum(tf.mul(logitsOf(x as tf.Tensor4D), target as tf.Tensor));
      const gradient = tf.grad(scoreOf)(activations);
      const weights = tf.mean(gradient, [1, 2], true);
      return {
        logits: logitsOf(activations),
        map: tf.relu(tf.sum(tf.mul(activations, weights), 3)),
        features: tf.mean(activations, [1, 2]),
      };
    },
    { images: { shape: [1, inputSize, inputSize, 1] }, target: { shape: [1, classes] } },
    { variables: Object.fromEntries(own), freeze: true, batch: 'symbolic' },
  );
}
