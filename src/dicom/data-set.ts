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
/** Deeper nesting than any SOP class has: a limit for hostile files. */
const MAX_DEPTH = 32;
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
 * The elements of a data set or of a sequence's item. Values are read when they are asked for.
 *
 * Tags are numbers, group × 65536 + element: `0x00280010`. A value that is not there is undefined.
 */
export class DataSet {
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
    const text = this.value(tag)?.toString('latin1') ?? '';

    const values = text.split('\\').map((value) => value.replace(/^[\0 ]+|[\0 ]+$/g, ''));
    return values.length === 1 && values[0] === '' ? [] : values;
  }

  /** The first value of an element of text; undefined when it is empty. */
  string(tag: number): string | undefined {
    const first = this.strings(tag)[0];
    return first === '' ? undefined : first;
  }

  /** The items of a sequence. Throws FRAME_DAMAGED when they cannot be read. */
  items(tag: number): DataSet[] {
    const element = this.elements.get(tag);
    if (element === undefined) return [];
    // PS3.5, 6.2.2, note 4: the items of an unknown VR are implicit little endian.
    const encoding = element.vr === 'UN' ? { explicit: false, littleEndian: true } : this.encoding;
    return readItems(this.bytes, element.offset, element.offset + element.length, encoding, 1).items;
  }
}

/**
 * The elements from `position` up to PixelData, which is the last that is read.
 *
 * Throws FRAME_DAMAGED when an element before it does not end inside the file.
 */
export function readDataSet(bytes: Buffer, position: number, encoding: Encoding): DataSet {
  const { elements } = readElements(bytes, position, bytes.length, encoding, 0);
  return new DataSet(bytes, encoding, elements);
}

interface Reading {
  readonly elements: Map<number, Element>;
  /** Where reading stopped. */
  readonly next: number;
}

function readElements(bytes: Buffer, start: number, end: number, encoding: Encoding, depth: number): Reading {
  const elements = new Map<number, Element>();
  let position = start;
  while (position < end) {
    if (end - position < 8) {
      if (bytes.subarray(position, end).every((byte) => byte === 0)) break;
      throw damaged('it ends in the middle of an element');
    }
    const tag = tagAt(bytes, position, encoding);
    if (tag === END_OF_ITEM && depth > 0) return { elements, next: position + 8 };
    const { vr, length, offset } = headerAt(bytes, position, end, encoding);
    if (tag === PIXEL_DATA && depth === 0) {
      const undefinedLength = length === UNDEFINED_LENGTH;
      elements.set(tag, {
        vr,
        offset,
        length: undefinedLength ? end - offset : length,
        undefinedLength,
      });
      return { elements, next: end };
    }
    if (length === UNDEFINED_LENGTH) {
      const inside = vr === 'UN' ? { explicit: false, littleEndian: true } : encoding;
      position = readItems(bytes, offset, end, inside, depth + 1, true).next;
      elements.set(tag, { vr, offset, length: position - offset, undefinedLength: true });
    } else {
      if (offset + length > end) {
        throw damaged(`the element ${tagName(tag)} has ${length} bytes, but only ${end - offset} are left`);
      }
      elements.set(tag, { vr, offset, length, undefinedLength: false });
      position = offset + length;
    }
  }
  return { elements, next: position };
}

function readItems(
  bytes: Buffer,
  start: number,
  end: number,
  encoding: Encoding,
  depth: number,
  delimited = false,
): { items: DataSet[]; next: number } {
  if (depth > MAX_DEPTH) throw damaged(`its sequences are nested deeper than ${MAX_DEPTH} levels`);
  const items: DataSet[] = [];
  let position = start;
  while (position + 8 <= end) {
    const tag = tagAt(bytes, position, encoding);
    const length = encoding.littleEndian
      ? bytes.readUInt32LE(position + 4)
      : bytes.readUInt32BE(position + 4);
    position += 8;
    if (tag === END_OF_SEQUENCE) return { items, next: position };
    if (tag !== ITEM) throw damaged(`a sequence has the element ${tagName(tag)} where an item is expected`);
    const itemEnd = length === UNDEFINED_LENGTH ? end : position + length;
    if (itemEnd > end) throw damaged('an item of a sequence ends beyond the sequence');
    const { elements, next } = readElements(bytes, position, itemEnd, encoding, depth);
    items.push(new DataSet(bytes, encoding, elements));
    position = length === UNDEFINED_LENGTH ? next : itemEnd;
  }
  if (delimited) throw damaged('it ends in the middle of a sequence');
  return { items, next: position };
}

function tagAt(bytes: Buffer, position: number, { littleEndian }: Encoding): number {
  return littleEndian
    ? bytes.readUInt16LE(position) * 0x10000 + bytes.readUInt16LE(position + 2)
    : bytes.readUInt32BE(position);
}

/** VR, length and place of the value. Single elements without a VR occur in explicit files, too. */
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
