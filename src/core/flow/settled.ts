import type { Frame, Origin } from '../frame.js';
import type { Outcome } from '../plugin.js';
import type { Failure } from './ticket.js';

/** One call of a component, as it concerned one frame. */
export interface Span {
  readonly component: string;
  /** Milliseconds since 1970, with fractions. */
  readonly startedAt: number;
  /** How long the call took; a batch takes as long for each of its frames. */
  readonly ms: number;
  /** How many frames were in that call. */
  readonly batch: number;
}

/** A film at the end of its way: every sink has it, or it lies in the dead letter, or it was none. */
export interface Settled {
  readonly id: string;
  /** The path inside the source. */
  readonly name: string;
  readonly origin: Origin;
  /** `skipped`: it is no film, {@link failure} says what it is instead. */
  readonly outcome: Outcome | 'skipped';
  /** The frame as the last sink took it; null when none did. */
  readonly frame: Frame | null;
  readonly failure?: Failure;
  /** The hash of the graph that did it. */
  readonly graph: string;
  /** How long each call of a stage or sink took for it, in the order of their ends. */
  readonly spans: readonly Span[];
}
