import type { Frame, Origin } from '../frame.js';
import type { Outcome } from '../plugin.js';
import type { Failure } from './ticket.js';

/** One call of a stage or sink, for one frame. */
export interface Span {
  readonly component: string;
  /** Milliseconds since 1970, with fractions. */
  readonly startedAt: number;
  /** Duration of the call; for a frame of a batch, of the whole batch. */
  readonly ms: number;
  /** How many frames were in that call. */
  readonly batch: number;
}

/** A film that is finished: done, failed, or skipped. */
export interface Settled {
  readonly id: string;
  /** The path inside the source. */
  readonly name: string;
  readonly origin: Origin;
  /** `skipped`: the file is not a film; see {@link failure}. */
  readonly outcome: Outcome | 'skipped';
  /** The frame as the last sink took it; null when none did. */
  readonly frame: Frame | null;
  readonly failure?: Failure;
  /** The hash of the graph that processed it. */
  readonly graph: string;
  /** The calls of stages and sinks for it, in the order in which they ended. */
  readonly spans: readonly Span[];
}
