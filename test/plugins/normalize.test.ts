import { expect } from 'chai';
import fc from 'fast-check';
import normalizeStage, { normalize } from '../../src/plugins/normalize.js';
import { noise } from '../support/goldens.js';

const plain = { mode: 'scale', mean: 0, std: 1 } as const;

describe('normalize', () => {
  it('scales the range of the sample type to 0–1', () => {
    const eight = { width: 3, height: 1, channels: 1 as const, data: Uint8Array.of(0, 51, 255) };
    expect([...normalize(eight, plain).data]).to.deep.equal([0, Math.fround(0.2), 1]);
    const sixteen = { ...eight, data: Uint16Array.of(0, 13107, 65535) };
    expect([...normalize(sixteen, plain).data]).to.deep.equal([0, Math.fround(0.2), 1]);
    const floats = { ...eight, data: Float32Array.of(-1, 0.5, 3) };
    expect([...normalize(floats, plain).data]).to.deep.equal([-1, 0.5, 3]);
  });

  it('subtracts and divides per channel', () => {
    const pixel = { width: 1, height: 1, channels: 3 as const, data: Uint8Array.of(255, 255, 0) };
    const { data } = normalize(pixel, { mode: 'scale', mean: [0.5, 0, 1], std: [0.5, 2, 4] });
    expect([...data]).to.deep.equal([1, 0.5, -0.25]);
  });

  it('fits any image to 0–1, or to mean 0 and spread 1', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 30 }),
        fc.constantFrom('8' as const, '16' as const, 'float' as const),
        fc.constantFrom(1 as const, 3 as const),
        (side, type, channels) => {
          const image = noise(side, side, type, channels);
          const range = normalize(image, { ...plain, mode: 'minMax' }).data;
          expect([Math.min(...range), Math.max(...range)]).to.deep.equal([0, 1]);
          const spread = [...normalize(image, { ...plain, mode: 'zScore' }).data];
          expect(spread.reduce((sum, x) => sum + x, 0) / spread.length).to.be.closeTo(0, 1e-4);
          expect(spread.reduce((sum, x) => sum + x * x, 0) / spread.length).to.be.closeTo(1, 1e-4);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('makes 0 of an image of one single grey level', () => {
    const flat = { width: 2, height: 2, channels: 1 as const, data: new Uint8Array(4).fill(9) };
    for (const mode of ['minMax', 'zScore'] as const) {
      expect([...normalize(flat, { ...plain, mode }).data]).to.deep.equal([0, 0, 0, 0]);
    }
  });

  it('refuses a division by 0, and numbers for channels that are not there', () => {
    expect(normalizeStage.options.safeParse({ std: [1, 0, 1] }).success).to.equal(false);
    expect(() => normalize(noise(2, 2, '8'), { ...plain, mean: [1, 2, 3] })).to.throw(
      '`mean` has 3 numbers, the image has 1 channel',
    );
  });
});
