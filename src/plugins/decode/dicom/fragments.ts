import type { DataSet, Element } from '../../../dicom/data-set.js';
import { damaged } from '../../../dicom/failures.js';
import { warnOfAnother } from '../../../dicom/parse.js';

interface Fragment {
  /** Offset of its item, from the first byte after the offset table (PS3.5, A.4). */
  readonly offset: number;
  readonly bytes: Buffer;
}

const EXTENDED_OFFSETS = 0x7fe00001;
const EXTENDED_LENGTHS = 0x7fe00002;

/**
 * The compressed bytes of one frame, counted from 0, of `frames`.
 *
 * Frames may have several fragments, with and without an offset table. Without one, a frame begins where a
 * fragment begins with a JPEG, JPEG-LS or JPEG 2000 start marker. Throws FRAME_DAMAGED where fragments are cut
 * off, or cannot be assigned to frames.
 */
export function frameStream(
  dataSet: DataSet,
  element: Element,
  frame: number,
  frames: number,
  warnings: string[],
): Buffer {
  const { table, fragments } = readFragments(dataSet, element, warnings);
  if (fragments.length === 0) throw damaged('it has no compressed pixels');
  const joined = (from: number, to: number) => {
    const parts = fragments.slice(from, to);
    if (parts.length === 0) throw damaged(`its frame ${frame + 1} of ${frames} is missing`);
    return parts.length === 1 && parts[0] ? parts[0].bytes : Buffer.concat(parts.map(({ bytes }) => bytes));
  };
  const extended = dataSet.uint64(EXTENDED_OFFSETS, frame);
  const length = dataSet.uint64(EXTENDED_LENGTHS, frame);
  if (extended !== undefined && length !== undefined) {
    // With such a table, each frame is one fragment.
    const { offset, bytes } = fragments[frame] ?? { offset: -1, bytes: Buffer.alloc(0) };
    if (offset === extended && bytes.length >= length) return bytes.subarray(0, length);
    warnings.push('its extended offset table is wrong and was ignored');
  }
  const marked = fragments.flatMap(({ bytes }, i) => (isStart(bytes) ? [i] : []));
  if (frames === 1) {
    if (marked.length < 2) return joined(0, fragments.length);
    warnings.push(`it has ${marked.length} frames, its header says 1`);
    return joined(0, marked[1] ?? fragments.length);
  }
  const starts = table.map((offset) => fragments.findIndex((fragment) => fragment.offset === offset));
  const isOrdered = starts[0] === 0 && starts.every((start, i) => start > (starts[i - 1] ?? -1));
  // Markers at the beginning of frames are more reliable than the offset table.
  const isMarked = marked.length !== frames || starts.every((start, i) => start === marked[i]);
  if (starts.length === frames && isOrdered && isMarked) {
    return joined(starts[frame] ?? 0, starts[frame + 1] ?? fragments.length);
  }
  if (table.length > 0) warnings.push('its offset table is wrong and was ignored');
  if (fragments.length === frames) return joined(frame, frame + 1);
  if (marked.length === frames) return joined(marked[frame] ?? 0, marked[frame + 1] ?? fragments.length);
  throw damaged(`it has ${frames} frames in ${fragments.length} fragments, and no offset table that fits`);
}

/** Whether a compressed frame begins here: SOI of JPEG, SOC of JPEG 2000, signature of a JP2 box. */
function isStart(bytes: Buffer): boolean {
  const start = bytes.toString('latin1', 0, 6);
  return ['\xff\xd8\xff', '\xff\x4f\xff\x51', '\0\0\0\x0cjP'].some((magic) => start.startsWith(magic));
}

function readFragments(
  { bytes, encoding }: DataSet,
  element: Element,
  warnings: string[],
): { table: number[]; fragments: Fragment[] } {
  const end = Math.min(bytes.length, element.offset + element.length);
  const items: Buffer[] = [];
  const offsets: number[] = [];
  let position = element.offset;
  let first = 0;
  for (;;) {
    if (position + 8 > end) {
      if (element.undefinedLength) warnings.push('the end of its compressed pixels is not marked');
      break;
    }
    const tag = encoding.littleEndian
      ? bytes.readUInt16LE(position) * 0x10000 + bytes.readUInt16LE(position + 2)
      : bytes.readUInt32BE(position);
    const length = encoding.littleEndian
      ? bytes.readUInt32LE(position + 4)
      : bytes.readUInt32BE(position + 4);
    if (tag === 0xfffee0dd) {
      warnOfAnother(bytes, position + 8, warnings);
      break;
    }
    if (tag !== 0xfffee000) throw damaged('its compressed pixels have no fragment where one is expected');
    if (position + 8 + length > end) throw damaged('its compressed pixels end in the middle of a fragment');
    items.push(bytes.subarray(position + 8, position + 8 + length));
    offsets.push(position - first);
    position += 8 + length;
    // The offsets in the table count from the item after it.
    if (items.length === 1) first = position;
  }
  const [table, ...fragments] = items;
  return {
    table: Array.from(
      { length: Math.floor((table?.length ?? 0) / 4) },
      (_, i) => table?.readUInt32LE(4 * i) ?? 0,
    ),
    fragments: fragments.map((fragment, i) => ({ bytes: fragment, offset: offsets[i + 1] ?? 0 })),
  };
}
