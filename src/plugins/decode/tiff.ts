import type { Image } from '../../core/frame.js';
import { orient } from '../../imaging/image.js';
import { checkSize, damaged, unsupported, type Decoded, type Limits } from './decoder.js';
import { jpegHeader } from './dicom/jpeg.js';
import { decodeRaster } from './raster.js';
import { toPicture } from './tiff/colours.js';
import { readDirectory } from './tiff/directory.js';
import { readLayout, type Layout } from './tiff/layout.js';
import { readSamples } from './tiff/samples.js';
import { UNPACK } from './tiff/unpack.js';

const JPEG = 7;
/** The compressions that libvips unpacks: CCITT and JPEG. */
const BY_LIBVIPS = [2, 3, 4, JPEG];

/** Unsupported compressions, by their usual names. */
const NAMES: Readonly<Record<number, string>> = {
  6: 'JPEG of the old style',
  9: 'JBIG',
  10: 'JBIG',
  32766: 'NeXT',
  32771: 'CCITT, word-aligned',
  32809: 'ThunderScan',
  32908: 'PixarFilm',
  32909: 'PixarLog',
  33003: 'JPEG 2000',
  33004: 'JPEG 2000',
  33005: 'JPEG 2000',
  34661: 'JBIG',
  34676: 'SGI LogLuv',
  34677: 'SGI LogLuv',
  34712: 'JPEG 2000',
  34887: 'LERC',
  34892: 'lossy JPEG of DNG',
  34925: 'LZMA',
  50000: 'Zstandard',
  50001: 'WebP',
  50002: 'JPEG XL',
};

/**
 * The first image of a TIFF or BigTIFF file: grey, palette, RGB, CMYK and YCbCr of 1 to 16 bits per sample, in
 * strips or tiles, in one plane or several. CCITT and JPEG are decoded by libvips. Extra samples other than alpha are
 * ignored; alpha has a black background. Every strip and tile must be inside the file and unpack to its full size: none
 * is replaced by black. Throws FRAME_DAMAGED, FRAME_UNSUPPORTED, FRAME_TOO_LARGE.
 */
export async function decodeTiff(bytes: Buffer, limits: Limits): Promise<Decoded> {
  const directory = readDirectory(bytes);
  const layout = readLayout(directory, bytes.length);
  const { width, height, compression, bits } = layout;
  checkSize(width, height, limits);
  const unpack = UNPACK[compression];
  if (unpack === undefined && !BY_LIBVIPS.includes(compression)) {
    const name = NAMES[compression] ?? 'not known here';
    throw unsupported('TIFF', `has the compression ${compression} (${name})`);
  }
  const { pages } = directory;
  const meta = { format: 'tiff', bits, ...(pages > 1 && { pages }) };
  let image: Image;
  if (unpack === undefined) {
    checkForLibvips(layout);
    if (compression === JPEG) checkJpegSizes(bytes, layout);
    ({ image } = await decodeRaster(directory.reduced(), limits));
  } else {
    image = orient(
      toPicture(readSamples(bytes, layout, unpack, limits), layout, directory),
      layout.orientation,
    );
  }
  return { image, meta: { ...meta, width: image.width, height: image.height } };
}

/** libvips gets only layouts that it is known to decode correctly. */
function checkForLibvips({ compression, photometric, bits, samples, colours, separate }: Layout): void {
  const facsimile = compression >= 2 && compression <= 4;
  const depths = facsimile ? [1] : compression === JPEG ? [8] : [8, 16];
  if (!depths.includes(bits) || samples !== colours || separate) {
    const planes = separate ? 'separate planes' : 'one plane';
    throw unsupported(
      'TIFF',
      `has ${samples} samples of ${bits} bits in ${planes} with the photometric interpretation ${photometric} and the compression ${compression}`,
    );
  }
}

/**
 * Every strip and tile in JPEG must have the size of its place: libtiff only warns of smaller ones, and leaves the rest of the
 * place black. Throws FRAME_DAMAGED.
 */
function checkJpegSizes(
  bytes: Buffer,
  { height, segments, segmentWidth, segmentHeight, tiled }: Layout,
): void {
  for (const { name, offset, length, y } of segments) {
    const rows = tiled ? segmentHeight : Math.min(segmentHeight, height - y);
    const found = jpegSize(bytes.subarray(offset, offset + length));
    if (found !== undefined && (found.width < segmentWidth || found.height < rows)) {
      throw damaged(
        'TIFF',
        `${name} has ${segmentWidth} × ${rows} pixels, its JPEG stream ${found.width} × ${found.height}`,
      );
    }
  }
}

/** By its frame header; undefined if it has none before its first scan. */
function jpegSize(stream: Buffer): { readonly width: number; readonly height: number } | undefined {
  try {
    return jpegHeader(stream);
  } catch {
    return undefined;
  }
}
