import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { type DicomFile, isDicom, parse } from './parse.js';

/** Most headers are shorter. */
const HEAD_BYTES = 64 * 1024;

/** The first elements of a file. */
export interface DicomHead extends DicomFile {
  /** Of the file, in bytes. */
  readonly size: number;
}

/**
 * The elements of a file up to the tag `last`, of which as little is read as necessary; undefined if it is not a DICOM file
 * or larger than `maxBytes`. Throws FRAME_DAMAGED, or a system's error.
 */
export async function readHead(
  path: string,
  limits: { readonly maxBytes: number },
  last: number,
): Promise<DicomHead | undefined> {
  // Without O_NONBLOCK a pipe in place of the file would block.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size } = await file.stat();
    if (size > limits.maxBytes) return undefined;
    for (let length = Math.min(size, HEAD_BYTES); ; length = size) {
      const bytes = Buffer.alloc(length);
      const { bytesRead } = await file.read(bytes, 0, length, 0);
      if (bytesRead < length || !isDicom(bytes)) return undefined;
      try {
        return { ...parse(bytes, limits, [], last), size };
      } catch (error) {
        if (length === size) throw error;
      }
    }
  } finally {
    await file.close();
  }
}
