import { expect } from 'chai';
import { fitTemperature, temper } from '../../../src/models/calibration.js';
import { seededRandom } from '../../../src/models/random.js';
import {
  calibrate,
  chooseThreshold,
  expectedCalibrationError,
  reliability,
} from '../../../src/training/evaluation/calibrate.js';

/** Films whose labels are drawn from the very probabilities: perfectly calibrated. */
function honest(n: number): { rows: number[][]; truth: number[] } {
  const random = seededRandom(3);
  const rows = Array.from({ length: n }, () => {
    const logits = [random() * 4, random() * 4, random() * 4].map(Math.exp);
    const sum = logits.reduce((a, b) => a + b, 0);
    return logits.map((power) => power / sum);
  });
  const truth = rows.map(([a = 0, b = 0]) => {
    const u = random();
    return u < a ? 0 : u < a + b ? 1 : 2;
  });
  return { rows, truth };
}

describe('temperature scaling', () => {
  it('is the softmax of the logits over the temperature', () => {
    const logits = [2, -1, 0.5];
    const softmax = (values: number[]): number[] => {
      const sum = values.reduce((total, value) => total + Math.exp(value), 0);
      return values.map((value) => Math.exp(value) / sum);
    };
    const tempered = temper(softmax(logits), 2.5);
    softmax(logits.map((logit) => logit / 2.5)).forEach((expected, i) => {
      expect(tempered[i]).to.be.closeTo(expected, 1e-12);
    });
  });

  it('is undone by its inverse, and survives certainty', () => {
    const back = temper(temper([0.7, 0.2, 0.1], 3), 1 / 3);
    [0.7, 0.2, 0.1].forEach((p, i) => expect(back[i]).to.be.closeTo(p, 1e-12));
    expect(temper([1, 0, 0], 2)).to.deep.equal([1, 0, 0]);
    expect(temper([1e-30, 1, 0], 50).reduce((a, b) => a + b)).to.be.closeTo(1, 1e-12);
  });

  it('finds the temperature that the probabilities were changed by', () => {
    const { rows, truth } = honest(4000);
    expect(fitTemperature(rows, truth)).to.be.closeTo(1, 0.06);
    expect(
      fitTemperature(
        rows.map((row) => temper(row, 1 / 2)),
        truth,
      ),
    ).to.be.closeTo(2, 0.12);
  });
});

describe('calibration error', () => {
  it('is the gap between confidence and accuracy, weighed by the films of each bin', () => {
    // Two films at 0.9, one right; two at 0.55, both right.
    const rows = [
      [0.9, 0.1],
      [0.9, 0.1],
      [0.55, 0.45],
      [0.45, 0.55],
    ];
    const ece = expectedCalibrationError(reliability(rows, [0, 1, 0, 1]));
    expect(ece).to.be.closeTo((Math.abs(0.5 - 0.9) + Math.abs(1 - 0.55)) / 2, 1e-12);
  });

  it('puts a certain film into the last bin', () => {
    const bins = reliability([[1, 0]], [0]);
    expect(bins.at(-1)).to.deep.equal({ from: 0.9, to: 1, films: 1, confidence: 1, accuracy: 1 });
  });

  it('falls when an overconfident model is calibrated', () => {
    const { rows, truth } = honest(3000);
    const sure = rows.map((row) => temper(row, 1 / 3));
    const { ece, temperature, films } = calibrate(sure, truth, ['a', 'b', 'c']);
    expect(temperature).to.be.closeTo(3, 0.25);
    expect(ece.before).to.be.above(0.15);
    expect(ece.after).to.be.below(0.03);
    expect(films).to.equal(3000);
  });
});

describe('the threshold', () => {
  it('is between the classes if they are separate', () => {
    const found = chooseThreshold([0.1, 0.2, 0.8, 0.9], [false, false, true, true]);
    expect(found.plateau).to.deep.equal([0.2, 0.8]);
    expect(found.threshold).to.be.closeTo(0.65, 1e-9);
    expect(found.balancedAccuracy).to.equal(1);
  });

  it('takes the best balanced accuracy, not the best accuracy', () => {
    const normals = Array.from({ length: 10 }, (_, i) => 0.3 + i * 0.01);
    const abnormals = Array.from({ length: 200 }, (_, i) => 0.35 + (i / 200) * 0.6);
    const { threshold } = chooseThreshold(
      [...normals, ...abnormals],
      [...normals.map(() => false), ...abnormals.map(() => true)],
    );
    // Calling all abnormal would be right for 95 % of the films.
    expect(threshold).to.be.within(0.36, 0.42);
  });

  it('is high on a plateau of thresholds that are equally good for this number of films', () => {
    // Below 0.4 three normal films are wrong, above 0.6 three abnormal ones; between them all six are.
    const normals = [...Array.from({ length: 17 }, (_, i) => i / 100), 0.59, 0.6, 0.61];
    const abnormals = [...Array.from({ length: 17 }, (_, i) => 0.8 + i / 100), 0.39, 0.4, 0.41];
    const scores = [...normals, ...abnormals];
    const abnormal = scores.map((_, i) => i >= normals.length);
    const { threshold, plateau } = chooseThreshold(scores, abnormal);
    expect(threshold).to.be.within(...plateau);
    expect(threshold).to.be.above(0.5);
  });

  it('counts versions of one film as one', () => {
    const normals = [...Array.from({ length: 17 }, (_, i) => i / 100), 0.59, 0.6, 0.61];
    const abnormals = [...Array.from({ length: 17 }, (_, i) => 0.8 + i / 100), 0.39, 0.4, 0.41];
    const scores = [...normals, ...abnormals];
    const abnormal = scores.map((_, i) => i >= normals.length);
    const versions = Array.from({ length: 30 }, () => scores).flat();
    const all = versions.map((_, i) => abnormal[i % scores.length] ?? false);
    const once = chooseThreshold(scores, abnormal);
    expect(chooseThreshold(versions, all, 30)).to.deep.equal(once);
    expect(chooseThreshold(versions, all).plateau).to.not.deep.equal(once.plateau);
  });

  it('is stored with the label of healthy films, and left out without one', () => {
    const rows = [
      [0.8, 0.1, 0.1],
      [0.2, 0.7, 0.1],
      [0.1, 0.8, 0.1],
      [0.3, 0.1, 0.6],
    ];
    const { binary } = calibrate(rows, [0, 1, 1, 2], ['bacterial', 'Normal', 'viral']);
    expect(binary?.normal).to.equal('Normal');
    expect(binary?.threshold).to.be.within(0, 1);
    expect(calibrate(rows, [0, 1, 1, 2], ['a', 'b', 'c']).binary).to.equal(undefined);
  });
});
