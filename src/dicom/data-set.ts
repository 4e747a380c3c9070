import { damaged } from './failures.js';

/** How elements are encoded (PS3.5, 7.1 and annex A). */
export interface Encoding {
  readonly explicit: boolean;
  readonly littleEndian: boolean;
}

/** Where the value of one element is. */
export interface Element {
  readonly vr: string | undefined;
  readonly offset: number;
  /** In bytes; of an undefined length, up to its delimiter. Only that of PixelData may pass the end of the file. */
  readonly length: number;
  readonly undefinedLength: boolean;
}

const ITEM = 0xfffee000;
const END_OF_ITEM = 0xfffee00d;
const END_OF_SEQUENCE = 0xfffee0dd;
export const PIXEL_DATA = 0x7fe00010;
const UNDEFINED_LENGTH = 0xffffffff;
/** Limits for hostile files, beyond what any SOP class has: nesting, elements and items in all, and bytes of a text. */
const MAX_DEPTH = 32;
const MAX_ELEMENTS = 1_000_000;
export const MAX_TEXT = 64 * 1024;
/** VRs with a length of four bytes (PS3.5, table 7.1-1). */
const LONG = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);
const SHORT = [
  ...['AE', 'AS', 'AT', 'CS', 'DA', 'DS', 'DT', 'FD', 'FL', 'IS', 'LO', 'LT'],
  ...['PN', 'SH', 'SL', 'SS', 'ST', 'TM', 'UI', 'UL', 'US'],
];
const VRS = new Set([...LONG, ...SHORT]);

/** Whether the two bytes at `position` name a value representation. */
export function isVr(bytes: Buffer, position: number): boolean {
  return VRS.has(bytes.toString('latin1', position, position + 2));
}

/** `0x00280010` → `(0028,0010)`. */
export function tagName(tag: number): string {
  const digits = tag.toString(16).padStart(8, '0');
  return `(${digits.slice(0, 4)},${digits.slice(4)})`;
}

/**
 * The elements of a data set or of a sequence's item. Values are read on access.
 *
 * Tags are numbers, group × 65536 + element: `0x00280010`. A missing value is undefined.
 */
export class DataSet {
  readonly #items = new Map<number, DataSet[]>();

  constructor(
    readonly bytes: Buffer,
    readonly encoding: Encoding,
    readonly elements: ReadonlyMap<number, Element>,
  ) {}

  /** The bytes of a value, as they are in the file. */
  value(tag: number): Buffer | undefined {
    const element = this.elements.get(tag);
    return element && this.bytes.subarray(element.offset, element.offset + element.length);
  }

  /** One of several unsigned 16-bit values. */
  uint16(tag: number, index = 0): number | undefined {
    const value = this.value(tag);
    if (value === undefined || value.length < 2 * index + 2) return undefined;
    return this.encoding.littleEndian ? value.readUInt16LE(2 * index) : value.readUInt16BE(2 * index);
  }

  /** One of several unsigned 64-bit values, which must be exact as a number. */
  uint64(tag: number, index = 0): number | undefined {
    const value = this.value(tag);
    if (value === undefined || value.length < 8 * index + 8) return undefined;
    return Number(
      this.encoding.littleEndian ? value.readBigUInt64LE(8 * index) : value.readBigUInt64BE(8 * index),
    );
  }

  /** The values of an element of text, without padding; of identifiers, codes and numbers, which are ASCII. */
  strings(tag: number): string[] {
    const text = this.value(tag)?.toString('latin1', 0, MAX_TEXT) ?? '';
    const values = text.split('\\').map((value) => value.replace(/^[\0 ]+|[\0 ]+$/g, ''));
    return values.length === 1 && values[0] === '' ? [] : values;
  }

  /** The first value of an element of text; undefined when it is empty. */
  string(tag: number): string | undefined {
    const first = this.strings(tag)[0];
    return first === '' ? undefined : first;
  }

  /** The items of a sequence. Throws FRAME_DAMAGED if they cannot be read. */
  items(tag: number): readonly DataSet[] {
    const element = this.elements.get(tag);
    if (element === undefined) return [];
    const known = this.#items.get(tag);
    if (known !== undefined) return known;
    const encoding = element.vr === 'UN' ? UNKNOWN : this.encoding;
    const reader = new Reader(this.bytes, encoding);
    const items = reader.items(element.offset, element.offset + element.length, 1, false);
    this.#items.set(tag, items);
    return items;
  }
}

/**
 * The elements from `position` up to `last` (default: PixelData).
 *
 * Throws FRAME_DAMAGED if an element before it does not end inside the file.
 */
export function readDataSet(bytes: Buffer, position: number, encoding: Encoding, last = PIXEL_DATA): DataSet {
  return new Reader(bytes, encoding, last).dataSet(position);
}

/** PS3.5, 6.2.2, note 4: the contents of an element of an unknown VR are implicit little endian. */
const UNKNOWN: Encoding = { explicit: false, littleEndian: true };

/** One pass over a data set or a sequence. It holds no more elements than {@link MAX_ELEMENTS}. */
class Reader {
  #left = MAX_ELEMENTS;
  /** Where the last call stopped. */
  #position = 0;

