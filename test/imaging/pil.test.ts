import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { expect } from 'chai';
import type { Image } from '../../src/core/frame.js';
import { PIL_INTERPOLATIONS, resizeAsPil, type PilInterpolation } from '../../src/imaging/pil.js';
import { expectSame, fixture, noise, readPng } from '../support/goldens.js';

describe('resizing as Pillow 9.4 (fixtures/make_pil_goldens.py) gives the same bits', () => {
  for (const name of readdirSync(fixture('golden-pil'))) {
    const [operation = '', source = ''] = name.replace(/\.png$/, '').split('.film-');
    it(`${operation} of ${source}`, async () => {
      const film = await readPng(fixture(`film-${source}.png`));
      const [, interpolation = '', width, height] = /^resize-(.*)-(\d+)x(\d+)$/.exec(operation) ?? [];
      const small = resizeAsPil(film, Number(width), Number(height), interpolation as PilInterpolation);
      expectSame(small, await readPng(fixture(`golden-pil/${name}`)));
    });
  }
});

/** Pillow's answers for many sizes at once: `F` for floating point. */
const SCRIPT = `
import sys, json
from PIL import Image
for line in sys.stdin:
    j = json.loads(line)
    mode = {'8': 'L', '8rgb': 'RGB', 'float': 'F'}[j['type']]
    image = Image.frombytes(mode, (j['width'], j['height']), bytes.fromhex(j['data']))
    kind = Image.BILINEAR if j['interpolation'] == 'pil-bilinear' else Image.BICUBIC
    print(image.resize((j['newWidth'], j['newHeight']), kind).tobytes().hex())
`;

describe('resizing as Pillow', () => {
  it('agrees with the Pillow of this machine at any size, up and down, grey, colour and floating point', function () {
    this.timeout(60_000);
    if (spawnSync('/usr/bin/python3', ['-c', 'import PIL']).status !== 0) this.skip(); // needs python3-pil
    const sizes = [1, 2, 3, 7, 16, 31, 64, 97];
    const cases = PIL_INTERPOLATIONS.flatMap((interpolation) =>
      sizes.flatMap((width, i) =>
        sizes.flatMap((newWidth, j) =>
          (['8', '8rgb', 'float'] as const).map((type) => ({
            ...{ interpolation, type, width, newWidth },
            height: sizes[(i + j) % sizes.length] ?? 1,
            newHeight: sizes[(i + 3 * j) % sizes.length] ?? 1,
          })),
        ),
      ),
    );
    const images = cases.map(({ width, height, type }): Image => {
      return noise(width, height, type === 'float' ? 'float' : '8', type === '8rgb' ? 3 : 1);
    });
    const hex = ({ data }: Image): string =>
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex');
    const asked = cases.map((each, i) => JSON.stringify({ ...each, data: hex(images[i] as Image) }));
    const answers = execFileSync('/usr/bin/python3', ['-c', SCRIPT], {
      input: asked.join('\n'),
      maxBuffer: 1 << 28,
    });
    const lines = answers.toString().trim().split('\n');
    cases.forEach((each, i) => {
      const { newWidth, newHeight, interpolation } = each;
      const small = resizeAsPil(images[i] as Image, newWidth, newHeight, interpolation);
      const told = JSON.stringify(each);
      if (each.type !== 'float') {
        expect(hex(small), told).to.equal(lines[i]);
        return;
      }
      const wanted = new Float32Array(new Uint8Array(Buffer.from(lines[i] ?? '', 'hex')).buffer);
      small.data.forEach((value, at) => {
        expect(value, told).to.be.closeTo(wanted[at] ?? NaN, 1e-6);
      });
    });
  });

  it('keeps 16-bit samples within rounding of the exact result, and flat images flat', () => {
    for (const interpolation of PIL_INTERPOLATIONS) {
      const deep = noise(60, 40, '16');
      const exact = resizeAsPil({ ...deep, data: Float32Array.from(deep.data) }, 17, 13, interpolation);
      const small = resizeAsPil(deep, 17, 13, interpolation);
      expectSame(small, { ...exact, data: Uint16Array.from(exact.data, Math.round) }, 2);
      const flat = resizeAsPil({ ...deep, data: deep.data.map(() => 65535) }, 17, 50, interpolation);
      expect([...new Set(flat.data)]).to.deep.equal([65535]);
    }
  });

  it('leaves an image of the size asked for as it is, in memory of its own', () => {
    const film = noise(8, 8, '8');
    const same = resizeAsPil(film, 8, 8, 'pil-bicubic');
    expect(same.data).to.deep.equal(film.data);
    expect(same.data).to.not.equal(film.data);
  });
});
