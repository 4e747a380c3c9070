import { inflateRawSync } from 'node:zlib';
import { messageOf, RxrayError } from '../core/errors.js';
import { type DataSet, type Encoding, isVr, readDataSet } from './data-set.js';
import { damaged } from './failures.js';
import { BIG_ENDIAN, DEFLATED, EXPLICIT, GE_PRIVATE, IMPLICIT } from './syntaxes.js';

/** A DICOM file whose elements have been found. */
export interface DicomFile {
  readonly dataSet: DataSet;
  /** The UID of its transfer syntax. */
  readonly syntax: string;
  /** The UID of its SOP class: what kind of object it is. */
  readonly sopClass: string | undefined;
}

/** Whether the file begins like DICOM: with the Part 10 prefix, or with a first element where that is missing. */
export function isDicom(bytes: Buffer): boolean {
  if (bytes.toString('latin1', 128, 132) === 'DICM') return true;
  if (bytes.length < 16) return false;
  const group = bytes.readUInt16LE(0);
  const [number, explicit] = [bytes.readUInt16LE(2), isVr(bytes, 4)];
  if (group === 2) return number <= 0x102 && explicit;
  if (group === 8) return number <= 0x60 && (explicit || bytes.readUInt32LE(4) <= 1024);
  return bytes.readUInt16BE(0) === 8 && bytes.readUInt16BE(2) <= 0x60 && explicit;
}

/** Warns if, where the pixels of a file end, another DICOM file begins. */
export function warnOfAnother(bytes: Buffer, end: number, warnings: string[]): void {
  if (bytes.toString('latin1', end + 128, end + 132) === 'DICM')
    warnings.push('another DICOM file follows in the same file and was ignored');
}

/**
 * Finds the elements of a file, with and without the Part 10 preamble and meta header (PS3.10, 7.1).
 *
 * The meta header counts only where the data agree with it: its group length is not used, and byte order and explicit
 * VRs are detected from the first element. Throws FRAME_DAMAGED, or FRAME_TOO_LARGE when a deflated file
 * unpacks to more than `maxBytes`. Corrections are added to `warnings`. Elements after `last` are not read.
 */
export function parse(
  bytes: Buffer,
  limits: { readonly maxBytes: number },
  warnings: string[],
  last?: number,
): DicomFile {
  const start = bytes.toString('latin1', 128, 132) === 'DICM' ? 132 : 0;
  const meta = readMeta(bytes, start);
  const whole = meta.syntax === DEFLATED ? inflate(bytes.subarray(meta.end), limits) : bytes;
  const position = meta.syntax === DEFLATED ? 0 : meta.end;
  if (whole.length - position < 8) throw damaged('there is nothing after its meta header');
  const encoding = encodingAt(whole, position);
  const declared = meta.syntax && encodingOf(meta.syntax);
  if (
    declared &&
    (declared.explicit !== encoding.explicit || declared.littleEndian !== encoding.littleEndian)
  ) {
    warnings.push('the data are not encoded as the transfer syntax says');
  }
  const dataSet = readDataSet(whole, position, encoding, last);
  const sniffed = encoding.littleEndian ? (encoding.explicit ? EXPLICIT : IMPLICIT) : BIG_ENDIAN;
  return {
    dataSet,
    syntax: meta.syntax ?? sniffed,
    sopClass: dataSet.string(0x00080016) ?? meta.sopClass,
  };
}

/** The meta header: explicit little endian, as long as the group is 2. */
function readMeta(bytes: Buffer, start: number): { syntax?: string; sopClass?: string; end: number } {
  let end = start;
  const found: { syntax?: string; sopClass?: string } = {};
  while (end + 8 <= bytes.length && bytes.readUInt16LE(end) === 2) {
    const number = bytes.readUInt16LE(end + 2);
    const explicit = isVr(bytes, end + 4);
    const long = explicit && /O[BW]|UN|UT/.test(bytes.toString('latin1', end + 4, end + 6));
    if (long && end + 12 > bytes.length) break;
    const length = long
      ? bytes.readUInt32LE(end + 8)
      : explicit
        ? bytes.readUInt16LE(end + 6)
        : bytes.readUInt32LE(end + 4);
    const value = end + (long ? 12 : 8);
    if (value + length > bytes.length) throw damaged('it ends in the middle of its meta header');

    const text = () => bytes.toString('latin1', value, value + length).replace(/[\0 ]+$/, '');
    if (number === 0x10) found.syntax = text();
    if (number === 0x02) found.sopClass = text();
    end = value + length;
  }
  return { ...found, end };
}

function inflate(bytes: Buffer, { maxBytes }: { readonly maxBytes: number }): Buffer {
  try {
    // Larger than the default of 16 kB, with which joining the chunks takes as long as inflating.
    const chunkSize = Math.max(64 * 1024, Math.min(4 * bytes.length, maxBytes));
    return inflateRawSync(bytes, { maxOutputLength: maxBytes, chunkSize });
  } catch (cause) {
    if (cause instanceof RangeError && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE') {
      throw new RxrayError(
        'FRAME_TOO_LARGE',
        `the deflated DICOM file unpacks to more than the ${String(maxBytes)} bytes that \`maxBytes\` allows`,
        { cause },
      );
    }
    throw damaged(messageOf(cause), cause);
  }
}

/** How the element at `position` is encoded: groups are small numbers, VRs are two letters. */
function encodingAt(bytes: Buffer, position: number): Encoding {
  const littleEndian = bytes.readUInt16LE(position) <= 0xff || bytes.readUInt16BE(position) > 0xff;
  return { littleEndian, explicit: isVr(bytes, position + 4) };
}

/** How a transfer syntax encodes: all but two are explicit, one is big endian. */
function encodingOf(syntax: string): Encoding {
  return { littleEndian: syntax !== BIG_ENDIAN, explicit: syntax !== IMPLICIT && syntax !== GE_PRIVATE };
}