  constructor(
    private readonly bytes: Buffer,
    private readonly encoding: Encoding,
    private readonly last = PIXEL_DATA,
  ) {}

  dataSet(position: number): DataSet {
    const elements = this.#elements(position, this.bytes.length, 0);
    return new DataSet(this.bytes, this.encoding, elements);
  }

  /** The items between `start` and `end`; `delimited`: up to the end of the sequence, which must come before. */
  items(start: number, end: number, depth: number, delimited: boolean): DataSet[] {
    const items: DataSet[] = [];
    this.#eachItem(start, end, depth, delimited, (position, itemEnd, isOpen) => {
      const elements = this.#elements(position, itemEnd, depth);
      items.push(new DataSet(this.bytes, this.encoding, elements));
      if (!isOpen) this.#position = itemEnd;
    });
    return items;
  }

  #elements(start: number, end: number, depth: number): Map<number, Element> {
    const { bytes, encoding } = this;
    const elements = new Map<number, Element>();
    this.#position = start;
    while (this.#position < end) {
      const position = this.#position;
      if (end - position < 8) {
        if (bytes.subarray(position, end).every((byte) => byte === 0)) break;
        throw damaged('it ends in the middle of an element');
      }
      const tag = tagAt(bytes, position, encoding);
      if (tag === END_OF_ITEM && depth > 0) {
        this.#position = position + 8;
        return elements;
      }
      if (tag > this.last && depth === 0) return elements;
      this.#count();
      const { vr, length, offset } = headerAt(bytes, position, end, encoding);
      const undefinedLength = length === UNDEFINED_LENGTH;
      if (tag === PIXEL_DATA && depth === 0) {
        elements.set(tag, { vr, offset, length: undefinedLength ? end - offset : length, undefinedLength });
        return elements;
      }
      if (undefinedLength) this.#skipSequence(offset, end, vr, depth + 1);
      else this.#position = offset + length;
      if (this.#position > end) {
        throw damaged(`the element ${tagName(tag)} has ${length} bytes, but only ${end - offset} are left`);
      }
      elements.set(tag, { vr, offset, length: this.#position - offset, undefinedLength });
    }
    return elements;
  }

  /** To the end of a sequence of undefined length, or of encapsulated pixels: items of a known length are not parsed. */
  #skipSequence(start: number, end: number, vr: string | undefined, depth: number): void {
    const reader = vr === 'UN' ? new Reader(this.bytes, UNKNOWN) : this;
    reader.#eachItem(start, end, depth, true, (position, itemEnd, isOpen) => {
      if (isOpen) reader.#elements(position, itemEnd, depth);
      else reader.#position = itemEnd;
    });
    this.#position = reader.#position;
  }

  /** Calls `take` with each item, which must move the position behind it; `isOpen`: its end is marked by a delimiter. */
  #eachItem(
    start: number,
    end: number,
    depth: number,
    delimited: boolean,
    take: (position: number, end: number, isOpen: boolean) => void,
  ): void {
    if (depth > MAX_DEPTH) throw damaged(`its sequences are nested deeper than ${MAX_DEPTH} levels`);
    const { bytes, encoding } = this;
    this.#position = start;
    while (this.#position + 8 <= end) {
      const tag = tagAt(bytes, this.#position, encoding);
      const length = encoding.littleEndian
        ? bytes.readUInt32LE(this.#position + 4)
        : bytes.readUInt32BE(this.#position + 4);
      const position = (this.#position += 8);
      if (tag === END_OF_SEQUENCE) return;
      if (tag !== ITEM) throw damaged(`a sequence has the element ${tagName(tag)} where an item is expected`);
      this.#count();
      const isOpen = length === UNDEFINED_LENGTH;
      const itemEnd = isOpen ? end : position + length;
      if (itemEnd > end) throw damaged('an item of a sequence ends beyond the sequence');
      take(position, itemEnd, isOpen);
    }
    if (delimited) throw damaged('it ends in the middle of a sequence');
  }

  #count(): void {
    if (this.#left-- === 0) throw damaged(`its header has more than ${MAX_ELEMENTS} elements`);
  }
}

function tagAt(bytes: Buffer, position: number, { littleEndian }: Encoding): number {
  return littleEndian
    ? bytes.readUInt16LE(position) * 0x10000 + bytes.readUInt16LE(position + 2)
    : bytes.readUInt32BE(position);
}

/** VR, length and position of the value. Single elements without a VR occur in explicit files, too. */
function headerAt(
  bytes: Buffer,
  position: number,
  end: number,
  { explicit, littleEndian }: Encoding,
): { vr: string | undefined; length: number; offset: number } {
  const long = (at: number) => {
    if (at + 4 > end) throw damaged('it ends in the middle of an element');
    return littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  };
  if (!explicit || !isVr(bytes, position + 4)) {
    return { vr: undefined, length: long(position + 4), offset: position + 8 };
  }
  const vr = bytes.toString('latin1', position + 4, position + 6);
  if (LONG.has(vr)) return { vr, length: long(position + 8), offset: position + 12 };
  const length = littleEndian ? bytes.readUInt16LE(position + 6) : bytes.readUInt16BE(position + 6);
  return { vr, length, offset: position + 8 };
}
