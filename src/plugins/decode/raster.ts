import type { Metadata } from 'sharp';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import { checkSize, type Decoded, type Limits } from './decoder.js';

/**
 * PNG, JPEG, TIFF, WebP and GIF, by libvips.
 *
 * Grey stays grey and 16 bit stay 16 bit; CMYK, palettes and 1 bit become what they look like; embedded
 * colour profiles are ignored, because the grey levels of a film are data.
 */
export async function decodeRaster(bytes: Buffer, limits: Limits): Promise<Decoded> {
  const sharp = await loadSharp();
  let header: Metadata;
  try {
    header = await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (cause) {
    throw failure(undefined, cause);
  }
  const { format, width, height, depth, pages = 1 } = header;
  checkSize(width, height, limits);
  if (depth !== 'uchar' && depth !== 'ushort') {
    throw new RxrayError(
      'FRAME_UNSUPPORTED',
      `the ${format.toUpperCase()} file has samples of type ${depth}, supported are 8 and 16-bit integers`,
    );
  }
  let image: Image;
  try {
    image = await pixels(bytes, header, limits);
  } catch (cause) {
    throw failure(format, cause);
  }
  const bits = header.bitsPerSample ?? (depth === 'ushort' ? 16 : 8);
  const meta = { format, width: image.width, height: image.height, bits, ...(pages > 1 && { pages }) };
  return { image, meta };
}

async function loadSharp(): Promise<(typeof import('sharp'))['default']> {
  const { default: sharp } = await import('sharp');
  // Frames pass once: a cache only takes memory. The worker threads are the parallelism.
  sharp.cache(false);
  sharp.concurrency(1);
  return sharp;
}

async function pixels(
  bytes: Buffer,
  { format, space, depth, hasAlpha }: Metadata,
  limits: Limits,
): Promise<Image> {
  const sharp = await loadSharp();
  const grey = space === 'b-w' || space === 'grey16';
  const deep = depth === 'ushort';
  const pipeline = sharp(bytes, {
    autoOrient: true,
    ignoreIcc: space !== 'cmyk',
    limitInputPixels: limits.maxPixels,
    // Warnings are the only sign of many damaged JPEGs; with TIFF they mean unknown tags.
    failOn: format === 'tiff' ? 'error' : 'warning',
  });
  if (hasAlpha) pipeline.flatten({ background: 'black' });
  // Without a named colour space sharp makes three channels of 8 bit out of everything.
  const { data, info } = await pipeline
    .toColourspace(deep ? (grey ? 'grey16' : 'rgb16') : grey ? 'b-w' : 'srgb')
    .raw({ depth: deep ? 'ushort' : 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const samples = deep
    ? new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2)
    : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { width: info.width, height: info.height, channels: grey ? 1 : 3, data: samples };
}

function failure(format: string | undefined, cause: unknown): RxrayError {
  // libvips appends every warning on lines of its own.
  const reason = messageOf(cause).split('\n', 1)[0] ?? '';
  const file = `the ${format?.toUpperCase() ?? 'image'} file`;
  return /unsupported|not (supported|implemented)/i.test(reason) && format !== undefined
    ? new RxrayError('FRAME_UNSUPPORTED', `${file} uses a feature that is not supported: ${reason}`, {
        cause,
      })
    : new RxrayError('FRAME_DAMAGED', `${file} is truncated or damaged: ${reason}`, { cause });
}
