import { withoutImages, type Frame } from '../core/frame.js';

export { withoutImages };

/** What leaves the program of a frame: plain data, without pixels. */
export interface Plain {
  readonly id: string;
  readonly file?: string;
  readonly receivedAt: string;
  readonly completedAt: string | undefined;
  readonly meta: unknown;
  readonly results: unknown;
}

/** The frame as plain data for JSON: images (residual maps, reconstructions) are left out. */
export function plain(frame: Frame, includeFile: boolean): Plain {
  return {
    id: frame.id,
    ...(includeFile && { file: frame.origin.name }),
    receivedAt: frame.origin.receivedAt,
    completedAt: frame.completedAt,
    meta: withoutImages(frame.meta),
    results: withoutImages(frame.results),
  };
}
