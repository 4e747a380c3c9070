import { expect } from 'chai';
import { normalNoise, seededRandom } from '../../src/models/random.js';
import { coreset } from '../../src/training/coreset.js';

describe('a coreset', () => {
  it('has one of every cluster before a second of any', () => {
    const random = seededRandom(1);
    const noise = normalNoise([60, 40], random, { std: 0.01 }).data as Float32Array;
    // Row i belongs to cluster i % 6, far from the others.
    const vectors = noise.map((value, at) => value + (at % 40 === Math.floor(at / 40) % 6 ? 10 : 0));
    const clusters = Array.from(coreset(vectors, 40, 6, random), (row) => row % 6);
    expect(clusters.sort()).to.deep.equal([0, 1, 2, 3, 4, 5]);
  });

  it('is the same for the same seed, without repetition, and all there are when more are wanted', () => {
    const vectors = normalNoise([20, 3], seededRandom(2)).data as Float32Array;
    const chosen = coreset(vectors, 3, 10, seededRandom(3));
    expect([...coreset(vectors, 3, 10, seededRandom(3))]).to.deep.equal([...chosen]);
    expect(new Set(chosen).size).to.equal(10);
    expect(coreset(vectors, 3, 99, seededRandom(3))).to.have.length(20);
  });
});
