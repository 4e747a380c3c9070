import { damaged, unsupported } from '../decoder.js';
import type { Directory, Tag } from './directory.js';

/** Supported values of PhotometricInterpretation. */
export const PHOTOMETRIC = { WhiteIsZero: 0, BlackIsZero: 1, RGB: 2, Palette: 3, CMYK: 5, YCbCr: 6 } as const;

/** Names of unsupported values. */
const OTHERS: Readonly<Record<number, string>> = {
  4: 'transparency mask',
  8: 'CIE L*a*b*',
  9: 'ICC L*a*b*',
  10: 'ITU L*a*b*',
  32803: 'colour filter array',
  32844: 'LogL',
  32845: 'LogLuv',
  34892: 'linear raw',
};

const SAMPLE_FORMATS: Readonly<Record<number, string>> = {
  2: 'signed integers',
  3: 'floating point',
  5: 'complex integers',
  6: 'complex numbers',
};

/** A strip or a tile: where its bytes are, and where its pixels belong. */
export interface Segment {
  /** `strip 3 of 12`, for messages. */
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly x: number;
  readonly y: number;
  /** The plane, for planar storage. */
  readonly plane: number;
}

/** How the pixels of an image are stored. */
export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly bits: number;
  readonly compression: number;
  readonly photometric: number;
  /** Samples per pixel in the file. */
  readonly samples: number;
  /** The number of colour samples at the start of each pixel: 1 (grey or palette), 3 or 4. */
  readonly colours: number;
  /** The index of the alpha sample, and whether colours are premultiplied. */
  readonly alpha: { readonly sample: number; readonly associated: boolean } | undefined;
  /** Whether storage is planar. */
  readonly separate: boolean;
  /** Samples are differences from their left neighbours. */
  readonly differences: boolean;
  /** Bytes have their bits in reverse order. */
  readonly reversed: boolean;
  readonly littleEndian: boolean;
  readonly orientation: number;
  /** Pixels of a strip or tile as it is stored; those at the edges may reach beyond the image. */
  readonly segmentWidth: number;
  readonly segmentHeight: number;
  readonly tiled: boolean;
  readonly segments: readonly Segment[];
}

/**
 * Reads and checks the layout of the pixels in a file of `size` bytes. Throws FRAME_DAMAGED if it is invalid, and
 * FRAME_UNSUPPORTED if it is not supported.
 */
export function readLayout(directory: Directory, size: number): Layout {
  const { number, numbers, littleEndian } = directory;
  const required = (tag: Tag): number => {
    const value = number(tag);
    if (value === undefined || value < 1) throw damaged('TIFF', `${tag} is ${value ?? 'missing'}`);
    return value;
  };
  const width = required('ImageWidth');
  const height = required('ImageLength');
  const samples = number('SamplesPerPixel') ?? 1;
  const compression = number('Compression') ?? 1;
  const bits = commonValue(numbers('BitsPerSample') ?? [1], 'bits a sample');
  const format = commonValue(numbers('SampleFormat') ?? [1], 'sample formats');
  if (format !== 1 && format !== 4) {
    const name = SAMPLE_FORMATS[format] ?? `sample format ${format}`;
    throw unsupported('TIFF', `has samples of ${bits} bits in ${name}`);
  }
  if (bits < 1) throw damaged('TIFF', 'BitsPerSample is 0');
  if (bits > 16) throw unsupported('TIFF', `has samples of ${bits} bits`);

  const photometric = number('PhotometricInterpretation');
  if (photometric === undefined) throw damaged('TIFF', 'PhotometricInterpretation is missing');
  const colours = coloursOf(photometric);
  if (samples < colours) {
    throw damaged('TIFF', `it has ${samples} samples per pixel, ${colours} are needed for its colours`);
  }
  // JPEG (7) has its own subsampling.
  const [across = 2, down = 2] = numbers('YCbCrSubSampling') ?? [];
  if (photometric === PHOTOMETRIC.YCbCr && compression !== 7 && (across !== 1 || down !== 1 || bits !== 8)) {
    throw unsupported(
      'TIFF',
      `has YCbCr of ${bits} bits with chroma for every ${across} × ${down} pixels and the compression ${compression}`,
    );
  }
  const extra = numbers('ExtraSamples') ?? [];
  const alpha = extra.findIndex((kind) => kind === 1 || kind === 2);
  const predictor = predicted(compression) ? (number('Predictor') ?? 1) : 1;
  if (predictor > 2 || (predictor === 2 && bits !== 8 && bits !== 16)) {
    throw unsupported('TIFF', `has the predictor ${predictor} on samples of ${bits} bits`);
  }
  const orientation = number('Orientation') ?? 1;

  const layout = {
    width,
    height,
    bits,
    compression,
    photometric,
    samples,
    colours,
    alpha:
      alpha >= 0 && colours + alpha < samples
        ? { sample: colours + alpha, associated: extra[alpha] === 1 }
        : undefined,
    separate: number('PlanarConfiguration') === 2 && samples > 1,
    differences: predictor === 2,
    reversed: number('FillOrder') === 2,
    littleEndian,
    orientation: orientation >= 1 && orientation <= 8 ? orientation : 1,
  };
  return { ...layout, ...readSegments(directory, layout, size) };
}

