import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Image, Samples } from '../../src/core/frame.js';
import { equalizeHist } from '../../src/imaging/equalize-hist.js';
import * as kernels from '../../src/imaging/kernels.js';
import * as opencv from '../../src/imaging/opencv.js';
import { expectSame, noise } from '../support/goldens.js';

/** A film: smooth, with noise on it, black around it, in so many bits of its type's range. */
function film(width: number, height: number, type: '8' | '16', bits: number, grain: number): Image {
  const { data: random } = noise(width, height, 'float');
  const data: Samples = type === '8' ? new Uint8Array(random.length) : new Uint16Array(random.length);
  const levels = 2 ** bits - 1;
  const white = type === '8' ? 255 : 65535;
  random.forEach((part, i) => {
    const x = (i % width) / width;
    const y = Math.floor(i / width) / height;
    const body = Math.sin(5 * x) * Math.cos(2 * y) * 0.9 + grain * (part - 0.5);
    data[i] = Math.round((Math.round(Math.min(1, Math.max(0, body)) * levels) / levels) * white);
  });
  return { width, height, channels: 1, data };
}

const films = (largest: number): fc.Arbitrary<Image> =>
  fc
    .record({
      width: fc.integer({ min: 1, max: largest }),
      height: fc.integer({ min: 1, max: largest }),
      depth: fc.constantFrom(['8', 8], ['8', 3], ['16', 16], ['16', 12], ['16', 1]),
      grain: fc.constantFrom(0, 0.05, 5),
    })
    .map(({ width, height, depth: [type, bits], grain }) => film(width, height, type, bits, grain));

const limits = fc.oneof(
  fc.double({ min: 0.01, max: 10, noNaN: true }),
  fc.double({ min: 0.01, max: 1e6, noNaN: true }),
  fc.constantFrom(1e-9, 2, 1e12),
);

