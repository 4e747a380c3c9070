import type { Metadata } from 'sharp';
import { messageOf, type RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import { cmykToRgb } from './cmyk.js';
import { checkGifPalette } from './gif-palette.js';
import { checkSize, damaged, unsupported, type Decoded, type Limits } from './decoder.js';
import { decodePlainJpeg } from './jpeg.js';
import { decodePlainPng } from './png.js';
import { checkPngPalette } from './png-palette.js';

export interface RasterOptions extends Limits {
  /** `grey`: return only grey levels. Default: `keep`. */
  readonly color?: 'grey' | 'keep';
}

/**
 * PNG, JPEG, WebP, GIF, and the TIFF files that {@link decodeTiff} passes on: plain PNG and JPEG by our own kernels,
 * the rest, and damaged files, by libvips, which takes over a millisecond to start. Grey stays grey and 16 bit stay 16
 * bit; CMYK, palettes and 1 bit are converted to displayed colours; colour profiles are ignored, also for CMYK, because
 * the grey levels of a film are data.
 */
export async function decodeRaster(bytes: Buffer, limits: RasterOptions): Promise<Decoded> {
  checkPngHeader(bytes);
  const plain = decodePlain(bytes, limits);
  if (plain !== undefined) return plain;
  const sharp = await loadSharp();
  let header: Metadata;
  try {
    header = await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (cause) {
    throw failure(bytes, cause);
  }
  const { format, width, height, depth, pages = 1 } = header;
  checkSize(width, height, limits);
  if (format === 'png') checkPngPalette(bytes);
  if (format === 'gif') checkGifPalette(bytes);
  if (depth !== 'uchar' && depth !== 'ushort') {
    throw unsupported(formatOf(bytes), `has samples of type ${depth}`);
  }
  let image: Image;
  try {
    image = await pixels(bytes, header, limits);
  } catch (cause) {
    throw failure(bytes, cause);
  }
  const bits = header.bitsPerSample ?? (depth === 'ushort' ? 16 : 8);
  const meta = { format, width: image.width, height: image.height, bits, ...(pages > 1 && { pages }) };
  return { image, meta };
}

function decodePlain(bytes: Buffer, { maxPixels, color = 'keep' }: RasterOptions): Decoded | undefined {
  const format = { 0x89: 'png', 0xff: 'jpeg' }[bytes[0] ?? 0];
  if (format === undefined) return undefined;
  const image =
    format === 'png' ? decodePlainPng(bytes, maxPixels) : decodePlainJpeg(bytes, maxPixels, color);
  if (image === undefined) return undefined;
  const { width, height, data } = image;
  return { image, meta: { format, width, height, bits: data.BYTES_PER_ELEMENT * 8 } };
}

async function loadSharp(): Promise<(typeof import('sharp'))['default']> {
  const { default: sharp } = await import('sharp');
  // Each frame is decoded once, so a cache is useless. Worker threads provide the parallelism.
  sharp.cache(false);
  sharp.concurrency(1);
  return sharp;
}

async function pixels(bytes: Buffer, { space, depth, hasAlpha }: Metadata, limits: Limits): Promise<Image> {
  const sharp = await loadSharp();
  const grey = space === 'b-w' || space === 'grey16';
  const deep = depth === 'ushort';
  const inks = space === 'cmyk';
  const pipeline = sharp(bytes, {
    autoOrient: true,
    ignoreIcc: true,
    limitInputPixels: limits.maxPixels,
    // For many damaged JPEGs there is only a warning.
    failOn: 'warning',
  });
  if (hasAlpha) pipeline.flatten({ background: 'black' });
  if (inks) pipeline.pipelineColourspace('cmyk');
  // Without a colour space, sharp converts everything to three channels of 8 bit.
  const { data, info } = await pipeline
    .toColourspace(inks ? 'cmyk' : deep ? (grey ? 'grey16' : 'rgb16') : grey ? 'b-w' : 'srgb')
    .raw({ depth: deep ? 'ushort' : 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const samples = deep
    ? new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2)
    : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const { width, height } = info;
  return { width, height, channels: grey ? 1 : 3, data: inks ? cmykToRgb(samples) : samples };
}

/** libvips' messages for unsupported features. */
const LACKING =
  /unsupported|not (?:yet )?(?:supported|implemented|configured)|no support|not compiled|arithmetic coding|bad .* format/i;

/** The error of one file: its format by its first bytes, and libvips' first reason. */
function failure(bytes: Buffer, cause: unknown): RxrayError {
  const lines = messageOf(cause)
    .split('\n')
    .map((line) =>
      line
        .replace(/^Input buffer (?:has corrupt header|contains unsupported image format)(?:: )?/, '')
        .trim(),
    );
  const reason = lines.find((line) => /\w/.test(line)) ?? 'libvips cannot read it and gives no reason';
  const format = formatOf(bytes);
  return LACKING.test(reason)
    ? unsupported(format, `uses a feature (${reason})`, cause)
    : damaged(format, reason, cause);
}

/** Allowed bits per sample, by colour type (PNG 3, table 12). */
const PNG_DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};

/** Finds the fault of a bad PNG header, which libvips does not report. */
function checkPngHeader(bytes: Buffer): void {
  if (bytes[0] !== 0x89 || bytes.length < 29) return;
  if (bytes.toString('latin1', 12, 16) !== 'IHDR') throw damaged('PNG', 'it does not begin with a header');
  const [depth = 0, type = 0, compression, filter, interlace = 0] = bytes.subarray(24, 29);
  if (bytes.readUInt32BE(16) === 0 || bytes.readUInt32BE(20) === 0) throw damaged('PNG', 'it has no pixels');
  if (PNG_DEPTHS[type]?.includes(depth) !== true) {
    throw damaged('PNG', `it has ${depth} bits per sample with colour type ${type}, which PNG does not have`);
  }
  if (compression !== 0 || filter !== 0 || interlace > 1) {
    throw damaged(
      'PNG',
      `its header has the methods ${String(compression)}, ${String(filter)} and ${interlace}`,
    );
  }
}

/** The usual spelling of the format. */
function formatOf(bytes: Buffer): string {
  const names: Readonly<Record<number, string>> = { 0x89: 'PNG', 0xff: 'JPEG', 0x52: 'WebP', 0x47: 'GIF' };
  return names[bytes[0] ?? 0] ?? 'TIFF';
}