function coloursOf(photometric: number): number {
  switch (photometric) {
    case PHOTOMETRIC.WhiteIsZero:
    case PHOTOMETRIC.BlackIsZero:
    case PHOTOMETRIC.Palette:
      return 1;
    case PHOTOMETRIC.RGB:
    case PHOTOMETRIC.YCbCr:
      return 3;
    case PHOTOMETRIC.CMYK:
      return 4;
    default: {
      const name = OTHERS[photometric] ?? 'not known here';
      throw unsupported('TIFF', `has the photometric interpretation ${photometric} (${name})`);
    }
  }
}

/** LZW and Deflate, which may use a predictor. */
function predicted(compression: number): boolean {
  return [5, 8, 32946].includes(compression);
}

/** The common value of a field with one value per sample. */
function commonValue(values: readonly number[], what: string): number {
  const [first = 1] = values;
  if (values.some((value) => value !== first)) {
    throw unsupported('TIFF', `has different ${what} (${values.slice(0, 8).join(', ')}) in one pixel`);
  }
  return first;
}

/** The positions of strips or tiles. All that the image needs must be inside the file. */
function readSegments(
  { number, numbers }: Directory,
  {
    width,
    height,
    bits,
    samples,
    separate,
    compression,
  }: Omit<Layout, 'segmentWidth' | 'segmentHeight' | 'tiled' | 'segments'>,
  size: number,
): Pick<Layout, 'segmentWidth' | 'segmentHeight' | 'tiled' | 'segments'> {
  const tiled = number('TileWidth') !== undefined;
  const segmentWidth = tiled ? (number('TileWidth') ?? 0) : width;
  const segmentHeight = tiled
    ? (number('TileLength') ?? 0)
    : Math.min(height, number('RowsPerStrip') ?? height);
  if (segmentWidth < 1 || segmentHeight < 1) {
    throw damaged('TIFF', `its ${tiled ? 'tiles' : 'strips'} have ${segmentWidth} × ${segmentHeight} pixels`);
  }
  const kind = tiled ? 'Tile' : 'Strip';
  // libtiff's early versions stored tiles under the tags of strips.
  const offsets = numbers(`${kind}Offsets`) ?? numbers('StripOffsets') ?? [];
  const columns = Math.ceil(width / segmentWidth);
  const perPlane = columns * Math.ceil(height / segmentHeight);
  const count = perPlane * (separate ? samples : 1);
  if (offsets.length < count) {
    throw damaged('TIFF', `it has ${offsets.length} ${kind.toLowerCase()}s, ${count} are needed`);
  }
  const plain = compression === 1;
  const lengths = numbers(`${kind}ByteCounts`) ?? numbers('StripByteCounts');
  if (lengths === undefined && !plain && count > 1) throw damaged('TIFF', `${kind}ByteCounts is missing`);
  const segments = Array.from({ length: count }, (_, i): Segment => {
    const name = `${kind.toLowerCase()} ${i + 1} of ${count}`;
    const inPlane = i % perPlane;
    const y = Math.floor(inPlane / columns) * segmentHeight;
    const rows = tiled ? segmentHeight : Math.min(segmentHeight, height - y);
    const row = Math.ceil((segmentWidth * (separate ? 1 : samples) * bits) / 8);
    const offset = offsets[i] ?? 0;
    // Without counts, uncompressed strips have their full length, and a single strip extends to the end of the file.
    const length = lengths === undefined ? (plain ? row * rows : size - offset) : (lengths[i] ?? 0);
    if (offset === 0 || length <= 0) throw damaged('TIFF', `${name} is missing`);
    if (offset + length > size) {
      throw damaged('TIFF', `${name} ends at byte ${offset + length}, the file has ${size}`);
    }
    return {
      name,
      offset,
      length,
      x: (inPlane % columns) * segmentWidth,
      y,
      plane: Math.floor(i / perPlane),
    };
  });
  return { segmentWidth, segmentHeight, tiled, segments };
}
