import { expect } from 'chai';
import fc from 'fast-check';
import resizeStage, { fitTo, type ResizeOptions } from '../../src/plugins/resize.js';
import { cropTo } from '../../src/imaging/image.js';
import { resize } from '../../src/imaging/kernels.js';
import { expectSame, noise } from '../support/goldens.js';

const settings = (options: Partial<ResizeOptions>): ResizeOptions => ({
  width: 20,
  height: 20,
  fit: 'stretch',
  background: 0,
  interpolation: 'area',
  ...options,
});

describe('resize', () => {
  it('stretches by area averaging unless told otherwise', () => {
    expect(resizeStage.options.parse({ width: 20, height: 20 })).to.deep.equal(settings({}));
    const film = noise(40, 30, '8');
    expectSame(fitTo(film, settings({})), resize(film, 20, 20, 'area'));
  });

  it('contains: the whole image in the middle, padded with the background', () => {
    for (const [type, white] of [
      ['8', 255],
      ['16', 65535],
    ] as const) {
      const film = noise(40, 20, type);
      const result = fitTo(film, settings({ fit: 'contain', background: 1 }));
      expectSame(cropTo(result, { x: 0, y: 5, width: 20, height: 10 }), resize(film, 20, 10, 'area'));
      for (const y of [0, 15]) {
        const padding = cropTo(result, { x: 0, y, width: 20, height: 5 }).data;
        expect([...new Set(padding)]).to.deep.equal([white]);
      }
    }
  });

  it('covers: the middle of the image, cut to the proportions asked for', () => {
    const film = noise(60, 20, '8', 3);
    const middle = cropTo(film, { x: 20, y: 0, width: 20, height: 20 });
    expectSame(
      fitTo(film, settings({ fit: 'cover', width: 10, height: 10 })),
      resize(middle, 10, 10, 'area'),
    );
  });

  it('always gives the size asked for', () => {
    const size = fc.integer({ min: 1, max: 60 });
    fc.assert(
      fc.property(
        size,
        size,
        size,
        size,
        fc.constantFrom('stretch', 'contain', 'cover'),
        (w, h, width, height, fit) => {
          const result = fitTo(noise(w, h, '8'), settings({ width, height, fit }));
          expect([result.width, result.height, result.data.length]).to.deep.equal([
            width,
            height,
            width * height,
          ]);
        },
      ),
      { numRuns: 100 },
    );
  });
});
