import { RxrayError } from '../core/errors.js';

/** The file contradicts itself, or ends too early. */
export function damaged(reason: string, cause?: unknown): RxrayError {
  return new RxrayError('FRAME_DAMAGED', `the DICOM file is truncated or damaged: ${reason}`, { cause });
}

/** The file may be right, but this program cannot show it. */
export function unsupported(what: string): RxrayError {
  return new RxrayError('FRAME_UNSUPPORTED', `the DICOM file ${what}`);
}
