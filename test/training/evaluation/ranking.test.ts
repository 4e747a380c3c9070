import { expect } from 'chai';
import { interval, resample } from '../../../src/training/evaluation/bootstrap.js';
import {
  aupr,
  auroc,
  operatingPoints,
  rank,
  sensitivityAt,
} from '../../../src/training/evaluation/ranking.js';
import { auroc as byRanks } from '../../../src/training/metrics.js';

describe('the figures of a ranking', () => {
  const scores = [0.1, 0.4, 0.6, 0.8, 0.4, 0.9];
  const positive = [false, false, false, true, true, true];
  const points = operatingPoints(rank(scores, positive));

  it('counts who is called positive at each distinct score', () => {
    expect(points.map((p) => [p.score, p.truePositives, p.falsePositives])).to.deep.equal([
      [Infinity, 0, 0],
      [0.9, 1, 0],
      [0.8, 2, 0],
      [0.6, 2, 1],
      [0.4, 3, 2],
      [0.1, 3, 3],
    ]);
  });

  it('areas are those of the pairs and of the precisions at each new positive', () => {
    // Pairs won: 3 of 0.9, 3 of 0.8, 1 + ½ of 0.4.
    expect(auroc(points)).to.be.closeTo(7.5 / 9, 1e-12);
    expect(aupr(points)).to.be.closeTo((1 + 1 + 3 / 5) / 3, 1e-12);
  });

  it('reads the sensitivity at a specificity off the curve', () => {
    expect(sensitivityAt(points, 1)).to.be.closeTo(2 / 3, 1e-12);
    expect(sensitivityAt(points, 2 / 3)).to.be.closeTo(2 / 3, 1e-12);
    expect(sensitivityAt(points, 1 / 3)).to.equal(1);
  });

  it('a film of weight 2 counts as two films, one of weight 0 as none', () => {
    const weighted = operatingPoints(rank(scores, positive), [1, 2, 0, 1, 3, 0]);
    const repeated = operatingPoints(
      rank([0.1, 0.4, 0.4, 0.8, 0.4, 0.4, 0.4], [false, false, false, true, true, true, true]),
    );
    expect(auroc(weighted)).to.be.closeTo(auroc(repeated), 1e-12);
    expect(aupr(weighted)).to.be.closeTo(aupr(repeated), 1e-12);
    expect(sensitivityAt(weighted, 0.9)).to.be.closeTo(sensitivityAt(repeated, 0.9), 1e-12);
  });

  it('agrees with the area by ranks on many tied scores', () => {
    const many = Array.from({ length: 300 }, (_, i) => ((i * 37) % 23) / 23);
    const kinds = many.map((score, i) => (i * 7) % 11 < 3 + 5 * score);
    expect(auroc(operatingPoints(rank(many, kinds)))).to.be.closeTo(byRanks(many, kinds), 1e-12);
  });

  it('is NaN without both kinds', () => {
    const alone = operatingPoints(rank([1, 2], [true, true]));
    expect(auroc(alone)).to.be.NaN;
    expect(sensitivityAt(alone, 0.9)).to.be.NaN;
  });
});

describe('bootstrap intervals', () => {
  it('draw whole groups: films of one patient always come as often as each other', () => {
    const groups = ['a', 'b', 'a', 'c', 'b'];
    for (const weights of resample(groups, { resamples: 50 })) {
      expect(weights[0]).to.equal(weights[2]);
      expect(weights[1]).to.equal(weights[4]);
      expect((weights[0] ?? 0) + (weights[1] ?? 0) + (weights[3] ?? 0)).to.equal(3);
    }
  });

  it('hold the mean of a normal sample ± 1.96 standard errors, and are the same for a seed', () => {
    const values = Array.from({ length: 400 }, (_, i) => Math.sin(i * 12.9898) * 10);
    const mean = (weights: ArrayLike<number>): number => {
      let [sum, n] = [0, 0];
      values.forEach((value, i) => {
        sum += (weights[i] ?? 0) * value;
        n += weights[i] ?? 0;
      });
      return sum / n;
    };
    const groups = values.map((_, i) => String(i));
    const [low, high] = interval(mean, resample(groups)) ?? expect.fail();
    const centre = mean(values.map(() => 1));
    const variance = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / values.length;
    const half = 1.96 * Math.sqrt(variance / values.length);
    expect(high - low).to.be.closeTo(2 * half, 0.15 * half);
    expect((low + high) / 2).to.be.closeTo(centre, 0.15 * half);
    expect(interval(mean, resample(groups))).to.deep.equal([low, high]);
  });

  it('are wider by patient than by film where the films of a patient are alike', () => {
    const values = Array.from({ length: 200 }, (_, i) => Math.sin(Math.floor(i / 10) * 12.9898));
    const mean = (weights: ArrayLike<number>): number => {
      const n = values.reduce((sum, _, i) => sum + (weights[i] ?? 0), 0);
      return values.reduce((sum, value, i) => sum + (weights[i] ?? 0) * value, 0) / n;
    };
    const width = (groups: string[]): number => {
      const [low, high] = interval(mean, resample(groups)) ?? expect.fail();
      return high - low;
    };
    expect(width(values.map((_, i) => String(Math.floor(i / 10))))).to.be.above(
      2 * width(values.map((_, i) => String(i))),
    );
  });

  it('leave out the resamples in which the figure is not defined', () => {
    const draws = [[1], [2], [3], [0]];
    const weightOf = (weights: ArrayLike<number>): number | null =>
      weights[0] === 0 ? null : (weights[0] ?? null);
    expect(interval(weightOf, draws)).to.deep.equal([1, 3]);
    expect(interval(() => null, draws)).to.equal(null);
  });
});
