import { expect } from 'chai';
import { suspicionAt, verdictOf } from '../../src/core/verdict.js';

describe('verdictOf', () => {
  const quiet = { kind: 'classification', abnormal: false, suspicion: 0.2, score: 0.1, threshold: 0.3 };
  const loud = { kind: 'mine', abnormal: true, suspicion: 0.9, score: 7, threshold: 5 };

  it('joins the judgements of all stages: one abnormal is enough, and the most suspicious is named', () => {
    expect(verdictOf({ a: quiet, b: loud, c: { kind: 'segmentation', plausible: false } })).to.deep.equal({
      ...{ abnormal: true, suspicion: 0.9, stage: 'b', score: 7, threshold: 5 },
      abnormalStages: ['b'],
    });
    expect(verdictOf({ a: quiet })).to.deep.include({ abnormal: false, suspicion: 0.2, abnormalStages: [] });
  });

  it('names the stage that calls it abnormal before one that only has the higher number', () => {
    const unsure = { kind: 'mine', suspicion: 0.95 };
    expect(verdictOf({ a: unsure, b: { ...loud, suspicion: 0.6 } })).to.deep.include({
      stage: 'b',
      suspicion: 0.6,
    });
  });

  it('is unknown if no stage judges, and leaves out shadow stages and malformed results', () => {
    const nothing = { abnormal: null, suspicion: null, stage: null };
    expect(verdictOf({})).to.deep.include(nothing);
    expect(
      verdictOf({ a: { ...loud, shadow: true }, b: { abnormal: 'yes', suspicion: NaN } }),
    ).to.deep.include(nothing);
    expect(verdictOf({ a: { suspicion: 0.9 } })).to.deep.include({ abnormal: null, suspicion: 0.9 });
  });

  it('has every threshold at 0.5', () => {
    expect([0, 0.1, 0.2, 0.6, 1].map((score) => suspicionAt(score, 0.2))).to.deep.equal([
      0, 0.25, 0.5, 0.75, 1,
    ]);
    expect([suspicionAt(0, 0), suspicionAt(1, 0), suspicionAt(1, 1), suspicionAt(0.5, 1)]).to.deep.equal([
      0.5, 1, 0.5, 0.25,
    ]);
  });
});
