import { expect } from 'chai';
import { outlineOf } from '../../src/imaging/outline.js';

describe('the outline of a mask', () => {
  const mask = (...rows: string[]) => ({
    width: rows[0]?.length ?? 0,
    height: rows.length,
    data: Uint8Array.from(rows.join(''), (sign) => (sign === '#' ? 255 : 0)),
  });
  /** Its segments, each as four numbers. */
  const segments = (path: string): number[][] =>
    path
      .split('M')
      .slice(1)
      .map((text) => text.split(/[ L]/).map(Number));

  it('runs half-way between the pixels, closed also at the edges', () => {
    const found = segments(outlineOf(mask('#'), 127.5));
    expect(found).to.have.length(4);
    for (const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] of found) {
      for (const [x, y] of [
        [x1, y1],
        [x2, y2],
      ] as const) {
        expect(Math.abs(x - 0.5) + Math.abs(y - 0.5)).to.equal(0.5);
      }
    }
    expect(outlineOf(mask('..', '..'), 127.5)).to.equal('');
  });

  it('has every point twice: it is closed', () => {
    const found = segments(outlineOf(mask('.##..', '###.#', '.#.##', '...#.'), 127.5));
    const points = new Map<string, number>();
    for (const [x1, y1, x2, y2] of found) {
      for (const point of [`${x1},${y1}`, `${x2},${y2}`]) points.set(point, (points.get(point) ?? 0) + 1);
    }
    expect([...points.values()].every((count) => count === 2)).to.equal(true);
  });

  it('keeps parts that touch at a corner apart', () => {
    // Each part has its own corner in the middle: no segment joins the two.
    expect(outlineOf(mask('#.', '.#'), 127.5))
      .to.contain('M0.5 1L1 0.5')
      .and.contain('M1.5 1L1 1.5');
    expect(outlineOf(mask('.#', '#.'), 127.5))
      .to.contain('M1 0.5L1.5 1')
      .and.contain('M1 1.5L0.5 1');
  });

  it('is where a map crosses the level', () => {
    const map = { width: 3, height: 1, data: [0, 0.5, 1] };
    const xs = segments(outlineOf(map, 0.25)).flatMap(([x1, , x2]) => [x1, x2]);
    expect(Math.min(...xs.map(Number))).to.equal(1);
  });
});
