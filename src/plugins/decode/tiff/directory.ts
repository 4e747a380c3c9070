import { damaged } from '../decoder.js';

/** Tags of the TIFF 6.0 specification and its supplements, by the names used there. */
export const TAG = {
  ImageWidth: 256,
  ImageLength: 257,
  BitsPerSample: 258,
  Compression: 259,
  PhotometricInterpretation: 262,
  FillOrder: 266,
  StripOffsets: 273,
  Orientation: 274,
  SamplesPerPixel: 277,
  RowsPerStrip: 278,
  StripByteCounts: 279,
  PlanarConfiguration: 284,
  T4Options: 292,
  T6Options: 293,
  Predictor: 317,
  ColorMap: 320,
  TileWidth: 322,
  TileLength: 323,
  TileOffsets: 324,
  TileByteCounts: 325,
  InkSet: 332,
  ExtraSamples: 338,
  SampleFormat: 339,
  JPEGTables: 347,
  YCbCrCoefficients: 529,
  YCbCrSubSampling: 530,
  ReferenceBlackWhite: 532,
  InterColorProfile: 34675,
} as const;
export type Tag = keyof typeof TAG;
/** A LONG. Decoding does not need it. */
const NEW_SUBFILE_TYPE = 254;

/** Bytes of one value, by field type. Fields of other types are skipped, as the specification asks for. */
const SIZES: Readonly<Record<number, number>> = {
  ...{ 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4 },
  ...{ 16: 8, 17: 8, 18: 8 },
};

interface Field {
  readonly type: number;
  readonly count: number;
  /** Where the values are. */
  readonly at: number;
  /** The field's bytes in the directory. */
  readonly entry: Buffer;
}

/**
 * The first image file directory of a TIFF or BigTIFF file, of either byte order, that is neither a thumbnail nor a
 * mask.
 */
export interface Directory {
  readonly littleEndian: boolean;
  /** How many images the file has. */
  readonly pages: number;
  /** The values of a numeric field; undefined if there is none. Throws if they are outside the file. */
  numbers(tag: Tag): readonly number[] | undefined;
  /** The first value of a field. */
  number(tag: Tag): number | undefined;
  /** The same file with the fields that decoding needs and no others, and with a single image. */
  reduced(): Buffer;
}

/** Throws FRAME_DAMAGED if the structure is invalid. Source: TIFF 6.0, section 2; BigTIFF by libtiff. */
export function readDirectory(bytes: Buffer): Directory {
  const littleEndian = bytes[0] === 0x49;
  const big = bytes[littleEndian ? 2 : 3] === 43;
  const uint = (at: number, size: number): number => {
    if (at < 0 || at + size > bytes.length)
      throw damaged('TIFF', `it ends at byte ${bytes.length}, inside its directory`);
    if (size === 8) {
      const wide = littleEndian ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at);
      return Number(wide);
    }
    return littleEndian ? bytes.readUIntLE(at, size) : bytes.readUIntBE(at, size);
  };
  const [word, entrySize, countSize] = big ? [8, 20, 8] : [4, 12, 2];
  const entries = (start: number) => ({ first: start + countSize, count: uint(start, countSize) });
  const next = (start: number): number => {
    const { first, count } = entries(start);
    return uint(first + count * entrySize, word);
  };

  const starts = chain(uint(big ? 8 : 4, word), next);
  /** Whether an image is a smaller copy of another one, or the mask of one (NewSubfileType). */
  const isMinor = (directory: number): boolean => {
    const { first, count } = entries(directory);
    for (let at = first; at < first + count * entrySize; at += entrySize) {
      if (uint(at, 2) === NEW_SUBFILE_TYPE) return (uint(at + 4 + word, 4) & 0b101) !== 0;
    }
    return false;
  };
  const start = starts.find((each) => !isMinor(each)) ?? starts[0] ?? 0;
  const { first, count } = entries(start);
  const fields = new Map<number, Field>();
  for (let i = 0; i < count; i++) {
    const at = first + i * entrySize;
    const type = uint(at + 2, 2);
    const values = uint(at + 4, word);
    const inline = values * (SIZES[type] ?? 0) <= word;
    const entry = bytes.subarray(at, at + entrySize);
    const valuesAt = inline ? at + 4 + word : uint(at + 4 + word, word);
    const tag = uint(at, 2);
    // Of duplicate fields the first counts, as in libtiff.
    if (type in SIZES && !fields.has(tag)) fields.set(tag, { type, count: values, at: valuesAt, entry });
  }

  const numbers = (name: Tag): readonly number[] | undefined => {
    const field = fields.get(TAG[name]);
    if (field === undefined) return undefined;
    const { type, count, at } = field;
    const size = SIZES[type] ?? 0;
    if (at + count * size > bytes.length) {
      throw damaged(
        'TIFF',
        `the values of ${name} end at byte ${at + count * size}, the file has ${bytes.length}`,
      );
    }
    if (type === 5) {
      return Array.from({ length: count }, (_, i) => uint(at + 8 * i, 4) / uint(at + 8 * i + 4, 4));
    }
    return Array.from({ length: count }, (_, i) => uint(at + size * i, size));
  };

  return {
    littleEndian,
    pages: starts.length,
    numbers,
    number: (tag) => numbers(tag)?.[0],
    reduced() {
      const kept = Object.values(TAG).flatMap((tag) => fields.get(tag)?.entry ?? []);
      const head = Buffer.alloc(bytes.length % 2 === 0 ? countSize : countSize + 1);
      const place = Buffer.alloc(word);
      const write = (into: Buffer, value: number, at: number, size: number): void => {
        if (littleEndian) into.writeUIntLE(value, at, Math.min(6, size));
        else into.writeUIntBE(value, at + size - Math.min(6, size), Math.min(6, size));
      };
      write(head, kept.length, head.length - countSize, countSize);
      write(place, bytes.length + head.length - countSize, 0, word);
      const file = Buffer.concat([bytes, head, ...kept, Buffer.alloc(word)]);
      place.copy(file, big ? 8 : 4);
      return file;
    },
  };
}

/** Offsets of the directories, in order; the chain ends where it is broken or has a loop. */
function chain(first: number, next: (start: number) => number): number[] {
  const starts = new Set([first]);
  try {
    for (let start = next(first); start !== 0 && !starts.has(start); start = next(start)) starts.add(start);
  } catch {
    // The images before are complete.
  }
  return [...starts];
}
