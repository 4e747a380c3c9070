import { expect } from 'chai';
import fc from 'fast-check';
import { components } from '../../src/imaging/components.js';
import { findLungs } from '../../src/imaging/lungs.js';
import { outlineDistance, type Mask } from '../../src/imaging/mask-distance.js';
import { phantomFilm } from '../../src/imaging/phantom.js';
import { decodeRle, encodeRle } from '../../src/imaging/rle.js';

/** Rows of text: `#` belongs to the mask. */
function drawn(...rows: string[]): Mask {
  const width = rows[0]?.length ?? 0;
  return { width, height: rows.length, data: Uint8Array.from(rows.join(''), (c) => (c === '#' ? 255 : 0)) };
}

/** Two rectangles, in shares of a film of 100 × 100. */
function lungsAt(...boxes: readonly (readonly [x: number, y: number, w: number, h: number])[]): Mask {
  const data = new Uint8Array(100 * 100);
  for (const [x, y, w, h] of boxes) {
    for (let row = y; row < y + h; row++) data.fill(255, row * 100 + x, row * 100 + x + w);
  }
  return { width: 100, height: 100, data };
}

const anyMask = fc
  .tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 12 }))
  .chain(([width, height]) =>
    fc
      .array(fc.constantFrom(0, 255), { minLength: width * height, maxLength: width * height })
      .map((data): Mask => ({ width, height, data: Uint8Array.from(data) })),
  );

describe('masks', () => {
  it('are split into parts that touch at their sides, the largest first', () => {
    const { found, labels } = components(drawn('##..', '#..#', '..##'));
    expect(found.map(({ area, box }) => ({ area, box }))).to.deep.equal([
      { area: 3, box: { x: 0, y: 0, width: 2, height: 2 } },
      { area: 3, box: { x: 2, y: 1, width: 2, height: 2 } },
    ]);
    expect([...labels]).to.deep.equal([1, 1, 0, 0, 1, 0, 0, 2, 0, 0, 2, 2]);
    expect(found[0]?.centroid.x).to.be.closeTo((0.5 + 1.5 + 0.5) / 3, 1e-12);
    expect(found[1]?.centroid.y).to.be.closeTo((1.5 + 2.5 + 2.5) / 3, 1e-12);
  });

  it('are written in the format of COCO: the runs of pycocotools', () => {
    // pycocotools: mask.encode(np.asfortranarray(np.array([[0, 1, 1], [0, 0, 1]], np.uint8)))
    expect(encodeRle(drawn('.##', '..#'))).to.deep.equal({ size: [2, 3], counts: '2111' });
    expect(encodeRle(drawn('##', '##')).counts).to.equal('04');
  });

  it('are restored from their run lengths', () => {
    fc.assert(
      fc.property(anyMask, (mask) => {
        expect([...decodeRle(encodeRle(mask))]).to.deep.equal([...(mask.data as Uint8Array)]);
      }),
    );
    const { lungs } = phantomFilm({ seed: 3, size: 128 });
    expect(decodeRle(encodeRle(lungs))).to.deep.equal(lungs.data);
    expect(() => decodeRle({ size: [2, 2], counts: '2' })).to.throw(
      'the runs cover 2 pixels, expected 2 × 2',
    );
  });

  it('are as far apart as their outlines, compared by every pair', () => {
    fc.assert(
      fc.property(anyMask, fc.infiniteStream(fc.constantFrom(0, 255)), (a, more) => {
        const b = { ...a, data: Uint8Array.from(Array.from(a.data, () => more.next().value as number)) };
        const edge = ({ width, height, data }: Mask): [number, number][] =>
          Array.from(
            { length: width * height },
            (_, p) => [p % width, Math.floor(p / width)] as [number, number],
          )
            .filter(([x, y]) => (data[y * width + x] ?? 0) > 0)
            .filter(([x, y]) =>
              [
                [x - 1, y],
                [x + 1, y],
                [x, y - 1],
                [x, y + 1],
              ].some(
                ([u = 0, v = 0]) => u < 0 || v < 0 || u >= width || v >= height || data[v * width + u] === 0,
              ),
            );
        const [edgeA, edgeB] = [edge(a), edge(b)];
        const found = outlineDistance(a, b);
        if (edgeA.length === 0 || edgeB.length === 0) {
          expect(found).to.equal(null);
          return;
        }
        const nearest = ([x, y]: [number, number], to: [number, number][]): number =>
          Math.min(...to.map(([u, v]) => Math.hypot(x - u, y - v)));
        const all = [...edgeA.map((p) => nearest(p, edgeB)), ...edgeB.map((p) => nearest(p, edgeA))];
        expect(found?.assd).to.be.closeTo(all.reduce((x, y) => x + y, 0) / all.length, 1e-9);
        expect(found?.hd95).to.be.at.most(Math.max(...all) + 1e-9);
      }),
    );
    expect(outlineDistance(drawn('#...'), drawn('...#'))).to.deep.equal({ hd95: 3, assd: 3 });
  });
});

describe('lungs of a mask', () => {
  const left = [15, 25, 25, 50] as const;
  const right = [60, 25, 25, 50] as const;

  it('are the two largest parts, left and right as a viewer shows them', () => {
    const { lungs, mask } = findLungs(lungsAt(left, right, [50, 2, 3, 3]));
    expect(lungs.plausible, lungs.reason).to.equal(true);
    expect(lungs.left?.box).to.deep.equal({ x: 0.15, y: 0.25, width: 0.25, height: 0.5 });
    expect(lungs.right?.area).to.equal(0.125);
    expect(mask[3 * 100 + 51], 'what is too small is dropped').to.equal(0);
  });

  for (const [reason, mask] of [
    ['no lung was found', lungsAt()],
    ['only one lung was found', lungsAt(right)],
    ['a lung covers only 1 % of the film', lungsAt(left, [70, 40, 10, 8])],
    ['a lung covers 50 % of the film', lungsAt([0, 0, 50, 100], [60, 0, 30, 100])],
    ["one lung has 32 % of the other's area", lungsAt(left, [60, 35, 20, 20])],
    ["the lungs' centres are only 16 % of the width apart", lungsAt([30, 25, 15, 50], [46, 25, 15, 50])],
    ['one lung is 30 % of the height lower than the other', lungsAt([15, 10, 25, 40], [60, 40, 25, 40])],
    ['a lung is centred at 90 % of the height', lungsAt([15, 80, 25, 20], [60, 80, 25, 20])],
    ['1 more parts cover 3 % of the film', lungsAt(left, right, [40, 80, 20, 15])],
  ] as const) {
    it(`are not plausible: ${reason}`, () => {
      expect(findLungs(mask).lungs).to.include({ plausible: false, reason });
    });
  }
});
