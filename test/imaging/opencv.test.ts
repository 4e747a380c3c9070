import { readdirSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Image } from '../../src/core/frame.js';
import * as kernels from '../../src/imaging/kernels.js';
import * as opencv from '../../src/imaging/opencv.js';
import { clahe, INTERPOLATIONS, type Interpolation, resize, toGrey } from '../../src/imaging/opencv.js';
import { expectSame, fixture, noise, readPng } from '../support/goldens.js';

for (const [title, module] of Object.entries({ 'opencv-wasm': opencv, 'the kernels': kernels })) {
  describe(`${title} against Debian’s OpenCV 4.6 (fixtures/make_goldens.py)`, () => {
    for (const name of readdirSync(fixture('golden'))) {
      const [operation = '', source = ''] = name.replace(/\.png$/, '').split('.film-');
      // Names with a fraction have one more dot: clahe-0.5-3.film-8bit.png
      it(operation.replaceAll('-', ' ') + ' of ' + source, async () => {
        const film = await readPng(fixture(`film-${source}.png`));
        const golden = await readPng(fixture(`golden/${name}`));
        // Native OpenCV computes cubic with fused multiply-add, which WebAssembly does not have.
        const [tolerance, share] = operation.includes('cubic') ? [1, 0.005] : [0, 0];
        expectSame(apply(module, operation, film), golden, tolerance, share);
      });
    }
  });
}

function apply(
  module: Pick<typeof opencv, 'clahe' | 'resize' | 'toGrey'>,
  operation: string,
  film: Image,
): Image {
  const [kernel, first = '', second = ''] = operation.split('-');
  if (kernel === 'grey') return module.toGrey(film);
  if (kernel === 'clahe') return module.clahe(film, Number(first), Number(second));
  const [width = 0, height = 0] = second.split('x').map(Number);
  return module.resize(film, width, height, first as Interpolation);
}

const images = fc
  .record({
    width: fc.integer({ min: 1, max: 40 }),
    height: fc.integer({ min: 1, max: 40 }),
    type: fc.constantFrom('8' as const, '16' as const, 'float' as const),
    channels: fc.constantFrom(1 as const, 3 as const),
  })
  .map(({ width, height, type, channels }) => noise(width, height, type, channels));

describe('opencv-wasm', () => {
  it('resize keeps sample type and channels, gives the size asked for, and changes no flat image', () => {
    fc.assert(
      fc.property(
        images,
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom(...INTERPOLATIONS),
        (image, width, height, interpolation) => {
          const result = resize(image, width, height, interpolation);
          expect([result.width, result.height, result.channels]).to.deep.equal([
            width,
            height,
            image.channels,
          ]);
          expect(result.data).to.have.length(width * height * image.channels);
          expect(result.data.constructor).to.equal(image.data.constructor);
          const flat = resize({ ...image, data: image.data.map(() => 7) }, width, height, interpolation);
          const off = Array.from(flat.data, (sample) => Math.abs(sample - 7));
          expect(Math.max(...off)).to.be.below(1e-5);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('clahe keeps size and type, for images smaller than the grid, too, and any limit', () => {
    fc.assert(
      fc.property(
        images,
        fc.double({ min: 0.01, max: 1e12, noNaN: true }),
        fc.integer({ min: 1, max: 12 }),
        (image, clipLimit, tiles) => {
          fc.pre(!(image.data instanceof Float32Array));
          fc.pre(image.channels === 1 || image.data instanceof Uint8Array);
          const result = clahe(image, clipLimit, tiles);
          expect([result.width, result.height, result.channels]).to.deep.equal([
            image.width,
            image.height,
            image.channels,
          ]);
          expect(result.data.constructor).to.equal(image.data.constructor);
        },
      ),
      // With 16-bit samples, 64 × 64 tiles take 65,536 levels each: half a gigabyte, and a second.
      {
        numRuns: 40,
        examples: [
          [noise(5, 3, '8'), 2, 64],
          [noise(40, 33, '8', 3), 0.01, 64],
          [noise(1, 40, '16'), 1e12, 40],
        ],
      },
    );
  });

  it('clahe says why it cannot take floating point or 16-bit colour', () => {
    expect(() => clahe(noise(9, 9, 'float'), 2, 8)).to.throw('needs 8 or 16-bit samples');
    expect(() => clahe(noise(9, 9, '16', 3), 2, 8)).to.throw('decode the image with `color: grey`');
  });

  it('grey of equal channels keeps every value', () => {
    const data = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
    expect([...toGrey({ width: 256, height: 1, channels: 3, data }).data]).to.deep.equal([
      ...Array(256).keys(),
    ]);
  });

  it('takes pixels in shared memory', () => {
    const film = noise(30, 20, '16');
    const shared = new Uint16Array(new SharedArrayBuffer(1200));
    shared.set(film.data);
    expectSame(clahe({ ...film, data: shared }, 2, 4), clahe(film, 2, 4));
  });

  it('translates what OpenCV throws', () => {
    expect(() => resize(noise(4, 4, '8'), 0, 5, 'linear')).to.throw(/^OpenCV: .*resize/s);
  });

  it('leaves no listener behind that would end the process', () => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      const sources = process.rawListeners(event).map(String).join();
      expect(sources).not.to.contain('ExitStatus');
      expect(sources).not.to.contain('ABORT');
    }
  });

  it('frees what it takes: 200 films need no more memory than ten', () => {
    const film = noise(256, 256, '8', 3);
    const round = (times: number): number => {
      for (let i = 0; i < times; i++) toGrey(resize(clahe(film, 2, 8), 100, 100, 'area'));
      return process.memoryUsage().arrayBuffers + process.memoryUsage().external;
    };
    const after10 = round(10);
    expect(round(200) - after10).to.be.below(64 * 2 ** 20);
  });
});
