import * as tf from '@tensorflow/tfjs-core';

/** Weight of the objects against the background, and how little certain answers count (Lin et al. 2017). */
export interface FocalOptions {
  readonly alpha: number;
  readonly gamma: number;
}

/**
 * Focal loss of sigmoid(logits), elementwise: α_t (1 − p_t)^γ times the cross-entropy (Lin et al. 2017, equation 5).
 *
 * @param targets 0 or 1, of the logits' shape.
 */
export function focalLoss<T extends tf.Tensor>(
  logits: T,
  targets: T,
  { alpha, gamma }: FocalOptions = { alpha: 0.25, gamma: 2 },
): T {
  const p = tf.sigmoid(logits);
  const crossEntropy = tf.sub(tf.softplus(logits), tf.mul(logits, targets));
  // 1 − p_t = p + t − 2 p t
  const wrong = tf.sub(tf.add(p, targets), tf.mul(tf.mul(p, targets), 2));
  const weight = tf.add(tf.mul(targets, 2 * alpha - 1), 1 - alpha);
  const focus = gamma === 2 ? tf.square(wrong) : tf.pow(wrong, gamma);
  return tf.mul(tf.mul(weight, focus), crossEntropy);
}

/** Smooth L1 (Girshick 2015), elementwise: ½ d² ÷ β below β, else |d| − ½ β. */
export function smoothL1<T extends tf.Tensor>(a: T, b: T, beta = 1): T {
  const distance = tf.abs(tf.sub(a, b));
  const near = tf.minimum(distance, beta);
  // For d ≥ β: ½ β + (d − β).
  return tf.add(tf.div(tf.square(near), 2 * beta), tf.sub(distance, near));
}

/**
 * Generalised IoU loss 1 − GIoU of boxes (Rezatofighi et al. 2019).
 *
 * @param found [N,A,4] as corners. @param truth Likewise. Returns [N,A].
 */
export function giouLoss(found: tf.Tensor3D, truth: tf.Tensor3D): tf.Tensor2D {
  const epsilon = 1e-7;
  const cornersOf = (boxes: tf.Tensor3D): tf.Tensor[] =>
    tf.split(boxes, 4, 2).map((part) => tf.squeeze(part, [2]));
  const [ax0, ay0, ax1, ay1] = cornersOf(found) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const [bx0, by0, bx1, by1] = cornersOf(truth) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const area = (x0: tf.Tensor, y0: tf.Tensor, x1: tf.Tensor, y1: tf.Tensor): tf.Tensor =>
    tf.mul(tf.sub(x1, x0), tf.sub(y1, y0));
  const both = tf.mul(
    tf.relu(tf.sub(tf.minimum(ax1, bx1), tf.maximum(ax0, bx0))),
    tf.relu(tf.sub(tf.minimum(ay1, by1), tf.maximum(ay0, by0))),
  );
  const union = tf.sub(tf.add(area(ax0, ay0, ax1, ay1), area(bx0, by0, bx1, by1)), both);
  const around = area(tf.minimum(ax0, bx0), tf.minimum(ay0, by0), tf.maximum(ax1, bx1), tf.maximum(ay1, by1));
  const iou = tf.div(both, tf.add(union, epsilon));
  const giou = tf.sub(iou, tf.div(tf.sub(around, union), tf.add(around, epsilon)));
  return tf.sub<tf.Tensor2D>(1, giou);
}
