import { expect } from 'chai';
import {
  auroc,
  aurocInterval,
  balancedAccuracy,
  confusionMatrix,
  recalls,
} from '../../src/training/metrics.js';

describe('training metrics', () => {
  it('counts films by true and predicted class', () => {
    expect(confusionMatrix([0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2], 3)).to.deep.equal([
      [1, 1, 0],
      [1, 2, 0],
      [0, 0, 1],
    ]);
  });

  it('refuses a class that does not exist', () => {
    expect(() => confusionMatrix([0], [3], 3)).to.throw(RangeError, 'classes run from 0 to 2, got 0 and 3');
  });

  it('averages the sensitivities, whatever the class sizes', () => {
    const matrix = [
      [90, 10],
      [1, 1],
    ];
    expect(recalls(matrix)).to.deep.equal([0.9, 0.5]);
    expect(balancedAccuracy(matrix)).to.equal(0.7);
  });

  it('leaves classes without films out of the balanced accuracy', () => {
    const matrix = [
      [3, 1],
      [0, 0],
    ];
    expect(recalls(matrix)).to.deep.equal([0.75, null]);
    expect(balancedAccuracy(matrix)).to.equal(0.75);
  });

  it('computes the area under the ROC curve by hand-countable pairs', () => {
    // Positives 0.8 and 0.4 against negatives 0.1, 0.4 and 0.6: won 3 + (1 + ½), of 6 pairs.
    const area = auroc([0.1, 0.4, 0.6, 0.8, 0.4], [false, false, false, true, true]);
    expect(area).to.be.closeTo(4.5 / 6, 1e-12);
  });

  it('is 1 for a perfect order, 0 for the reverse, ½ for equal scores, NaN for one class alone', () => {
    expect(auroc([1, 2, 3, 4], [0, 0, 1, 1])).to.equal(1);
    expect(auroc([4, 3, 2, 1], [0, 0, 1, 1])).to.equal(0);
    expect(auroc([7, 7, 7, 7], [0, 1, 0, 1])).to.equal(0.5);
    expect(auroc([1, 2], [1, 1])).to.be.NaN;
  });

  it('gives an interval that holds the value, narrows with the films, and is the same for a seed', () => {
    const films = (n: number) => ({
      scores: Array.from({ length: n }, (_, i) => ((i * 37) % 101) / 101 + (i % 2) * 0.2),
      positive: Array.from({ length: n }, (_, i) => i % 2 === 1),
    });
    const few = films(40);
    const many = films(1000);
    const a = aurocInterval(few.scores, few.positive) ?? expect.fail();
    const b = aurocInterval(many.scores, many.positive, { resamples: 200 }) ?? expect.fail();
    expect(a.value).to.be.within(a.low, a.high);
    expect(b.value).to.be.within(b.low, b.high);
    expect(b.high - b.low).to.be.below(a.high - a.low);
    expect(aurocInterval(few.scores, few.positive)).to.deep.equal(a);
  });

  it('gives no interval for one class alone', () => {
    expect(aurocInterval([1, 2], [1, 1])).to.equal(null);
  });
});
