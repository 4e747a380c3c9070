import { expect } from 'chai';
import type { Image } from '../../../src/core/frame.js';
import { shift, type ShiftOptions } from '../../../src/training/evaluation/shift-stage.js';
import {
  SHIFTS,
  shiftedChains,
  suiteOf,
  type ShiftFigures,
} from '../../../src/training/evaluation/shifts.js';

const width = 40;
const height = 20;
/** A ramp from left to right. */
const film: Image = {
  width,
  height,
  channels: 1,
  data: Uint8Array.from({ length: width * height }, (_, i) => 20 + 5 * (i % width)),
};
const deep: Image = { ...film, data: Uint16Array.from(film.data, (level) => level * 257) };

const shifted = (
  kind: ShiftOptions['kind'],
  amount: number,
  image = film,
  more: Partial<ShiftOptions> = {},
) => shift(image, { kind, amount, across: true, down: true, ...more });

function meanDifference(a: Image, b: Image): number {
  let sum = 0;
  for (const [i, level] of a.data.entries()) sum += Math.abs(level - (b.data[i] ?? 0));
  return sum / a.data.length;
}

describe('a shift', () => {
  it('changes grey levels as its name says, of 8 and of 16 bit', async () => {
    expect((await shifted('contrast', 0.5)).data.slice(0, 2)).to.deep.equal(Uint8Array.of(74, 76));
    expect((await shifted('gamma', 2)).data[0]).to.equal(Math.round((20 / 255) ** 2 * 255));
    const wide = await shifted('contrast', 0.5, deep);
    expect(wide.data).to.be.instanceOf(Uint16Array);
    expect(wide.data[0]).to.equal(Math.round((20 / 255 - 0.5) * 0.5 * 65535 + 0.5 * 65535));
  });

  it('cuts, extends and frames by shares of the film', async () => {
    expect(await shifted('crop', 0.2)).to.include({ width: 32, height: 16 });
    expect(await shifted('crop', 0.2, film, { across: false })).to.include({ width: 40, height: 16 });
    const extended = await shifted('extend', 0.1);
    expect(extended).to.include({ width: 48, height: 24 });
    expect(extended.data.slice(0, 6)).to.deep.equal(Uint8Array.of(20, 20, 20, 20, 20, 25));
    expect((await shifted('border', 0.1)).data.slice(0, 6)).to.deep.equal(new Uint8Array(6));
  });

  it('turns the film about its centre, with black corners and within its size', async () => {
    const square: Image = { ...film, width: 5, height: 5, data: new Uint8Array(25).fill(100) };
    square.data[2 * 5 + 4] = 200;
    const turned = await shifted('rotate', 90, square);
    expect(turned).to.include({ width: 5, height: 5 });
    // From the right to the bottom: clockwise.
    expect([...turned.data.keys()].filter((p) => turned.data[p] === 200)).to.deep.equal([4 * 5 + 2]);
    const slanted = await shifted('rotate', 45, deep);
    expect([slanted.data[0], slanted.data.at(-1)]).to.deep.equal([0, 0]);
    expect(slanted.data[10 * width + 20]).to.be.above(100 * 257);
  });

  it('blurs, adds noise, compresses and coarsens: near the film, not the film', async () => {
    for (const [kind, amount] of [
      ['blur', 0.1],
      ['noise', 0.04],
      ['jpeg', 30],
      ['resolution', 0.5],
    ] as const) {
      for (const image of [film, deep]) {
        const found = await shifted(kind, amount, image);
        expect(found, kind).to.include({ width, height });
        expect(found.data.constructor).to.equal(image.data.constructor);
        const scale = image === deep ? 257 : 1;
        expect(meanDifference(found, image), kind)
          .to.be.above(0.01 * scale)
          .and.below(15 * scale);
      }
    }
    expect(await shifted('noise', 0.04)).to.deep.equal(await shifted('noise', 0.04));
  });
});

describe('the suite of shifts', () => {
  const step = (use: string) => ({ use, with: {}, url: `file:///${use}.js` });

  it('puts each behind `decode`, and leaves CLAHE out where there is one', () => {
    const chains = shiftedChains(['decode', 'clahe', 'resize'].map(step));
    expect(chains).to.have.length(SHIFTS.length);
    for (const { name, chain } of chains) {
      const uses = name === 'without CLAHE' ? ['decode', 'resize'] : ['decode', 'shift', 'clahe', 'resize'];
      expect(
        chain.map(({ use }) => use),
        name,
      ).to.deep.equal(uses);
    }
    expect(shiftedChains(['decode', 'resize'].map(step))).to.have.length(SHIFTS.length - 1);
  });

  it('names the worst of each figure', () => {
    const row = (name: string, auroc: number, specificity: number | null, ece: number): ShiftFigures => ({
      ...{ name, auroc, specificity, ece, sensitivity: 1, balancedAccuracy: null },
      intervals: { auroc: null, sensitivity: null, specificity: null, ece: null },
    });
    const { worst } = suiteOf([
      row('a', 0.9, 0.8, 0.05),
      row('b', 0.8, null, 0.1),
      row('c', 0.95, 0.7, 0.02),
    ]);
    expect(worst).to.deep.equal({
      auroc: { value: 0.8, shift: 'b' },
      specificity: { value: 0.7, shift: 'c' },
      ece: { value: 0.1, shift: 'b' },
    });
  });
});
