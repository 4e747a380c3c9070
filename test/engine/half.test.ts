import { expect } from 'chai';
import { fromHalf, toHalf } from '../../src/engine/half.js';

describe('half precision', () => {
  it('comes back bit for bit, for every finite number there is', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((half) => (half & 0x7c00) !== 0x7c00);
    expect(toHalf(fromHalf(all))).to.deep.equal(all);
  });

  // numpy: np.array([...], 'f4').astype('f2').view('u2')
  for (const [value, half] of [
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [0.1, 0x2e66],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [3 * 2 ** -25, 0x0002],
    [6.1e-5, 0x03ff],
    [6.104e-5, 0x0400],
    [Infinity, 0x7c00],
    [-Infinity, 0xfc00],
  ] as const) {
    it(`rounds ${value} to nearest, ties to even`, () => {
      expect(toHalf(Float32Array.of(value))[0]).to.equal(half);
    });
  }

  it('keeps what is no number', () => {
    expect(fromHalf(toHalf(Float32Array.of(NaN)))[0]).to.be.NaN;
  });
});
