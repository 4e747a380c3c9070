import { expect } from 'chai';
import type { Image } from '../../src/core/frame.js';
import { addOpacity, phantomFilm } from '../../src/imaging/phantom.js';
import { expectSame, noise } from '../support/goldens.js';

const mean = (image: Image, where: (i: number) => boolean): number => {
  const chosen = [...image.data].filter((_, i) => where(i));
  return chosen.reduce((sum, sample) => sum + sample, 0) / chosen.length;
};

describe('the phantom', () => {
  it('is the same film for the same seed, and another for another', () => {
    expectSame(phantomFilm({ seed: 5, size: 48 }).image, phantomFilm({ seed: 5, size: 48 }).image);
    expect(phantomFilm({ seed: 6, size: 48 }).image.data).not.to.deep.equal(
      phantomFilm({ seed: 5, size: 48 }).image.data,
    );
  });

  it('looks like a chest: dark lungs of a fair size between brighter tissue', () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const { image, lungs } = phantomFilm({ seed, size: 64 });
      const share = mean(lungs, () => true) / 255;
      expect(share).to.be.within(0.2, 0.5);
      const middle = (i: number): boolean => Math.abs((i % 64) - 32) < 3;
      expect(mean(image, (i) => lungs.data[i] === 255)).to.be.below(mean(image, middle) - 80);
    }
  });

  it('has 8 or 16 bit, using most of their range', () => {
    for (const [bits, white] of [
      [8, 255],
      [16, 65535],
    ] as const) {
      const { image } = phantomFilm({ seed: 1, size: 64, bits });
      expect(Math.min(...image.data)).to.be.below(0.1 * white);
      expect(Math.max(...image.data)).to.be.above(0.9 * white);
    }
  });

  it('says where its opacities are: brighter there than without, equal elsewhere, and inside the lungs', () => {
    const clear = phantomFilm({ seed: 3, size: 96 });
    const { image, opacities } = phantomFilm({ seed: 3, size: 96, opacities: 2 });
    expect(opacities).to.have.length(2);
    for (const { box, mask } of opacities) {
      const inside = (i: number): boolean => mask.data[i] === 255;
      expect(mean(image, inside)).to.be.above(mean(clear.image, inside) + 15);
      const rows = [...mask.data.keys()].filter(inside).map((i) => Math.floor(i / 96));
      const columns = [...mask.data.keys()].filter(inside).map((i) => i % 96);
      expect(box).to.deep.equal({
        x: Math.min(...columns),
        y: Math.min(...rows),
        width: Math.max(...columns) - Math.min(...columns) + 1,
        height: Math.max(...rows) - Math.min(...rows) + 1,
      });
      expect(mean(clear.lungs, inside)).to.be.above(128);
    }
  });

  it('puts an opacity onto any film, of any sample type, and leaves the film as it was', () => {
    for (const type of ['8', '16', 'float'] as const) {
      const film = noise(40, 30, type);
      const before = film.data.slice();
      const { image, opacity } = addOpacity(film, { seed: 1, x: 0.5, y: 0.5, radius: 0.2 });
      expect(film.data).to.deep.equal(before);
      expect(image.data.constructor).to.equal(film.data.constructor);
      expect(image.data[0]).to.equal(film.data[0]);
      expect(image.data[15 * 40 + 20]).to.be.above(film.data[15 * 40 + 20] ?? 0);
      expect(opacity.mask.data[15 * 40 + 20]).to.equal(255);
      expect(opacity.box.width).to.be.within(8, 24);
    }
  });
});
