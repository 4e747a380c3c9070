import { readdirSync, readFileSync } from 'node:fs';
import { crc32, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { encode as encodeBmp } from 'bmp-ts';
import sharp, { type Sharp } from 'sharp';
import { RxrayError } from '../../src/core/errors.js';
import type { Image } from '../../src/core/frame.js';
import decodeStage, { decode, type DecodeOptions } from '../../src/plugins/decode.js';
import type { Decoded } from '../../src/plugins/decode/decoder.js';
import { makeFrame, testServices } from '../../src/testing.js';
import { blackPng } from '../support/films.js';
import { expectSame, fixture, noise, readPng } from '../support/goldens.js';

const run = (bytes: Uint8Array, settings: Partial<DecodeOptions> = {}): Promise<Decoded> =>
  decode(bytes, { color: 'grey', maxPixels: 1e8, maxBytes: 5e8, ...settings });

/** The code and the text of the error that decoding ends in. */
async function failure(bytes: Uint8Array, settings: Partial<DecodeOptions> = {}): Promise<string> {
  try {
    await run(bytes, settings);
  } catch (error) {
    expect(error).to.be.instanceOf(RxrayError);
    return `${(error as RxrayError).code} ${(error as RxrayError).message}`;
  }
  return 'decoded';
}

function pack({ width, height, channels, data }: Image, space: string): Sharp {
  return sharp(data, { raw: { width, height, channels } }).toColourspace(space);
}

/** A palette PNG whose palette lacks its last colour, and the index of that. */
function withoutLastColour(png: Buffer): { bytes: Buffer; last: number } {
  const at = png.indexOf('PLTE', 0, 'latin1');
  const length = png.readUInt32BE(at - 4) - 3;
  const palette = Buffer.alloc(length + 12);
  palette.writeUInt32BE(length, 0);
  png.copy(palette, 4, at, at + 4 + length);
  palette.writeUInt32BE(crc32(palette.subarray(4, 8 + length)), 8 + length);
  const bytes = Buffer.concat([png.subarray(0, at - 4), palette, png.subarray(at + 4 + length + 3 + 4)]);
  return { bytes, last: length / 3 };
}

const film = noise(31, 23, '8');
const deep = noise(31, 23, '16');
const colour = noise(31, 23, '8', 3);

describe('decode: raster images', () => {
  it('keeps the values of grey PNG, TIFF, WebP and GIF, as one channel', async () => {
    const grey = pack(film, 'b-w');
    for (const [format, bytes] of [
      ['png', await grey.clone().png().toBuffer()],
      ['tiff', await grey.clone().tiff({ compression: 'lzw' }).toBuffer()],
      ['webp', await grey.clone().webp({ lossless: true }).toBuffer()],
      ['gif', await grey.clone().gif({ dither: 0 }).toBuffer()],
    ] as const) {
      const { image, meta } = await run(bytes);
      // libvips quantises a GIF's palette.
      expectSame(image, film, format === 'gif' ? 1 : 0);
      expect(meta).to.include({ format, width: 31, height: 23, bits: 8 });
    }
  });

  it('refuses a palette PNG with a pixel beyond its palette, and says which', async () => {
    for (const colours of [2, 4, 16, 200]) {
      for (const progressive of [false, true]) {
        const png = await pack(colour, 'srgb')
          .png({ palette: true, colours, dither: 0, progressive, adaptiveFiltering: true })
          .toBuffer();
        const { bytes, last } = withoutLastColour(png);
        expect(await failure(png)).to.equal('decoded');
        const reason = `FRAME_DAMAGED the PNG file is truncated or damaged: a pixel has colour ${last}, the palette has ${last}`;
        expect(await failure(bytes)).to.equal(reason);
        process.env['RXRAY_KERNELS'] = 'opencv';
        try {
          expect(await failure(bytes)).to.equal(reason);
        } finally {
          delete process.env['RXRAY_KERNELS'];
        }
      }
    }
  });

  it('refuses a GIF with a pixel beyond its palette, and says which', async () => {
    const grey = noise(97, 61, '8');
    for (const [colours, kept] of [
      [4, 2],
      [16, 8],
      [256, 128],
    ] as const) {
      const gif = await pack(grey, 'b-w').gif({ colours, dither: 0 }).toBuffer();
      expect(await failure(gif)).to.equal('decoded');
      const flags = gif[10] ?? 0;
      const size = 2 << (flags & 7);
      const short = Buffer.concat([gif.subarray(0, 13 + 3 * kept), gif.subarray(13 + 3 * size)]);
      short[10] = (flags & ~7) | (Math.log2(kept) - 1);
      expect(await failure(short)).to.match(
        new RegExp(`^FRAME_DAMAGED the GIF file .*: a pixel has colour \\d+, the palette has ${kept}$`),
      );
    }
  });

  it('keeps all 16 bits of grey PNG and TIFF, also where only 12 are used', async () => {
    const twelve = { ...deep, data: deep.data.map((sample) => sample >> 4) };
    for (const image of [deep, twelve]) {
      expectSame((await run(await pack(image, 'grey16').png().toBuffer())).image, image);
    }
    expectSame(
      (await run(readFileSync(fixture('film-16bit.png')))).image,
      await readPng(fixture('film-16bit.png')),
    );
  });

  it('decodes JPEG, grey and coloured, always to the same bits', async () => {
    const grey = await pack(film, 'b-w').jpeg({ quality: 100 }).toBuffer();
    expectSame((await run(grey)).image, film, 2);
    expectSame((await run(grey)).image, (await run(grey)).image);
    const { image } = await run(await pack(colour, 'srgb').jpeg().toBuffer(), { color: 'keep' });
    expect(image.channels).to.equal(3);
  });

  it('turns colour into grey as OpenCV does, unless told to keep it', async () => {
    const bytes = readFileSync(fixture('film-colour.png'));
    expectSame((await run(bytes)).image, await readPng(fixture('golden/grey.film-colour.png')));
    expectSame((await run(bytes, { color: 'keep' })).image, await readPng(fixture('film-colour.png')));
    const deepColour = noise(9, 7, '16', 3);
    const deepBytes = await pack(deepColour, 'rgb16').png().toBuffer();
    expectSame((await run(deepBytes, { color: 'keep' })).image, deepColour);
    expect((await run(deepBytes)).image.data).to.be.instanceOf(Uint16Array);
  });

  it('applies the orientation', async () => {
    const turned = await pack(film, 'b-w').withMetadata({ orientation: 6 }).png().toBuffer();
    const { image, meta } = await run(turned);
    expect(meta).to.include({ width: 23, height: 31 });
    // Orientation 6: the first row is the right-hand side.
    expect(image.data[22]).to.equal(film.data[0]);
  });

  it('ignores colour profiles: grey levels are data', async () => {
    const tagged = await pack(colour, 'srgb').withIccProfile('p3', { attach: true }).png().toBuffer();
    const plain = await sharp(tagged, { ignoreIcc: true }).raw().toBuffer();
    expect([...(await run(tagged, { color: 'keep' })).image.data]).to.deep.equal([...plain]);
  });

  it('puts transparent images onto black, in 8 and 16 bit', async () => {
    const alpha = Buffer.from([200, 255, 200, 0, 200, 128]);
    const bytes = await sharp(alpha, { raw: { width: 3, height: 1, channels: 2 } })
      .png()
      .toBuffer();
    expect([...(await run(bytes)).image.data]).to.deep.equal([200, 0, 100]);
    const deepAlpha = Uint16Array.of(40000, 65535, 40000, 0);
    const deepBytes = await sharp(deepAlpha, { raw: { width: 2, height: 1, channels: 2 } })
      .toColourspace('grey16')
      .png()
      .toBuffer();
    expect([...(await run(deepBytes)).image.data]).to.deep.equal([40000, 0]);
  });

  it('shows 1-bit images, palettes and CMYK as they look', async () => {
    const bits = await run(blackPng(40, 30));
    expect(bits.meta.bits).to.equal(1);
    expect([...new Set(bits.image.data)]).to.deep.equal([0]);
    const [red] = [{ create: { width: 8, height: 8, channels: 3 as const, background: '#c81e0a' } }];
    const palette = await run(await sharp(red).png({ palette: true }).toBuffer(), { color: 'keep' });
    expect([...palette.image.data.subarray(0, 3)]).to.deep.equal([200, 30, 10]);
    const cmyk = await run(await sharp(red).toColourspace('cmyk').jpeg().toBuffer(), { color: 'keep' });
    expect(cmyk.image.channels).to.equal(3);
    expect(cmyk.image.data[0]).to.be.greaterThan(150);
    expect(cmyk.image.data[1]).to.be.lessThan(60);
  });

  it('keeps the grey levels of a film stored as CMYK, as OpenCV and Pillow do', async () => {
    const { image } = await run(readFileSync(fixture('cmyk.jpg')));
    // Black alone in the left half, equal cyan, magenta and yellow in the right one.
    for (const [i, level] of [0, 60, 130, 255].entries()) {
      for (const x of [4, 12]) expect(image.data[(16 * i + 8) * 16 + x]).to.be.closeTo(level, 2);
    }
  });

  it('takes the film of a TIFF file whose first image is a thumbnail', async () => {
    const thumbnail = tiff(1, 1, { 254: [1] }, [[9]]);
    const film = tiff(2, 1, { 273: [thumbnail.length] }, [[1, 2]]);
    // The film, without its header, behind the thumbnail, whose directory leads to its own.
    const bytes = Buffer.concat([thumbnail, film.subarray(8)]);
    bytes.writeUInt32LE(thumbnail.length + 2, thumbnail.length - 4);
    const { image, meta } = await run(bytes);
    expect([meta.pages, ...image.data]).to.deep.equal([2, 1, 2]);
  });

  it('takes the first frame of an animation and says how many there are', async () => {
    const pages = Buffer.concat([Buffer.alloc(64, 10), Buffer.alloc(64, 200)]);
    const bytes = await sharp(pages, { raw: { width: 8, height: 16, channels: 1, pageHeight: 8 } })
      .gif()
      .toBuffer();
    const { image, meta } = await run(bytes);
    expect(meta).to.include({ pages: 2, width: 8, height: 8 });
    expect([...new Set(image.data)]).to.deep.equal([10]);
  });

  it('decodes a single pixel, and bytes in shared memory', async () => {
    const bytes = await pack({ ...film, width: 1, height: 1, data: Uint8Array.of(77) }, 'b-w')
      .png()
      .toBuffer();
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    expect((await run(shared)).image).to.deep.equal({
      width: 1,
      height: 1,
      channels: 1,
      data: Uint8Array.of(77),
    });
  });
});

describe('decode: BMP', () => {
  const bmp = ({ width, height, data }: Image, bitPP: 24 | 32): Buffer => {
    // bmp-ts takes alpha, blue, green, red.
    const pixels = Array.from({ length: width * height }, (_, i) =>
      [...data.slice(i * 3, i * 3 + 3), 0].reverse(),
    );
    return encodeBmp({ width, height, bitPP, data: Buffer.from(pixels.flat()) }).data;
  };

  it('keeps colour and finds grey', async () => {
    for (const bits of [24, 32] as const) {
      expectSame((await run(bmp(colour, bits), { color: 'keep' })).image, colour);
      const grey = { ...colour, data: colour.data.map((_, i) => film.data[Math.floor(i / 3)] ?? 0) };
      expectSame((await run(bmp(grey, bits), { color: 'keep' })).image, film);
    }
  });

  it('finds the pixels where the header says they are', async () => {
    const bytes = bmp(colour, 24);
    const gap = Buffer.concat([bytes.subarray(0, 54), Buffer.alloc(10, 99), bytes.subarray(54)]);
    gap.writeUInt32LE(64, 10);
    expectSame((await run(gap, { color: 'keep' })).image, colour);
  });

  it('refuses files that are truncated, run-length coded, too large or not BMP', async () => {
    const bytes = bmp(colour, 24);
    expect(await failure(bytes.subarray(0, 30))).to.match(/^FRAME_DAMAGED .*header/);
    expect(await failure(bytes.subarray(0, 54 + 23 * 96 - 4))).to.match(/^FRAME_DAMAGED .*truncated/);
    expect(await failure(Buffer.from(`BM is how this text begins. ${'x'.repeat(99)}`))).to.match(
      /^FRAME_NOT_AN_IMAGE/,
    );
    const coded = Buffer.from(bytes);
    coded.writeUInt32LE(4, 30);
    expect(await failure(coded)).to.match(/^FRAME_UNSUPPORTED .*JPEG/);
    const huge = Buffer.from(bytes);
    huge.writeInt32LE(20_000, 18);
    huge.writeInt32LE(-20_000, 22);
    expect(await failure(huge)).to.match(/^FRAME_TOO_LARGE .*20000 × 20000/);
  });
});

describe('decode: DICOM, against numpy and dcm2pnm (fixtures/make_dicom.py)', () => {
  const names = readdirSync(fixture('dicom'))
    .filter((name) => name.endsWith('.png'))
    .map((name) => name.replace('.png', ''));
  const load = (name: string): Buffer => readFileSync(fixture(`dicom/${name}.dcm`));

  for (const name of names) {
    it(name.replaceAll('-', ' '), async () => {
      const { image, meta } = await run(load(name), { color: 'keep' });
      expectSame(image, await readPng(fixture(`dicom/${name}.png`)), name === 'sigmoid' ? 1 : 0);
      expect(meta).to.include({ format: 'dicom', modality: 'CR', viewPosition: 'PA', width: 61, height: 47 });
      expect(meta.pixelSpacing).to.deep.equal([0.143, 0.139]);
      expect(JSON.stringify(meta)).not.to.match(/phantom/i);
      expect(meta.pages).to.equal(name.includes('multi-frame') ? 2 : undefined);
    });
  }

  it('decodes run lengths, without a meta header, and names what it cannot decode', async () => {
    const { image } = await run(load('rle'));
    const { image: plain } = await run(load('explicit-12bit-window'), { voi: 'none' });
    expectSame(image, plain);
    const bare = load('implicit-12bit-window');
    const meta = 144 + bare.readUInt32LE(140);
    expectSame((await run(bare.subarray(meta))).image, (await run(bare)).image);
    const other = Buffer.from(load('rle'));
    other.write('1.2.840.10008.1.2.4.999', other.indexOf('1.2.840.10008.1.2.5'));
    expect(await failure(other)).to.match(/^FRAME_/);
  });

  it('distinguishes missing pixels from objects that have none', async () => {
    const film = load('no-pixels');
    expect(await failure(film)).to.equal(
      'FRAME_DAMAGED the DICOM file is truncated or damaged: its pixels are missing',
    );
    const report = Buffer.from(film.toString('latin1').replaceAll('5.1.4.1.1.1\0', '5.1.4.1.1.66'), 'latin1');
    expect(await failure(report)).to.equal(
      'FRAME_NO_PIXELS no pixels: the DICOM file is a registration, surface or raw data',
    );
  });

  it('takes the frame and the window that are asked for', async () => {
    const first = (await run(load('multi-frame'))).image;
    const { image: second, meta } = await run(load('multi-frame'), { frames: 2 });
    const rows = Array.from({ length: 47 }, (_, y) => first.data.slice((46 - y) * 61, (47 - y) * 61));
    expect([...second.data]).to.deep.equal(rows.flatMap((row) => [...row]));
    expect(meta).to.include({ pages: 2, page: 2 });
    expect((await run(load('multi-frame'), { frames: 'middle' })).meta.page).to.equal(1);
    expect(await failure(load('multi-frame'), { frames: 3 })).to.match(/^FRAME_UNSUPPORTED .*2 frames/);
    const window = { center: 2000, width: 2400 };
    expectSame(
      (await run(load('voi-lut'), { voi: window })).image,
      (await run(load('explicit-12bit-window'))).image,
    );
    expectSame(
      (await run(load('voi-lut'), { voi: { index: 1 } })).image,
      (await run(load('explicit-12bit-window'))).image,
    );
  });

  it('ignores invalid numbers, with a warning', async () => {
    const bytes = Buffer.from(load('signed-rescale-window'));
    bytes.write('abc', bytes.indexOf('1.5'));
    const { image, meta } = await run(bytes);
    expect(meta.warnings).to.deep.equal(['RescaleSlope is no number and was ignored']);
    expect(Math.max(...image.data)).to.be.greaterThan(0);
  });

  it('does not pass on free text in coded attributes', async () => {
    const bytes = Buffer.from(load('explicit-12bit-window'));
    bytes.write('DJ', bytes.indexOf('CR', bytes.indexOf('CS\x02\0')));
    expect((await run(bytes)).meta).not.to.have.property('modality');
  });

  it('does not unpack a deflated file beyond the limit', async () => {
    expect(await failure(load('bomb'), { maxBytes: 1_000_000 })).to.match(/^FRAME_TOO_LARGE .*unpacks/);
  });

  it('finds every truncation', async () => {
    for (const name of [
      'explicit-12bit-window',
      'implicit-12bit-window',
      'big-endian-12bit-window',
      'deflated-12bit-window',
      'jpeg-baseline',
    ]) {
      const bytes = load(name);
      for (const part of [0.3, 0.5, 0.9, 0.99]) {
        const left = bytes.subarray(0, Math.floor(bytes.length * part));
        expect(await failure(left), `${name}, ${String(part)}`).to.match(
          /^FRAME_DAMAGED the .* truncated or damaged/,
        );
      }
    }
  });

  it('checks the size before it allocates memory', async () => {
    expect(await failure(load('rgb'), { maxPixels: 1000 })).to.match(/^FRAME_TOO_LARGE .*61 × 47/);
  });
});

describe('decode: bad files', () => {
  it('reports an empty file', async () => {
    expect(await failure(Buffer.alloc(0))).to.equal('FRAME_EMPTY the file is empty');
  });

  it('reports other files as not images', async () => {
    for (const text of [
      'This is a letter.',
      '<svg xmlns="http://www.w3.org/2000/svg"/>',
      '%PDF-1.7',
      'P',
      '\0'.repeat(500),
    ]) {
      expect(await failure(Buffer.from(text))).to.match(/^FRAME_NOT_AN_IMAGE .*none of PNG, JPEG/);
    }
  });

  it('names the format of other files', async () => {
    const nifti = Buffer.alloc(400);
    nifti.write('n+1\0', 344, 'latin1');
    for (const [name, bytes] of [
      ['gzip: unpack it first', gzipSync('film')],
      ['NIfTI', nifti],
      ['HEIC', Buffer.from('\0\0\0\x18ftypheic', 'latin1')],
      ['a web page', Buffer.from('\n<!DOCTYPE html><title>Please log in</title>')],
      ['JPEG 2000', Buffer.from('\xff\x4f\xff\x51', 'latin1')],
      ['transfer as text', Buffer.from('\x89PNG\n\x1a\n', 'latin1')],
    ] as const) {
      expect(await failure(bytes))
        .to.match(/^FRAME_NOT_AN_IMAGE/)
        .and.to.contain(name);
    }
  });

  it('does not call a file damaged whose coding is not supported', async () => {
    const lossless = [0xff, 0xd8, 0xff, 0xf7, 0, 11, 8, 0, 2, 0, 2, 1, 1, 0x11, 0, 0xff, 0xd9];
    const jpeg2000 = Buffer.from('\0\0\0\x0cjP  \r\n\x87\n', 'latin1');
    for (const bytes of [
      Buffer.from(lossless),
      jpeg2000,
      Buffer.from([0xff, 0x0a, 0, 0]),
      Buffer.from('8BPS\0\x01'),
    ]) {
      expect(await failure(bytes)).to.match(/^FRAME_(?:UNSUPPORTED|NOT_AN_IMAGE) /);
    }
  });

  it('finds truncated files of every format, at any place', async () => {
    const big = pack(noise(64, 64, '8'), 'b-w');
    for (const bytes of [
      await big.clone().png().toBuffer(),
      await big.clone().jpeg().toBuffer(),
      await big.clone().jpeg({ progressive: true }).toBuffer(),
      await big.clone().tiff().toBuffer(),
      await big.clone().webp().toBuffer(),
      await big.clone().gif().toBuffer(),
    ]) {
      for (const part of [0.01, 0.1, 0.5, 0.95]) {
        const message = await failure(bytes.subarray(0, Math.max(16, Math.floor(bytes.length * part))));
        expect(message, bytes.toString('latin1', 0, 4)).to.match(
          /^FRAME_DAMAGED the .* file is truncated or damaged/,
        );
        expect(message).not.to.contain('\n');
      }
    }
  });

  it('refuses 20,000 × 20,000 pixels by the header, claimed or real', async () => {
    const real = blackPng(20_000, 20_000);
    for (const bytes of [real, real.subarray(0, 200)]) {
      expect(await failure(bytes)).to.match(/^FRAME_TOO_LARGE the image has 20000 × 20000 pixels/);
    }
    expect((await run(blackPng(200, 200), { maxPixels: 40_000 })).image.width).to.equal(200);
    expect(await failure(blackPng(200, 201), { maxPixels: 40_000 })).to.match(/^FRAME_TOO_LARGE/);
  });

  it('refuses files larger than `maxBytes`', async () => {
    expect(await failure(Buffer.alloc(1001), { maxBytes: 1000 })).to.match(/^FRAME_TOO_LARGE .*1001 bytes/);
  });

  it('says what is wrong with the header of a PNG', async () => {
    const bytes = Buffer.from(blackPng(8, 8));
    bytes[24] = 3;
    expect(await failure(bytes)).to.match(/^FRAME_DAMAGED the PNG file .*3 bits per sample/);
  });

  it('refuses floating-point TIFF', async () => {
    expect(await failure(floatTiff())).to.match(/^FRAME_UNSUPPORTED .*float/);
  });

  it('distinguishes a second `decode` from a missing file', async () => {
    const services = testServices();
    const stage = await decodeStage.create(decodeStage.options.parse({}), services);
    services.cleanup();
    if (!('process' in stage)) throw new Error('expected a frame stage');
    const messages = [];
    for (const frame of [makeFrame(), makeFrame({ image: null })]) {
      try {
        await stage.process(frame);
      } catch (error) {
        messages.push((error as Error).message);
      }
    }
    expect(messages).to.have.length(2);
    expect(messages[0]).to.contain('one `decode` is enough');
    expect(messages[1]).to.contain('directly after a source');
  });
});

describe('decode: TIFF', () => {
  it('reads every kind of sample: depths, extra samples, planes, YCbCr', async () => {
    const grey = async (tags: Tags, pixels: number[]): Promise<number[]> => [
      ...(await run(tiff(2, 1, tags, [pixels]))).image.data,
    ];
    expect(await grey({ 258: [12] }, [0x00, 0x0f, 0xff])).to.deep.equal([0, 65535]);
    expect(await grey({ 258: [4] }, [0x3f])).to.deep.equal([51, 255]);
    expect(await grey({ 262: [0] }, [0, 200])).to.deep.equal([255, 55]);
    // ExtraSamples 0 is no alpha, 1 is multiplied already, 2 is not.
    const two = { 258: [8, 8], 277: [2] };
    expect(await grey({ ...two, 338: [0] }, [100, 0, 50, 128])).to.deep.equal([100, 50]);
    expect(await grey({ ...two, 338: [1] }, [100, 200, 50, 128])).to.deep.equal([100, 50]);
    expect(await grey({ ...two, 338: [2] }, [100, 0, 50, 128])).to.deep.equal([0, 25]);
    const planes = tiff(2, 1, { ...two, 338: [2], 284: [2] }, [
      [100, 50],
      [255, 0],
    ]);
    expect([...(await run(planes)).image.data]).to.deep.equal([100, 0]);
    const ycc = { 258: [8, 8, 8], 277: [3], 262: [6], 530: [1, 1] };
    expect(await grey(ycc, [100, 128, 128, 50, 128, 128])).to.deep.equal([100, 50]);
    // Cyan, magenta, yellow and black: 0 is no ink.
    const inks = { 258: [8, 8, 8, 8], 277: [4], 262: [5] };
    expect(await grey(inks, [0, 0, 0, 55, 155, 155, 155, 0])).to.deep.equal([200, 100]);
  });

  it('refuses a strip that is missing, short or outside the file, and names unsupported features', async () => {
    expect(await failure(tiff(2, 1, { 279: [0] }, [[1, 2]]))).to.match(
      /^FRAME_DAMAGED .*strip 1 of 1 is missing/,
    );
    expect(await failure(tiff(2, 1, { 279: [1] }, [[1, 2]]))).to.match(/^FRAME_DAMAGED .*strip 1 of 1/);
    expect(await failure(tiff(2, 1, { 279: [9999] }, [[1, 2]]))).to.match(/^FRAME_DAMAGED .*ends at byte/);
    expect(await failure(tiff(2, 1, { 259: [5] }, [[0xff, 0xff, 0xff]]))).to.match(/^FRAME_DAMAGED .*LZW/);
    expect(await failure(tiff(2, 1, { 259: [8] }, [[1, 2, 3]]))).to.match(/^FRAME_DAMAGED .*unpacked/);
    expect(await failure(tiff(2, 1, { 259: [50000] }, [[1, 2]]))).to.match(/^FRAME_UNSUPPORTED .*Zstandard/);
    expect(await failure(tiff(2, 1, { 262: [8] }, [[1, 2]]))).to.match(/^FRAME_UNSUPPORTED .*L\*a\*b/);
    expect(await failure(tiff(2, 1, { 258: [64] }, [[1, 2]]))).to.match(/^FRAME_UNSUPPORTED .*64 bits/);
    // Fewer samples than pixels, because chroma is shared: no damage.
    const shared = tiff(2, 1, { 258: [8, 8, 8], 277: [3], 262: [6], 530: [2, 1] }, [[1, 2, 128, 128]]);
    expect(await failure(shared)).to.match(/^FRAME_UNSUPPORTED .*chroma for every 2 × 1 pixels/);
  });

  it('skips fields of unknown type or place', async () => {
    for (const [type, count, value] of [
      [99, 1, 0],
      [0, 1, 0],
      [2, 0, 0],
      [7, 0x7fffffff, 8],
      [4, 9, 0xfffffff0],
    ] as const) {
      const bytes = tiff(2, 1, { 65000: [0] }, [[10, 20]]);
      const entry = bytes.lastIndexOf(Buffer.from([0xe8, 0xfd]));
      bytes.writeUInt16LE(type, entry + 2);
      bytes.writeUInt32LE(count, entry + 4);
      bytes.writeUInt32LE(value, entry + 8);
      expect([...(await run(bytes)).image.data], `type ${type}`).to.deep.equal([10, 20]);
    }
  });

  it('reads tiles with LZW and a predictor as libvips writes them', async () => {
    for (const compression of ['none', 'lzw', 'deflate', 'packbits'] as const) {
      for (const image of [film, deep]) {
        const options = {
          compression,
          predictor: 'horizontal',
          tile: true,
          tileWidth: 16,
          tileHeight: 16,
        } as const;
        const space = image === film ? 'b-w' : 'grey16';
        expectSame((await run(await pack(image, space).tiff(options).toBuffer())).image, image);
      }
    }
  });
});

describe('decode: JPEG in TIFF', () => {
  it('refuses a strip whose JPEG stream is smaller than its place, which libtiff fills with black', async () => {
    const [jpeg, small] = await Promise.all(
      [16, 8].map(async (height) => {
        const data = Buffer.alloc(16 * height, 99);
        return [...(await pack({ width: 16, height, channels: 1, data }, 'b-w').jpeg().toBuffer())];
      }),
    );
    const tags = { 259: [7], 278: [16] };
    const { image } = await run(tiff(16, 32, tags, [jpeg ?? [], jpeg ?? []]));
    expect(new Set(image.data)).to.deep.equal(new Set([99]));
    expect(await failure(tiff(16, 32, tags, [jpeg ?? [], small ?? []]))).to.match(
      /^FRAME_DAMAGED .*strip 2 of 2 has 16 × 16 pixels, its JPEG stream 16 × 8/,
    );
  });
});

describe('decode: warnings', () => {
  it('warns of a film that has almost only one grey level', async () => {
    const data = new Uint8Array(100 * 100).fill(7);
    data.fill(9, 0, 50);
    const flat = await run(
      await pack({ ...film, width: 100, height: 100, data }, 'b-w')
        .png()
        .toBuffer(),
    );
    expect(flat.meta.warnings).to.deep.equal(['almost all pixels have the same grey level']);
    expect((await run(await pack(film, 'b-w').png().toBuffer())).meta).not.to.have.property('warnings');
  });
});

type Tags = Readonly<Record<number, readonly number[]>>;

/** A grey TIFF of 8 bits whose strips are `strips`, with other tags put in. */
function tiff(width: number, height: number, tags: Tags, strips: readonly (readonly number[])[]): Buffer {
  const starts = strips.map((_, i) => 8 + strips.slice(0, i).reduce((sum, { length }) => sum + length, 0));
  const all: Tags = {
    ...{ 256: [width], 257: [height], 258: [8], 259: [1], 262: [1], 273: starts, 277: [1], 278: [height] },
    ...{ 279: strips.map(({ length }) => length), ...tags },
  };
  const entries = Object.entries(all);
  const pixels = Buffer.from(strips.flat());
  const start = 8 + pixels.length;
  const values: Buffer[] = [];
  let at = start + 2 + entries.length * 12 + 4;
  const directory = entries.map(([tag, numbers]) => {
    const entry = Buffer.alloc(12);
    entry.writeUInt16LE(Number(tag), 0);
    entry.writeUInt16LE(4, 2);
    entry.writeUInt32LE(numbers.length, 4);
    const list = Buffer.alloc(numbers.length * 4);
    numbers.forEach((number, i) => list.writeUInt32LE(number, i * 4));
    if (numbers.length === 1) list.copy(entry, 8);
    else {
      entry.writeUInt32LE(at, 8);
      values.push(list);
      at += list.length;
    }
    return entry;
  });
  const head = Buffer.from('II*\0\0\0\0\0', 'latin1');
  head.writeUInt32LE(start, 4);
  const count = Buffer.alloc(2);
  count.writeUInt16LE(entries.length);
  return Buffer.concat([head, pixels, count, ...directory, Buffer.alloc(4), ...values]);
}

/** A 2 × 2 TIFF of 32-bit floating-point samples (TIFF 6.0, SampleFormat 3). */
function floatTiff(): Buffer {
  const tags: [tag: number, value: number][] = [
    [256, 2],
    [257, 2],
    [258, 32],
    [259, 1],
    [262, 1],
    [273, 8],
    [277, 1],
    [278, 2],
    [279, 16],
    [339, 3],
  ];
  const head = Buffer.from('II*\0\0\0\0\0', 'latin1');
  head.writeUInt32LE(8 + 16, 4);
  const directory = Buffer.alloc(2 + tags.length * 12 + 4);
  directory.writeUInt16LE(tags.length, 0);
  tags.forEach(([tag, value], i) => {
    directory.writeUInt16LE(tag, 2 + i * 12);
    directory.writeUInt16LE(4, 4 + i * 12);
    directory.writeUInt32LE(1, 6 + i * 12);
    directory.writeUInt32LE(value, 10 + i * 12);
  });
  return Buffer.concat([head, Buffer.alloc(16), directory]);
}
