import type { Frame, Origin } from '../frame.js';
import type { Span } from '../monitor/meter.js';
import type { Outcome } from '../plugin.js';
import type { Failure } from './ticket.js';

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
