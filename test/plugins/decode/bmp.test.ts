import { expect } from 'chai';
import { RxrayError } from '../../../src/core/errors.js';
import { decodeBmp } from '../../../src/plugins/decode/bmp.js';

const LIMITS = { maxPixels: 1e6, maxBytes: 1e6 };

interface Bmp {
  readonly width: number;
  /** Negative: stored from the top. */
  readonly height: number;
  readonly bits: number;
  readonly compression?: number;
  /** Size of the header: 12 of OS/2 1.x, 64 of OS/2 2.x, else Windows. */
  readonly header?: number;
  readonly masks?: readonly number[];
  /** Blue, green, red (and nothing). */
  readonly palette?: readonly (readonly number[])[];
  /** The field that counts colours. */
  readonly used?: number;
  readonly pixels: readonly number[];
}

function bmp({
  width,
  height,
  bits,
  compression = 0,
  header = 40,
  masks = [],
  palette = [],
  used = 0,
  pixels,
}: Bmp) {
  const head = Buffer.alloc(14 + header);
  head.write('BM');
  head.writeUInt32LE(header, 14);
  if (header === 12) {
    [width, height, 1, bits].forEach((value, i) => head.writeUInt16LE(value, 18 + 2 * i));
  } else {
    head.writeInt32LE(width, 18);
    head.writeInt32LE(height, 22);
    head.writeUInt16LE(1, 26);
    head.writeUInt16LE(bits, 28);
    head.writeUInt32LE(compression, 30);
    head.writeUInt32LE(used, 46);
  }
  const fields = Buffer.alloc(4 * masks.length);
  masks.forEach((mask, i) => fields.writeUInt32LE(mask, 4 * i));
  const colours = Buffer.from(palette.flatMap((colour) => (header === 12 ? colour : [...colour, 0])));
  head.writeUInt32LE(head.length + fields.length + colours.length, 10);
  return Buffer.concat([head, fields, colours, Buffer.from(pixels)]);
}

const greys = (...levels: number[]): number[][] => levels.map((level) => [level, level, level]);

async function levels(of: Bmp): Promise<number[]> {
  const { image } = await decodeBmp(bmp(of), LIMITS);
  expect(image.channels).to.equal(1);
  return [...image.data];
}

async function refusal(of: Bmp): Promise<string> {
  const error: unknown = await decodeBmp(bmp(of), LIMITS).catch((thrown: unknown) => thrown);
  expect(error).to.be.instanceOf(RxrayError);
  const { code, message } = error as RxrayError;
  return `${code} ${message}`;
}

describe('decode: BMP of every coding', () => {
  const sixteen = greys(...Array.from({ length: 16 }, (_, i) => 17 * i));

  it('palettes of 1, 4 and 8 bits, of odd widths, from the bottom and from the top', async () => {
    const rows = [0x12, 0x30, 0, 0, 0xfe, 0xd0, 0, 0];
    const four = { width: 3, height: 2, bits: 4, palette: sixteen, pixels: rows };
    expect(await levels(four)).to.deep.equal([255, 238, 221, 17, 34, 51]);
    expect(await levels({ ...four, height: -2 })).to.deep.equal([17, 34, 51, 255, 238, 221]);
    const one = { width: 9, height: 1, bits: 1, palette: greys(255, 7), pixels: [0b10100000, 0x80, 0, 0] };
    expect(await levels(one)).to.deep.equal([7, 255, 7, 255, 255, 255, 255, 255, 7]);
    const eight = { width: 1, height: 2, bits: 8, palette: greys(9, 8), pixels: [1, 0, 0, 0, 0] };
    expect(await levels(eight)).to.deep.equal([9, 8]);
    const os2 = { width: 2, height: 1, bits: 4, header: 12, palette: sixteen, pixels: [0x2f, 0, 0, 0] };
    expect(await levels(os2)).to.deep.equal([34, 255]);
  });

  it('bit fields of more and of fewer than 8 bits, spread over 0–255', async () => {
    const pixel = (value: number, bytes: number): number[] =>
      Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 255);
    const deep = { width: 2, height: 1, bits: 32, compression: 3, masks: [0xffe00000, 0x1ffc00, 0x3ff] };
    const white = pixel(0xffffffff, 4);
    expect(await levels({ ...deep, pixels: [...white, 0, 0, 0, 0] })).to.deep.equal([255, 0]);
    const high = { width: 2, height: 1, bits: 16, compression: 3, masks: [0xf800, 0x7e0, 0x1f] };
    expect(await levels({ ...high, pixels: [...pixel(0xffff, 2), 0, 0] })).to.deep.equal([255, 0]);
    const usual = { width: 2, height: 1, bits: 16, pixels: [...pixel(0x7fff, 2), ...pixel(0x4210, 2)] };
    expect(await levels(usual)).to.deep.equal([255, 132]);
  });

  it('run lengths, complete or with skipped pixels', async () => {
    const coded = { width: 4, height: 2, bits: 8, compression: 1, palette: sixteen };
    const pixels = [2, 3, 2, 4, 0, 0, 0, 3, 5, 6, 7, 0, 1, 8, 0, 1];
    expect(await levels({ ...coded, pixels })).to.deep.equal([85, 102, 119, 136, 51, 51, 68, 68]);
    const passing = await levels({ ...coded, pixels: [0, 2, 1, 1, 1, 3, 0, 1] });
    expect(passing).to.deep.equal([0, 51, 0, 0, 0, 0, 0, 0]);
    expect(await refusal({ ...coded, pixels: [4, 1, 0, 0, 2, 1] })).to.match(
      /^FRAME_DAMAGED .*runs end in row 2/,
    );
  });

  it('skips fields that do not concern the pixels', async () => {
    const plain = { width: 1, height: 1, bits: 24, pixels: [9, 9, 9, 0] };
    for (const used of [1, 1 << 24, 0x7fffffff]) expect(await levels({ ...plain, used })).to.deep.equal([9]);
    for (const header of [52, 56, 108, 124]) expect(await levels({ ...plain, header })).to.deep.equal([9]);
  });

  it('refuses unsupported features by name, and colours that the palette lacks', async () => {
    const one = { width: 1, height: 1, pixels: [1, 0, 0, 0] };
    for (const bits of [0, 24]) {
      expect(await refusal({ ...one, bits, compression: 4 })).to.match(/^FRAME_UNSUPPORTED .*JPEG/);
    }
    expect(await refusal({ ...one, bits: 5 })).to.match(/^FRAME_DAMAGED .*5 bits/);
    expect(await refusal({ ...one, bits: 8, palette: greys(0), used: 1 })).to.match(
      /^FRAME_DAMAGED .*colour 1/,
    );
  });
});
