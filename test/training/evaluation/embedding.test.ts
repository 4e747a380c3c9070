import { expect } from 'chai';
import { normalNoise, seededRandom } from '../../../src/models/random.js';
import { principalComponents, tsne, umap, type Point } from '../../../src/training/evaluation/embedding.js';

/** Three clouds in 12 dimensions, 20 films each. */
function clouds(): number[][] {
  const noise = normalNoise([60, 12], seededRandom(5)).data as Float32Array;
  return Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: 12 }, (_, d) => (noise[i * 12 + d] ?? 0) + (d === Math.floor(i / 20) ? 12 : 0)),
  );
}

/** Share of the films whose nearest neighbour is of their own cloud. */
function kept(points: readonly Point[]): number {
  const nearest = points.map(([x, y], i) => {
    const distances = points.map(([a, b], j) => (i === j ? Infinity : (a - x) ** 2 + (b - y) ** 2));
    return distances.indexOf(Math.min(...distances));
  });
  return nearest.filter((other, i) => Math.floor(other / 20) === Math.floor(i / 20)).length / points.length;
}

describe('pictures of features', () => {
  it('principal components keep the distances, the first ones most of the spread', () => {
    const rows = clouds();
    const all = principalComponents(rows, 12);
    const distance = (a: number[] = [], b: number[] = []): number =>
      Math.hypot(...a.map((x, d) => x - (b[d] ?? 0)));
    for (const [i, j] of [
      [0, 30],
      [5, 59],
      [20, 21],
    ] as const) {
      expect(distance(all[i], all[j])).to.be.closeTo(distance(rows[i], rows[j]), 1e-6);
    }
    const spread = (d: number): number => all.reduce((sum, row) => sum + (row[d] ?? 0) ** 2, 0);
    expect(spread(0)).to.be.at.least(spread(1));
    expect(spread(1)).to.be.above(10 * spread(2));
  });

  for (const [name, embed] of [
    ['t-SNE', tsne],
    ['UMAP', umap],
  ] as const) {
    it(`${name} keeps the clouds together, and draws the same picture again`, () => {
      const points = embed(principalComponents(clouds()));
      expect(points).to.have.length(60);
      expect(kept(points)).to.equal(1);
      expect(embed(principalComponents(clouds()))).to.deep.equal(points);
    });
  }
});
