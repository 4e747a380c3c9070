import { expect } from 'chai';
import { driftOf, populationStabilityIndex, type Model } from '../../src/control/models.js';
import type { WorklistFilm } from '../../src/control/worklist.js';
import { bundleOf } from '../support/bundles.js';
import { referenceOf } from '../../src/models/reference.js';

const input = { width: 8, height: 8, channels: 1 as const, layout: 'NHWC' as const, mean: [0], std: [1] };

function model(other: Partial<Model['bundle']>): Model {
  const bundle = { ...bundleOf({ kind: 'classifier', input, ...other }), files: {} };
  return { stage: 'model', use: 'resnet', dir: '/toy', folder: 'toy', bundle, card: '' };
}

function films(results: readonly object[]): WorklistFilm[] {
  return results.map((result) => ({ results: { model: result } }) as unknown as WorklistFilm);
}

describe('drift', () => {
  it('is the sum of (p − q) · ln(p ÷ q)', () => {
    // By hand: 0.2 · ln(0.7 / 0.5) + (−0.2) · ln(0.3 / 0.5).
    expect(populationStabilityIndex([0.5, 0.5], [0.7, 0.3])).to.be.closeTo(0.16946, 1e-5);
    expect(populationStabilityIndex([0.5, 0.5], [0.5, 0.5])).to.equal(0);
    expect(populationStabilityIndex([1, 0], [0, 1])).to.be.finite.and.greaterThan(1);
  });

  it('compares anomaly scores with the reference of the bundle', () => {
    const scores = Array.from({ length: 200 }, (_, i) => i / 200);
    const anomaly = { ...model({}), reference: referenceOf(scores, {}) };
    const [same] = driftOf([anomaly], films(scores.map((anomalyScore) => ({ anomalyScore }))));
    expect(same).to.include({ stage: 'model', of: 'anomalyScore', films: 200, level: 'stable' });
    expect(same!.psi).to.be.closeTo(0, 1e-9);
    const [other] = driftOf([anomaly], films(scores.map((score) => ({ anomalyScore: 0.8 + score / 2 }))));
    expect(other!.level).to.equal('shifted');
    expect(other!.bins).to.have.length(20);
    expect(other!.recent.reduce((a, b) => a + b)).to.be.closeTo(1, 1e-9);
  });

  it('compares labels with the classes of the training films', () => {
    const classifier = model({
      labels: ['normal', 'pneumonia'],
      data: {
        name: 'toy',
        license: 'CC0-1.0',
        source: 'made up',
        fingerprint: '',
        counts: { train: { normal: 300, pneumonia: 100 } },
      },
    });
    const seen = Array.from({ length: 100 }, (_, i) => ({ label: i < 25 ? 'pneumonia' : 'normal' }));
    const [drift] = driftOf([classifier], films(seen));
    expect(drift).to.deep.include({
      of: 'label',
      level: 'stable',
      reference: [0.75, 0.25],
      recent: [0.75, 0.25],
    });
  });

  it('gives no verdict on a few films, and only counts the last thousand', () => {
    const anomaly = { ...model({}), reference: referenceOf([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], {}) };
    const [few] = driftOf([anomaly], films([{ anomalyScore: 99 }]));
    expect(few).to.include({ films: 1, psi: null, level: 'too few films' });
    const [many] = driftOf([anomaly], films(Array.from({ length: 1500 }, () => ({ anomalyScore: 1 }))));
    expect(many!.films).to.equal(1000);
  });
});
