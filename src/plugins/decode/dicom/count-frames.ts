import { type DicomHead, readHead } from '../../../dicom/read-head.js';
import { SYNTAXES } from '../../../dicom/syntaxes.js';
import type { Limits } from '../decoder.js';

/** More than any modality makes: a limit for hostile files. */
const MAX_FRAMES = 10_000;
const BITS_ALLOCATED = 0x00280100;

/**
 * How many frames a DICOM file has, as far as it can be split: 1 for other files, for files that cannot be read, and for
 * a number that the file is too small for. Decoding says what is wrong with those.
 */
export async function countFrames(path: string, limits: Limits): Promise<number> {
  try {
    const head = await readHead(path, limits, BITS_ALLOCATED);
    return head === undefined ? 1 : framesIn(head);
  } catch {
    return 1;
  }
}

function framesIn({ dataSet, syntax, size }: DicomHead): number {
  const frames = Number(dataSet.string(0x00280008) ?? 1);
  if (!Number.isSafeInteger(frames) || frames < 2 || frames > MAX_FRAMES) return 1;
  const isNative =
    SYNTAXES.get(syntax)?.coding === 'native' && !SYNTAXES.get(syntax)?.name.includes('Deflated');
  const [channels = 1, rows = 0, columns = 0, bits = 0] = [
    0x00280002,
    0x00280010,
    0x00280011,
    BITS_ALLOCATED,
  ].map((tag) => dataSet.uint16(tag));
  // A compressed frame has the header of its fragment at least; chroma may be subsampled.
  const least = isNative ? (rows * columns * bits * (channels === 3 ? 2 : 1)) / 8 : 8;
  return size >= frames * least ? frames : 1;
}
