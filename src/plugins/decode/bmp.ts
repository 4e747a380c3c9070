import { RxrayError } from '../../core/errors.js';
import { checkSize, damaged, unsupported, type Decoded, type Limits } from './decoder.js';

/** Values of the Compression field. */
const PLAIN = 0;
const RLE8 = 1;
const RLE4 = 2;
const BIT_FIELDS = 3;
const ALPHA_BIT_FIELDS = 6;

/** Sizes of the headers of OS/2 1.x and 2.x, and of Windows 3 to 5. */
const CORE = 12;
const OS2 = [16, 64];
const HEADERS = [CORE, ...OS2, 40, 52, 56, 108, 124];

interface Header {
  readonly width: number;
  readonly height: number;
  readonly bits: number;
  readonly compression: number;
  /** Whether rows are stored from the top. */
  readonly topDown: boolean;
  /** Where the pixels begin. */
  readonly offset: number;
  /** Red, green and blue, each of 0–255, for every colour of the palette. */
  readonly palette: Uint8Array;
  /** Which bits of a pixel are red, green, blue and alpha. */
  readonly masks: readonly number[];
}

/**
 * BMP of 1 to 32 bit with the header of any Windows or of OS/2, also run-length coded and with bit fields. Channels of
 * more or fewer than 8 bits are spread over 0–255. Alpha is used if the header has a mask for it, with black as
 * background; the fourth byte of other 32-bit files is ignored. Pixels skipped by run-length coding have colour 0.
 */
export async function decodeBmp(bytes: Buffer, limits: Limits): Promise<Decoded> {
  const header = readHeader(bytes, limits);
  const { width, height, bits, compression } = header;
  const runs = compression === RLE8 || compression === RLE4;
  const indices = runs ? unpackRuns(bytes, header) : bits <= 8 ? readIndices(bytes, header) : undefined;
  const data = indices === undefined ? readColours(bytes, header) : lookUp(indices, header.palette);
  const meta = { format: 'bmp', width, height, bits };
  // BMP has no grey format, only palettes and colours that may be equal.
  const grey = data.every((value, i) => i % 3 === 0 || value === data[i - 1]);
  if (!grey) return { image: { width, height, channels: 3, data }, meta };
  const levels = Uint8Array.from({ length: width * height }, (_, i) => data[i * 3] ?? 0);
  return { image: { width, height, channels: 1, data: levels }, meta };
}

function readHeader(bytes: Buffer, limits: Limits): Header {
  if (bytes.length < 26) throw damaged('BMP', `it ends inside its header, after ${bytes.length} bytes`);
  const size = bytes.readUInt32LE(14);
  const core = size === CORE;
  if (!HEADERS.includes(size)) {
    throw new RxrayError('FRAME_NOT_AN_IMAGE', 'the file begins like a BMP file, but is not one');
  }
  if (bytes.length < 14 + size)
    throw damaged('BMP', `it ends inside its header, after ${bytes.length} bytes`);
  const width = core ? bytes.readUInt16LE(18) : bytes.readInt32LE(18);
  const rows = core ? bytes.readUInt16LE(20) : bytes.readInt32LE(22);
  const height = Math.abs(rows);
  const bits = bytes.readUInt16LE(core ? 24 : 28);
  const compression = size >= 40 ? bytes.readUInt32LE(30) : PLAIN;
  if (width < 1 || height < 1) throw damaged('BMP', `it has ${width} × ${rows} pixels`);
  checkSize(width, height, limits);
  checkCoding(bits, compression, OS2.includes(size));
  if (rows < 0 && (compression === RLE8 || compression === RLE4)) {
    throw damaged('BMP', 'it is run-length coded, but stored from the top');
  }
  const fields = compression === BIT_FIELDS || compression === ALPHA_BIT_FIELDS;
  const alphas = compression === ALPHA_BIT_FIELDS || size >= 56;
  const outside = fields && size === 40 ? (alphas ? 16 : 12) : 0;
  const paletteAt = 14 + size + outside;
  const offset = bytes.readUInt32LE(10);
  if (offset < paletteAt || offset > bytes.length) {
    throw damaged('BMP', `its pixels begin at byte ${offset}, the file has ${bytes.length}`);
  }
  return {
    ...{ width, height, bits, compression, offset, topDown: rows < 0 },
    palette: bits <= 8 ? readPalette(bytes, { at: paletteAt, offset, bits, size }) : new Uint8Array(),
    masks: fields
      ? Array.from({ length: alphas ? 4 : 3 }, (_, i) => bytes.readUInt32LE(54 + 4 * i))
      : bits === 16
        ? [0x7c00, 0x3e0, 0x1f]
        : [0xff0000, 0xff00, 0xff],
  };
}

function checkCoding(bits: number, compression: number, os2: boolean): void {
  const depths: Readonly<Record<number, readonly number[]>> = {
    [PLAIN]: [1, 2, 4, 8, 16, 24, 32],
    [RLE8]: [8],
    [RLE4]: [4],
    // OS/2 used these numbers for Huffman and 24-bit run-length coding.
    ...(!os2 && { [BIT_FIELDS]: [16, 32], [ALPHA_BIT_FIELDS]: [16, 32] }),
  };
  const known = depths[compression];
  if (known === undefined) {
    const names = os2 ? ['Huffman', 'run lengths of 24 bits'] : ['bit fields', 'JPEG', 'PNG'];
    throw unsupported(
      'BMP',
      `has the compression ${compression} (${names[compression - 3] ?? 'not known here'})`,
    );
  }
  if (!depths[PLAIN]?.includes(bits)) throw damaged('BMP', `it has ${bits} bits per pixel`);
  if (!known.includes(bits))
    throw damaged('BMP', `it has ${bits} bits per pixel with the compression ${compression}`);
}

