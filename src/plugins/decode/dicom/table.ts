import type { DataSet } from '../../../dicom/data-set.js';
import { damaged } from '../../../dicom/failures.js';

/** A lookup table: modality LUT, VOI LUT or a colour of a palette (PS3.3, C.11.1.1, C.11.2.1.1, C.7.6.3.1.5). */
export interface Table {
  /** Outside its domain the ends go on. */
  at(value: number): number;
  /** Bits of an entry. */
  readonly bits: number;
}

interface Tags {
  readonly descriptor: number;
  readonly data: number;
  /** Segmented data, of palettes alone. */
  readonly segments?: number;
}

/**
 * Reads a table; undefined when there is none.
 *
 * `signed`: whether its input may be negative, so that the first value of its domain is. Throws FRAME_DAMAGED
 * when it is shorter than its descriptor says.
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
  const segmented = tags.segments !== undefined && dataSet.elements.has(tags.segments);
  const entriesTag = segmented ? (tags.segments ?? tags.data) : tags.data;
  const bytes = dataSet.value(entriesTag);
  if (count === undefined || first === undefined || declared === undefined || bytes === undefined)
    return undefined;
  // 0 stands for 65536, which 16 bits cannot hold.
  const length = count === 0 ? 65536 : count;
  const words = () =>
    Array.from({ length: Math.floor(bytes.length / 2) }, (_, i) => dataSet.uint16(entriesTag, i) ?? 0);
  let entries: ArrayLike<number>;
  if (segmented) entries = unfold(words(), length);
  else if (bytes.length >= 2 * length) entries = words();
  // 8-bit tables may be packed into bytes.
  else entries = bytes;
  if (entries.length < length) {
    throw damaged(`a lookup table has ${entries.length} entries, its descriptor says ${length}`);
  }
  let highest = 0;
  for (let i = 0; i < length; i++) highest = Math.max(highest, entries[i] ?? 0);
  const bits = bitsOf(declared, highest, warnings);
  const negative = first >= 0x8000 && (signed || dataSet.elements.get(tags.descriptor)?.vr === 'SS');
  const start = negative ? first - 0x10000 : first;
  return { bits, at: (value) => entries[Math.min(length - 1, Math.max(0, Math.round(value) - start))] ?? 0 };
}

/** The bits that a descriptor declares, where the entries agree with it. */
function bitsOf(declared: number, highest: number, warnings: string[]): number {
  if (declared >= 1 && declared <= 16 && highest < 2 ** declared) return declared;
  warnings.push('a lookup table declares another number of bits than its entries have');
  return highest < 256 ? 8 : 16;
}

/** Discrete, linear and indirect segments (PS3.3, C.7.9.2). */
function unfold(words: readonly number[], length: number): number[] {
  const entries: number[] = [];
  const starts: number[] = [];
  const run = (start: number, nested: boolean): number => {
    const [kind, size] = [words[start], words[start + 1] ?? 0];
    if (kind === 0) {
      entries.push(...words.slice(start + 2, start + 2 + size));
      return start + 2 + size;
    }
    if (kind === 1) {
      const [from, to] = [entries.at(-1), words[start + 2]];
      if (from === undefined || to === undefined) throw damaged('a segment of its palette has no beginning');
      for (let i = 1; i <= size; i++) entries.push(Math.round(from + ((to - from) * i) / size));
      return start + 3;
    }
    if (kind === 2 && !nested) {
      const offset = (words[start + 2] ?? 0) + (words[start + 3] ?? 0) * 0x10000;
      let at = offset;
      for (let i = 0; i < size && entries.length <= length; i++) at = run(at, true);
      return start + 4;
    }
    throw damaged('its palette has a segment of an unknown kind');
  };
  for (let at = 0; at < words.length && entries.length < length;) {
    starts.push(at);
    at = run(at, false);
  }
  return entries;
}
