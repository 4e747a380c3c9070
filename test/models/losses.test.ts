import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { supervisedContrastiveLoss } from '../../src/models/losses.js';
import { useCpuBackend } from '../engine/support.js';

describe('the supervised contrastive loss', () => {
  before(useCpuBackend);

  const features = [
    [1, 0.2, 3],
    [0.5, 2, 0.1],
    [0.9, 0.1, 2],
    [3, 1, 0],
    [0.3, 2, 0.4],
  ];
  const labels = [0, 1, 0, 2, 1];
  const targets = tf.tensor2d(labels.map((label) => [0, 1, 2].map((each) => (each === label ? 1 : 0))));

  /** As the paper writes it, sum by sum. */
  function byHand(rows: number[][], temperature: number): number[] {
    const unit = rows.map((row) => row.map((value) => value / Math.hypot(...row)));
    const similarity = (i: number, j: number): number =>
      (unit[i] ?? []).reduce((sum, value, at) => sum + value * (unit[j]?.[at] ?? NaN), 0) / temperature;
    return rows.map((_, i) => {
      const others = rows.flatMap((__, j) => (j === i ? [] : [j]));
      const positives = others.filter((j) => labels[j] === labels[i]);
      const all = Math.log(others.reduce((sum, j) => sum + Math.exp(similarity(i, j)), 0));
      const sum = positives.reduce((total, j) => total + similarity(i, j) - all, 0);
      return positives.length === 0 ? 0 : -sum / positives.length;
    });
  }

  it('is that of the paper, and 0 for a film that is alone in its class', () => {
    const found = supervisedContrastiveLoss(tf.tensor2d(features), targets, 0.2).arraySync();
    byHand(features, 0.2).forEach((value, i) => expect(found[i]).to.be.closeTo(value, 1e-5));
    expect(found[3]).to.equal(0);
  });

  it('has its gradient', () => {
    const loss = (rows: tf.Tensor): tf.Tensor =>
      tf.sum(supervisedContrastiveLoss(rows as tf.Tensor2D, targets, 0.5));
    const gradient = tf.grad(loss)(tf.tensor2d(features)).arraySync() as number[][];
    const total = (rows: number[][]): number => byHand(rows, 0.5).reduce((sum, value) => sum + value, 0);
    features.forEach((row, i) => {
      row.forEach((_, at) => {
        const moved = (by: number): number[][] =>
          features.map((values, j) => values.map((value, k) => (j === i && k === at ? value + by : value)));
        const slope = (total(moved(1e-5)) - total(moved(-1e-5))) / 2e-5;
        expect(gradient[i]?.[at]).to.be.closeTo(slope, 1e-4);
      });
    });
  });
});
