import { expect } from 'chai';
import { normalNoise, seededRandom, shuffled } from '../../src/models/random.js';

describe('seeded random numbers', () => {
  it('depend on every seed and are uniform', () => {
    const first = (...seeds: number[]) => seededRandom(...seeds)();
    expect(first(1, 2, 3)).to.equal(first(1, 2, 3));
    expect(
      new Set([first(1, 2, 3), first(1, 2, 4), first(2, 2, 3), first(1, 3, 2), first(1, 2)]).size,
    ).to.equal(5);
    const random = seededRandom(5);
    const bins = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const bin = Math.floor(random() * 10);
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    expect(Math.min(...bins)).to.be.above(880);
    expect(Math.max(...bins)).to.be.below(1120);
  });

  it('shuffle to a permutation', () => {
    const order = shuffled(100, seededRandom(1));
    expect([...order].sort((a, b) => a - b)).to.deep.equal(Array.from({ length: 100 }, (_, i) => i));
    expect([...order]).to.not.deep.equal(Array.from({ length: 100 }, (_, i) => i));
  });

  it('are normal where they should be', () => {
    const { data } = normalNoise([10_000], seededRandom(1), { mean: 2, std: 3 });
    const values = Array.from(data as Float32Array);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(mean).to.be.closeTo(2, 0.1);
    expect(Math.sqrt(variance)).to.be.closeTo(3, 0.1);
  });

  it('never change: sample films are made of them', () => {
    const { data } = normalNoise([4], seededRandom(7), { std: 0.6 });
    expect([...(data as Float32Array)]).to.deep.equal([
      -0.08130662143230438, -0.9087696671485901, 1.1667170524597168, 0.7601733803749084,
    ]);
  });
});