describe('histogram equalisation', () => {
  it('gives the bits of opencv-wasm, for any size and depth', () => {
    fc.assert(
      fc.property(
        films(90).filter(({ data }) => data instanceof Uint8Array),
        (image) => {
          expectSame(equalizeHist(image), opencv.equalizeHist(image));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('gives 16 bit the same levels as 8 bit, in its own range', () => {
    const image = film(90, 70, '8', 8, 0.05);
    const deep = equalizeHist({ ...image, data: Uint16Array.from(image.data, (level) => 3 * level + 7) });
    const { data } = equalizeHist(image);
    deep.data.forEach((level, i) => {
      expect(level / 257).to.be.closeTo(data[i] ?? NaN, 0.51);
    });
  });

  it('does not depend on an increasing change of the grey levels', () => {
    const image = film(90, 70, '16', 12, 0.05);
    const gamma = { ...image, data: image.data.map((level) => 65535 * (level / 65535) ** 0.5) };
    expectSame(equalizeHist(gamma), equalizeHist(image));
  });

  it('keeps an image of one grey level, and refuses colour and floating point', () => {
    const one = { width: 3, height: 2, channels: 1, data: new Uint8Array(6).fill(9) } as const;
    expectSame(equalizeHist(one), one);
    expect(() => equalizeHist({ ...one, width: 1, channels: 3 })).to.throw(/`color: grey`/);
    expect(() => equalizeHist({ ...one, data: new Float32Array(6) })).to.throw(/8 or 16-bit samples/);
  });
});

describe('clahe gives the bits of opencv-wasm', () => {
  const same = (image: Image, limit: number, tiles: number): void => {
    expectSame(kernels.clahe(image, limit, tiles), opencv.clahe(image, limit, tiles));
  };

  it('for any size, depth, limit and grid', () => {
    fc.assert(
      fc.property(films(90), limits, fc.integer({ min: 1, max: 12 }), (image, limit, tiles) => {
        same(image, limit, tiles);
      }),
      { numRuns: 60 },
    );
  });

  it('for grids of up to 64 × 64 tiles', () => {
    const small = films(150).filter(({ data }) => data instanceof Uint8Array);
    fc.assert(
      fc.property(small, limits, fc.integer({ min: 12, max: 64 }), (image, limit, tiles) => {
        same(image, limit, tiles);
      }),
      { numRuns: 30 },
    );
    same(film(130, 67, '16', 16, 5), 3, 64);
  });

  it('for films of the size that hospitals send', () => {
    for (const [type, bits, grain] of [
      ['8', 8, 0.1],
      ['16', 12, 0.1],
      ['16', 16, 5],
    ] as const) {
      same(film(1022, 1025, type, bits, grain), 2, 8);
    }
  });

  it('for one single grey level', () => {
    for (const level of [0, 1, 255]) {
      same({ ...film(33, 20, '8', 8, 0), data: new Uint8Array(660).fill(level) }, 2, 8);
      same({ ...film(33, 20, '16', 16, 0), data: new Uint16Array(660).fill(level * 257) }, 2, 8);
    }
  });
});

describe('resize by area gives the bits of opencv-wasm', () => {
  const same = (image: Image, width: number, height: number): void => {
    expectSame(kernels.resize(image, width, height, 'area'), opencv.resize(image, width, height, 'area'));
  };
  const size = fc.integer({ min: 1, max: 60 });

  it('for any size and depth, smaller, larger or equal', () => {
    fc.assert(
      fc.property(films(150), size, size, (image, width, height) => {
        same(image, width, height);
      }),
      { numRuns: 150 },
    );
  });

  it('for blocks of whole pixels', () => {
    const factor = fc.integer({ min: 1, max: 20 });
    const depth = fc.constantFrom<('8' | '16')[]>('8', '16');
    const small = fc.integer({ min: 1, max: 12 });
    fc.assert(
      fc.property(small, small, factor, factor, depth, (width, height, across, down, type) => {
        same(noise(width * across, height * down, type), width, height);
      }),
      { numRuns: 150 },
    );
  });

  it('for films of the size that hospitals send', () => {
    for (const type of ['8', '16'] as const) {
      same(film(1250, 1024, type, Number(type), 0.1), 224, 224);
      same(noise(1024, 1024, type), 128, 128);
    }
  });
});

describe('the kernels', () => {
  it('take pixels in shared memory, and leave them unchanged', () => {
    const image = film(30, 20, '16', 12, 0.1);
    const shared = new Uint16Array(new SharedArrayBuffer(1200));
    shared.set(image.data);
    expectSame(kernels.clahe({ ...image, data: shared }, 2, 4), opencv.clahe(image, 2, 4));
    expect([...shared]).to.deep.equal([...image.data]);
  });

  it('give each film pixels of its own', () => {
    const first = kernels.clahe(noise(40, 40, '8'), 2, 8);
    const copy = first.data.slice();
    kernels.clahe(noise(40, 39, '8'), 2, 8);
    expect(first.data).to.deep.equal(copy);
  });

  it('load OpenCV for operations that only it has, or if RXRAY_KERNELS=opencv is set', () => {
    const program = `
      import { createRequire } from 'node:module';
      import { clahe, resize } from '${import.meta.resolve('../../src/imaging/kernels.js')}';
      const image = { width: 9, height: 9, channels: 1, data: new Uint8Array(81).map((_, i) => 3 * i) };
      const { data } = resize(clahe(image, 2, 2), 4, 5, 'area');
      const files = Object.keys(createRequire(import.meta.url).cache);
      console.log(JSON.stringify([files.some((file) => file.includes('opencv-wasm')), [...data]]));
    `;
    const run = (env: NodeJS.ProcessEnv): [boolean, number[]] => {
      const { stdout, stderr } = spawnSync(process.execPath, ['--input-type', 'module', '--eval', program], {
        env: { ...process.env, ...env },
        encoding: 'utf8',
      });
      expect(stderr).to.equal('');
      return JSON.parse(stdout) as [boolean, number[]];
    };
    const [loads, ours] = run({ RXRAY_KERNELS: '' });
    const [loadsToo, theirs] = run({ RXRAY_KERNELS: 'opencv' });
    expect([loads, loadsToo]).to.deep.equal([false, true]);
    expect(ours).to.deep.equal(theirs);
  });
});
