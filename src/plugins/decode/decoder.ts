import { RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';

/** The result of a decoder: pixels and metadata (no patient data). */
export interface Decoded {
  readonly image: Image;
  readonly meta: Readonly<Record<string, unknown>>;
}

export interface Limits {
  /** Largest width × height. */
  readonly maxPixels: number;
  /** Largest file, unpacked. */
  readonly maxBytes: number;
}

/** Decodes the first image of a file of one format. Throws RxrayError. Its library is loaded with the first file. */
export type Decoder = (bytes: Buffer, limits: Limits) => Promise<Decoded>;

/** Throws FRAME_TOO_LARGE when an image of this size is not allowed. */
export function checkSize(width: number, height: number, { maxPixels }: Limits): void {
  if (width * height > maxPixels) {
    throw new RxrayError(
      'FRAME_TOO_LARGE',
      `the image has ${String(width)} × ${String(height)} pixels, more than the ${String(maxPixels)} that \`maxPixels\` allows`,
    );
  }
}

/** FRAME_DAMAGED: `reason` says what is wrong in the file. `format`: the usual name, such as `TIFF`. */
export function damaged(format: string, reason: string, cause?: unknown): RxrayError {
  return new RxrayError('FRAME_DAMAGED', `the ${format} file is truncated or damaged: ${reason}`, { cause });
}

/** FRAME_UNSUPPORTED: `feature` completes "the file …", such as `has 64-bit samples`. */
export function unsupported(format: string, feature: string, cause?: unknown): RxrayError {
  return new RxrayError('FRAME_UNSUPPORTED', `the ${format} file ${feature}, which is not supported`, {
    cause,
  });
}
