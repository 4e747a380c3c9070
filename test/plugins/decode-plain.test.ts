import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import sharp, { type Sharp } from 'sharp';
import type { Image } from '../../src/core/frame.js';
import { decodePlainJpeg } from '../../src/plugins/decode/jpeg.js';
import { decodePlainPng } from '../../src/plugins/decode/png.js';
import { decodeRaster } from '../../src/plugins/decode/raster.js';
import type { Decoded } from '../../src/plugins/decode/decoder.js';
import { expectSame, fixture, noise } from '../support/goldens.js';

const LIMITS = { maxPixels: 1e8, maxBytes: 5e8 };

/** By libvips alone. */
function bySharp(bytes: Buffer): Promise<Decoded> {
  process.env['RXRAY_KERNELS'] = 'opencv';
  try {
    return decodeRaster(bytes, LIMITS);
  } finally {
    delete process.env['RXRAY_KERNELS'];
  }
}

function plain(bytes: Buffer): Image | undefined {
  return bytes[0] === 0x89
    ? decodePlainPng(bytes, LIMITS.maxPixels)
    : decodePlainJpeg(bytes, LIMITS.maxPixels, 'grey');
}

/** The first channel, since all three are alike where a plain JPEG has colour components. */
function grey({ width, height, channels, data }: Image): Image {
  return { width, height, channels: 1, data: data.filter((_, i) => i % channels === 0) };
}

async function expectAsSharp(bytes: Buffer): Promise<void> {
  const image = plain(bytes);
  if (image === undefined) throw new Error('is not taken for plain');
  const { image: golden } = await bySharp(bytes);
  expectSame(image, image.channels === golden.channels ? golden : grey(golden));
}

/** Smooth, with so much noise on it. */
function film(width: number, height: number, grain: number, channels: 1 | 3 = 1): Image {
  const { data: random } = noise(width, height, 'float');
  const data = new Uint8Array(width * height * channels);
  for (let i = 0; i < data.length; i++) {
    const at = Math.floor(i / channels);
    data[i] = 128 + 100 * Math.sin(at / 90) + grain * ((random[at] ?? 0) - 0.5);
  }
  return { width, height, channels, data };
}

function packed({ width, height, channels, data }: Image): Sharp {
  const image = sharp(data, { raw: { width, height, channels } });
  return image.toColourspace(channels === 1 ? 'b-w' : 'srgb');
}

const films = fc
  .record({
    width: fc.integer({ min: 1, max: 70 }),
    height: fc.integer({ min: 1, max: 70 }),
    grain: fc.constantFrom(0, 20, 400),
    channels: fc.constantFrom<(1 | 3)[]>(1, 3),
  })
  .map(({ width, height, grain, channels }) => film(width, height, grain, channels));

/** A file with some bytes replaced, or cut off. */
function damagedBy(bytes: Buffer): fc.Arbitrary<Buffer> {
  const place = fc.integer({ min: 8, max: bytes.length - 1 });
  return fc.oneof(
    fc
      .array(fc.tuple(place, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 3 })
      .map((changes) => {
        const damaged = Buffer.from(bytes);
        for (const [at, value] of changes) damaged[at] = value;
        return damaged;
      }),
    place.map((length) => bytes.subarray(0, length)),
    fc.tuple(place, place).map(([from, to]) => Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])),
  );
}

/** Where our own decoder does not refuse the file, libvips does not either, and has the same pixels. */
async function expectNoOtherPixels(files: fc.Arbitrary<Buffer>, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(files, async (bytes) => {
      if (plain(bytes) !== undefined) await expectAsSharp(bytes);
    }),
    { numRuns },
  );
}

describe('decode: plain JPEG gives the bits of libjpeg', () => {
  it('for any size, quality and subsampling', async () => {
    const options = fc.record({
      quality: fc.integer({ min: 1, max: 100 }),
      chromaSubsampling: fc.constantFrom('4:2:0', '4:4:4'),
      optimiseCoding: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(films, options, async (image, how) => {
        await expectAsSharp(await packed(image).jpeg(how).toBuffer());
      }),
      { numRuns: 60 },
    );
  });

  it('with restart markers', async () => {
    for (const name of ['restarts-grey.jpg', 'restarts-420.jpg'])
      await expectAsSharp(readFileSync(fixture(name)));
  });

  it('leaves files with colours, an orientation or a profile, and progressive ones, to libvips', async () => {
    const image = film(40, 30, 20);
    const files = [
      packed(noise(40, 30, '8', 3)).jpeg(),
      packed(image).withMetadata({ orientation: 6 }).jpeg(),
      packed(image).withIccProfile('p3').jpeg(),
      packed(image).jpeg({ progressive: true }),
      packed(film(40, 30, 20, 3))
        .toColourspace('cmyk')
        .jpeg(),
    ];
    for (const file of files) expect(plain(await file.toBuffer())).to.equal(undefined);
  });

  it('gives three channels where colour is to be kept', async () => {
    const bytes = await packed(film(40, 30, 20, 3))
      .jpeg()
      .toBuffer();
    expect((await decodeRaster(bytes, { ...LIMITS, color: 'keep' })).image.channels).to.equal(3);
    expect((await decodeRaster(bytes, { ...LIMITS, color: 'grey' })).image.channels).to.equal(1);
  });

  it('never decodes a damaged file that libvips refuses, or decodes differently', async () => {
    const smooth = await packed(film(33, 26, 30))
      .jpeg()
      .toBuffer();
    const colour = await packed(film(33, 26, 30, 3))
      .jpeg()
      .toBuffer();
    const restarts = readFileSync(fixture('restarts-grey.jpg'));
    for (const bytes of [smooth, colour, restarts]) await expectNoOtherPixels(damagedBy(bytes), 150);
  });
});

describe('decode: plain PNG gives the pixels of libvips', () => {
  const filter = { adaptiveFiltering: true };

  it('for any size, depth and filter', async () => {
    const images = fc
      .record({
        width: fc.integer({ min: 1, max: 70 }),
        height: fc.integer({ min: 1, max: 40 }),
        type: fc.constantFrom<('8' | '16')[]>('8', '16'),
        channels: fc.constantFrom<(1 | 3)[]>(1, 3),
      })
      .map(({ width, height, type, channels }) => noise(width, height, type, channels));
    await fc.assert(
      fc.asyncProperty(fc.oneof(films, images), fc.boolean(), async (image, adaptiveFiltering) => {
        const space = `${image.channels === 1 ? 'grey' : 'rgb'}16`;
        const file = image.data instanceof Uint16Array ? packed(image).toColourspace(space) : packed(image);
        await expectAsSharp(await file.png({ adaptiveFiltering }).toBuffer());
      }),
      { numRuns: 60 },
    );
  });

  it('leaves interlaced and transparent files, palettes and few bits to libvips', async () => {
    const image = film(40, 30, 20);
    const files = [
      packed(image).png({ progressive: true }),
      packed(image).ensureAlpha(0.5).png(),
      packed(image).png({ palette: true }),
    ];
    for (const file of files) expect(plain(await file.toBuffer())).to.equal(undefined);
  });

  it('never decodes a damaged file that libvips refuses, or decodes differently', async () => {
    const bytes = await packed(film(33, 26, 30))
      .png(filter)
      .toBuffer();
    await expectNoOtherPixels(damagedBy(bytes), 100);
  });
});
