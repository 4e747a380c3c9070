import type { DataSet, Encoding } from './data-set.js';
import { damaged } from './failures.js';

/** A lookup table: modality LUT, VOI LUT or a colour of a palette (PS3.3, C.11.1.1, C.11.2.1.1, C.7.6.3.1.5). */
export interface Table {
  /** Outside its domain, the first and last values continue. */
  at(value: number): number;
  /** The value that the first entry is for. */
  readonly first: number;
  /** Number of entries, at most 65536. */
  readonly length: number;
  /** Bits of an entry. */
  readonly bits: number;
}

/** Of 65536 entries of two bytes; a limit for hostile files. Segments are shorter than the entries that they describe. */
const MAX_BYTES = 2 * 65536 + 2;

/** The sequences with a modality LUT and VOI LUTs, and the tags of such a table. */
export const MODALITY_LUT = 0x00283000;
export const VOI_LUT = 0x00283010;
export const TABLE = { descriptor: 0x00283002, data: 0x00283006 };

interface Tags {
  readonly descriptor: number;
  readonly data: number;
  /** Segmented data, only for palettes. */
  readonly segments?: number;
}

/**
 * Reads a table; undefined if its descriptor or its data are missing. `signed`: whether its input, and so the first value of its domain, may be
 * negative. Throws FRAME_DAMAGED if it is shorter than its descriptor says.
 */
export function readTable(
  dataSet: DataSet,
  tags: Tags,
  signed: boolean,
  warnings: string[],
): Table | undefined {
  const count = dataSet.uint16(tags.descriptor, 0);
  const first = dataSet.uint16(tags.descriptor, 1);
  const declared = dataSet.uint16(tags.descriptor, 2);
  const segments = tags.segments === undefined ? undefined : dataSet.value(tags.segments);
  const bytes = segments ?? dataSet.value(tags.data);
  if (count === undefined || first === undefined || declared === undefined || !bytes?.length)
    return undefined;
  if (bytes.length > MAX_BYTES) throw damaged('a lookup table has more entries than one can have');
  // 0 means 65536, which 16 bits cannot hold.
  const length = count === 0 ? 65536 : count;
  // Entries of 8 bits may be packed into bytes, of an even number. Data of another length are cut off.
  const isPacked = segments === undefined && length > 1 && bytes.length === length + (length % 2);
  let entries: ArrayLike<number>;
  if (segments !== undefined) {
    // What the descriptor says of the bits holds for the segments, too.
    entries = unfold(declared === 8 ? segments : wordsOf(segments, dataSet.encoding), length);
  } else entries = isPacked ? bytes : wordsOf(bytes, dataSet.encoding);
  if (entries.length < length) {
    throw damaged(`a lookup table has ${entries.length} entries, its descriptor says ${length}`);
  }
  let highest = 0;
  for (let i = 0; i < length; i++) highest = Math.max(highest, entries[i] ?? 0);
  const bits = bitsOf(declared, isPacked ? 8 : 16, highest, warnings);
  const negative = first >= 0x8000 && (signed || dataSet.elements.get(tags.descriptor)?.vr === 'SS');
  const start = negative ? first - 0x10000 : first;
  return {
    first: start,
    length,
    bits,
    at: (value) => entries[Math.min(length - 1, Math.max(0, Math.round(value) - start))] ?? 0,
  };
}

/** The bits that a descriptor declares, if the entries match. */
function bitsOf(declared: number, most: number, highest: number, warnings: string[]): number {
  if (declared >= 1 && declared <= most && highest < 2 ** declared) return declared;
  warnings.push('a lookup table declares another number of bits than its entries have');
  return highest < 256 ? 8 : 16;
}

function wordsOf(bytes: Buffer, { littleEndian }: Encoding): Uint16Array {
  return Uint16Array.from({ length: Math.floor(bytes.length / 2) }, (_, i) =>
    littleEndian ? bytes.readUInt16LE(2 * i) : bytes.readUInt16BE(2 * i),
  );
}

/** Discrete, linear and indirect segments (PS3.3, C.7.9.2), in cells of 8 or 16 bit. */
function unfold(cells: Uint8Array | Uint16Array, length: number): number[] {
  const entries: number[] = [];
  const starts = new Set<number>();
  const run = (start: number, nested: boolean): number => {
    const [kind, size = 0] = cells.subarray(start, start + 2);
    // Each adds something, so that a palette has no more segments than entries.
    if (size === 0) throw damaged('a segment of its palette is empty');
    if (kind === 0) {
      const end = start + 2 + size;
      if (end > cells.length) throw damaged('a segment of its palette ends beyond it');
      for (const cell of cells.subarray(start + 2, end)) entries.push(cell);
      return end;
    }
    if (kind === 1) {
      const [from, to] = [entries.at(-1), cells[start + 2]];
      if (from === undefined || to === undefined) throw damaged('a segment of its palette has no beginning');
      for (let i = 1; i <= size; i++) entries.push(Math.round(from + ((to - from) * i) / size));
      return start + 3;
    }
    if (kind === 2 && !nested) {
      const wide = cells instanceof Uint16Array;
      const place = [...cells.subarray(start + 2, start + (wide ? 4 : 6))];
      const offset = place.reduceRight((sum, cell) => sum * (wide ? 0x10000 : 0x100) + cell, 0);
      // The standard counts bytes, writers count cells: what is the start of a segment is meant.
      let at = [offset, offset / 2].find((cell) => starts.has(cell));
      if (at === undefined) throw damaged('a segment of its palette refers to none before it');
      for (let i = 0; i < size && entries.length <= length; i++) at = run(at, true);
      return start + 2 + place.length;
    }
    throw damaged('its palette has a segment of an unknown kind');
  };
  for (let at = 0; at + 1 < cells.length && entries.length < length;) {
    starts.add(at);
    at = run(at, false);
  }
  return entries;
}
