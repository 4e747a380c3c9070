import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { isDicom, parse } from '../../../dicom/parse.js';
import { SYNTAXES } from '../../../dicom/syntaxes.js';
import type { Limits } from '../decoder.js';

/** More than any modality makes: a limit for hostile files. */
const MAX_FRAMES = 10_000;
/** Most headers are shorter. */
const HEAD_BYTES = 64 * 1024;
const BITS_ALLOCATED = 0x00280100;

/**
 * How many frames a DICOM file has, as far as it can be split: 1 for other files, for files that cannot be read, and for
 * a number that the file is too small for. Decoding says what is wrong with those.
 */
export async function countFrames(path: string, limits: Limits): Promise<number> {
  let file: FileHandle | undefined;
  try {
    // Without O_NONBLOCK a pipe in place of the file would block.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = await file.stat();
    if (size > limits.maxBytes) return 1;
    for (let length = Math.min(size, HEAD_BYTES); ; length = size) {
      const bytes = Buffer.alloc(length);
      const { bytesRead } = await file.read(bytes, 0, length, 0);
      if (bytesRead < length || !isDicom(bytes)) return 1;
      try {
        return framesIn(bytes, size, limits);
      } catch (error) {
        if (length === size) throw error;
      }
    }
  } catch {
    return 1;
  } finally {
    await file?.close();
  }
}

function framesIn(bytes: Buffer, size: number, limits: Limits): number {
  const { dataSet, syntax } = parse(bytes, limits, [], BITS_ALLOCATED);
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
