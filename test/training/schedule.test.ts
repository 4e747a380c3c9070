import { expect } from 'chai';
import { seeded, shuffled } from '../../src/training/random.js';
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

describe('seeded random numbers', () => {
  it('depend on every seed and are uniform', () => {
    const first = (...seeds: number[]) => seeded(...seeds)();
    expect(first(1, 2, 3)).to.equal(first(1, 2, 3));
    expect(
      new Set([first(1, 2, 3), first(1, 2, 4), first(2, 2, 3), first(1, 3, 2), first(1, 2)]).size,
    ).to.equal(5);
    const random = seeded(5);
    const bins = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const bin = Math.floor(random() * 10);
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    expect(Math.min(...bins)).to.be.above(880);
    expect(Math.max(...bins)).to.be.below(1120);
  });

  it('shuffle to a permutation', () => {
    const order = shuffled(100, seeded(1));
    expect([...order].sort((a, b) => a - b)).to.deep.equal(Array.from({ length: 100 }, (_, i) => i));
    expect([...order]).to.not.deep.equal(Array.from({ length: 100 }, (_, i) => i));
  });
});
