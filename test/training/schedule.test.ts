import { expect } from 'chai';
import { learningRateAt } from '../../src/training/schedule.js';

describe('the learning rate', () => {
  it('rises in a line to its peak, then falls by a half cosine to one percent', () => {
    const at = (step: number) => learningRateAt(step, 1, 10, 110);
    expect(at(0)).to.equal(0.1);
    expect(at(9)).to.equal(1);
    expect(at(10)).to.equal(1);
    expect(at(60)).to.be.closeTo(0.505, 1e-12);
    expect(at(110)).to.be.closeTo(0.01, 1e-12);
  });
});
