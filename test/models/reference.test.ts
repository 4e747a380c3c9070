import { expect } from 'chai';
import { percentileOf, referenceOf, robustZ, relativeScoreOf } from '../../src/models/reference.js';

describe('a reference of normal scores', () => {
  it('has a percentile: the share of the reference below, ties counted half', () => {
    const reference = [1, 2, 2, 4];
    expect([0, 1, 2, 3, 4, 5].map((score) => percentileOf(score, reference))).to.deep.equal([
      0, 12.5, 50, 75, 87.5, 100,
    ]);
  });

  it('has a robust z that one strange film among the normal ones does not move', () => {
    expect(robustZ(5, [1, 2, 3, 4, 5])).to.be.closeTo(2 / 1.4826, 1e-12);
    expect(robustZ(5, [1, 2, 3, 4, 500])).to.be.closeTo(2 / 1.4826, 1e-12);
    expect(robustZ(3, [1, 2, 4, 5])).to.equal(0);
    expect(robustZ(3, [2, 2, 2, 5])).to.equal(null);
  });

  it('has the threshold that calls the wanted share of it abnormal, and no more', () => {
    const scores = Array.from({ length: 40 }, (_, i) => (i * 7) % 40);
    const reference = referenceOf(scores, { steps: 1 });
    expect(reference).to.deep.include({ falsePositiveRate: 0.05, threshold: 37, settings: { steps: 1 } });
    expect(scores.filter((score) => relativeScoreOf(score, reference).abnormal === true)).to.have.length(2);
    // One of nine would be 11 %.
    expect(referenceOf([1, 2, 3, 4, 5, 6, 7, 8, 9], {}).threshold).to.equal(9);
    expect(referenceOf(scores, {}, 0.5).threshold).to.equal(19);
  });

  it('has a suspicion of 0.5 at the threshold, by rank below it and by spreads above', () => {
    const reference = referenceOf([1, 2, 3, 4, 5], {}, 0.2);
    const suspicions = [0, 1, 4, 4 + 1.4826, 4 + 2 * 1.4826].map(
      (score) => relativeScoreOf(score, reference).suspicion,
    );
    const expected = [0, (0.5 * 10) / 70, 0.5, 0.75, 0.875];
    for (const [i, value] of expected.entries()) expect(suspicions[i]).to.be.closeTo(value, 1e-12);
    expect(relativeScoreOf(9, referenceOf([2, 2, 2], {})).suspicion, 'no spread').to.equal(1);
  });

  it('gives nothing for a score without a reference', () => {
    const nothing = { percentile: null, robustZ: null, threshold: null, abnormal: null, suspicion: null };
    expect(relativeScoreOf(1, undefined)).to.deep.equal({ ...nothing, score: 1 });
  });
});
