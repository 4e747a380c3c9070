import * as tf from '@tensorflow/tfjs-core';

/**
 * Cross-entropy of softmax(logits) against target distributions, one value per sample, [N].
 *
 * @param logits [N,classes].
 * @param targets [N,classes]; rows sum to 1 (one-hot or soft).
 */
export function softmaxCrossEntropy(logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Tensor1D {
  return tf.neg(tf.sum(tf.mul(targets, tf.logSoftmax(logits)), 1));
}

/** Targets moved by `smoothing` towards the uniform distribution (Szegedy et al. 2016). */
export function smoothLabels(targets: tf.Tensor2D, smoothing: number): tf.Tensor2D {
  return smoothing === 0 ? targets : tf.add(tf.mul(targets, 1 - smoothing), smoothing / targets.shape[1]);
}

/**
 * Supervised contrastive loss per sample, [N] (Khosla et al. 2020, L_out, with one view of each film): the features of films of the same
 * class are to be more similar than those of others. 0 for a film that is alone in its class.
 *
 * @param features [N,C].
 * @param targets [N,classes]; rows sum to 1. With soft ones, two films count as far as they are of one class.
 */
export function supervisedContrastiveLoss(
  features: tf.Tensor2D,
  targets: tf.Tensor2D,
  temperature = 0.1,
): tf.Tensor1D {
  const length = tf.sqrt(tf.add(tf.sum(tf.square(features), 1, true), 1e-12));
  const directions = tf.div(features, length);
  const self = tf.eye(features.shape[0]);
  const similarity = tf.div(tf.matMul(directions, directions, false, true), temperature);
  const logProbability = tf.logSoftmax(tf.sub(similarity, tf.mul(self, 1e4)));
  const positive = tf.mul(tf.matMul(targets, targets, false, true), tf.sub(1, self));
  const sum = tf.sum(tf.mul(positive, logProbability), 1);
  return tf.neg(tf.div(sum, tf.maximum(tf.sum(positive, 1), 1e-6)));
}

/**
 * Cross-entropy of sigmoid(logits) against one constant label, mean over all elements:
 * softplus(x) − label·x, stable for large |x|.
 */
export function sigmoidCrossEntropy(logits: tf.Tensor, label: number): tf.Scalar {
  const loss = label === 0 ? tf.softplus(logits) : tf.sub(tf.softplus(logits), tf.mul(logits, label));
  return tf.mean(loss);
}

/** Sum of |a − b| over all axes but the first, [N]. */
export function absoluteDifferencePerSample(a: tf.Tensor, b: tf.Tensor): tf.Tensor1D {
  const axes = Array.from({ length: a.rank - 1 }, (_, axis) => axis + 1);
  return tf.sum(tf.abs(tf.sub(a, b)), axes);
}

/**
 * Binary cross-entropy of sigmoid(logits) against targets of the same shape, mean over all elements:
 * softplus(x) − target·x, stable for large |x|.
 */
export function sigmoidCrossEntropyOf(logits: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  return tf.mean(tf.sub(tf.softplus(logits), tf.mul(logits, targets)));
}

/**
 * Soft Dice coefficient 2 Σpt ÷ (Σp + Σt) per sample, [N] (Milletari, Navab and Ahmadi 2016, without the
 * squares). One is added above and below, so that two empty masks agree.
 */
export function softDice(probabilities: tf.Tensor, targets: tf.Tensor): tf.Tensor1D {
  const axes = Array.from({ length: targets.rank - 1 }, (_, axis) => axis + 1);
  const common = tf.sum(tf.mul(probabilities, targets), axes);
  const both = tf.add(tf.sum(probabilities, axes), tf.sum(targets, axes));
  return tf.div(tf.add(tf.mul(common, 2), 1), tf.add(both, 1));
}
