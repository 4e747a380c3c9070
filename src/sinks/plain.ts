import { withoutImages, type Frame } from '../core/frame.js';
import type { SinkServices } from '../core/plugin.js';
import { verdictOf, type Verdict } from '../core/verdict.js';

export { withoutImages };

/** Whether a stage of the graph judges films, by its columns. */
export function isJudged(columns: SinkServices['columns']): boolean {
  return columns.some(({ column }) => column.onRequest !== true && column.path.join('.') === 'abnormal');
}

/** The part of a frame that leaves the program: plain data, without pixels. */
export interface Plain {
  readonly id: string;
  readonly file?: string;
  readonly receivedAt: string;
  readonly completedAt: string | undefined;
  readonly meta: unknown;
  readonly verdict: Verdict;
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
    verdict: verdictOf(frame.results),
    results: withoutImages(frame.results),
  };
}