/** The number of palette colours: by the header, limited by the bits per pixel and by the space before the pixels. */
function readPalette(
  bytes: Buffer,
  { at, offset, bits, size }: { at: number; offset: number; bits: number; size: number },
): Uint8Array {
  const most = 2 ** bits;
  const used = size >= 40 ? bytes.readUInt32LE(46) : 0;
  const entry = size === CORE ? 3 : 4;
  const count = Math.min(used === 0 ? most : used, most, Math.floor((offset - at) / entry));
  const palette = new Uint8Array(count * 3);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) palette[i * 3 + c] = bytes[at + i * entry + 2 - c] ?? 0;
  }
  return palette;
}

/** Bytes per row, a multiple of four. Throws if rows are missing. */
function rowBytes(bytes: Buffer, { width, height, bits, offset }: Header): number {
  const row = Math.ceil((width * bits) / 32) * 4;
  // The padding of the last row may be missing.
  const end = offset + row * (height - 1) + Math.ceil((width * bits) / 8);
  if (bytes.length < end) {
    throw damaged('BMP', `its pixels end at byte ${end}, the file has ${bytes.length}`);
  }
  return row;
}

/** The stored row of row `y` of the picture. */
function storedRow({ height, topDown }: Header, y: number): number {
  return topDown ? y : height - 1 - y;
}

function readIndices(bytes: Buffer, header: Header): Uint8Array {
  const { width, height, bits, offset } = header;
  const row = rowBytes(bytes, header);
  const indices = new Uint8Array(width * height);
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  for (let y = 0, to = 0; y < height; y++) {
    const start = offset + storedRow(header, y) * row;
    for (let x = 0; x < width; x++) {
      const byte = bytes[start + Math.floor(x / perByte)] ?? 0;
      indices[to++] = (byte >> (8 - bits - bits * (x % perByte))) & mask;
    }
  }
  return indices;
}

/** Run lengths of 8-bit or 4-bit indices. Throws if the data end before the picture. */
function unpackRuns(bytes: Buffer, header: Header): Uint8Array {
  const { width, height, offset, compression } = header;
  const nibbles = compression === RLE4;
  const indices = new Uint8Array(width * height);
  let x = 0;
  let y = 0;
  const put = (byte: number, i: number): void => {
    const index = nibbles ? (byte >> (i % 2 === 0 ? 4 : 0)) & 15 : byte;
    if (y >= height) throw damaged('BMP', 'its runs go on after the last row');
    // Some writers pad rows to whole bytes.
    if (x < width) indices[storedRow(header, y) * width + x] = index;
    x++;
  };
  for (let at = offset; ;) {
    if (at + 2 > bytes.length) {
      // Without an end marker, the picture is complete only if its last row is.
      if (y >= height || (y === height - 1 && x >= width)) return indices;
      throw damaged('BMP', `its runs end in row ${y + 1} of ${height}`);
    }
    const count = bytes[at] ?? 0;
    const value = bytes[at + 1] ?? 0;
    at += 2;
    if (count > 0) {
      for (let i = 0; i < count; i++) put(value, i);
    } else if (value === 0) {
      x = 0;
      y++;
    } else if (value === 1) {
      return indices;
    } else if (value === 2) {
      x += bytes[at] ?? 0;
      y += bytes[at + 1] ?? 0;
      at += 2;
    } else {
      const length = nibbles ? Math.ceil(value / 2) : value;
      if (at + length > bytes.length) throw damaged('BMP', `its runs end in row ${y + 1} of ${height}`);
      for (let i = 0; i < value; i++) put(bytes[at + (nibbles ? i >> 1 : i)] ?? 0, i);
      at += length + (length % 2);
    }
  }
}

function lookUp(indices: Uint8Array, palette: Uint8Array): Uint8Array {
  const colours = palette.length / 3;
  const data = new Uint8Array(indices.length * 3);
  for (let i = 0, to = 0; i < indices.length; i++) {
    const index = indices[i] ?? 0;
    if (index >= colours) throw damaged('BMP', `a pixel has colour ${index}, the palette has ${colours}`);
    for (let c = 0; c < 3; c++) data[to++] = palette[index * 3 + c] ?? 0;
  }
  return data;
}

/** Pixels of 16, 24 and 32 bit → RGB of 8 bits. */
function readColours(bytes: Buffer, header: Header): Uint8Array {
  const { width, height, bits, offset, masks } = header;
  const row = rowBytes(bytes, header);
  const step = bits / 8;
  const channels = masks.map(channelOf);
  const alpha = channels[3];
  const data = new Uint8Array(width * height * 3);
  const weights = alpha === undefined ? undefined : new Uint8Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    let at = offset + storedRow(header, y) * row;
    for (let x = 0; x < width; x++, at += step) {
      const pixel = bytes.readUIntLE(at, step);
      for (let c = 0; c < 3; c++) data[to++] = channels[c]?.(pixel) ?? 0;
      if (weights !== undefined) weights[y * width + x] = alpha?.(pixel) ?? 0;
    }
  }
  // Alpha of 0 everywhere means no alpha.
  if (weights?.some((weight) => weight > 0) !== true) return data;
  return data.map((value, i) => Math.round((value * (weights[Math.floor(i / 3)] ?? 0)) / 255));
}

/** The bits of a pixel under a mask, spread over 0–255; undefined for an empty mask. */
function channelOf(mask: number): ((pixel: number) => number) | undefined {
  if (mask === 0) return undefined;
  const shift = 31 - Math.clz32(mask & -mask);
  const most = mask >>> shift;
  return (pixel) => Math.round((((pixel & mask) >>> shift) * 255) / most);
}
