import type { Setting } from '../engine/contender.js';

/** One line of the table. */
export interface Row {
  readonly what: string;
  /** Milliseconds unless `what` or `goal` say otherwise. */
  readonly ours?: number | string;
  readonly peer?: number | string;
  readonly goal?: string;
  /** Whether the goal is met; absent where there is none. */
  readonly ok?: boolean;
  readonly detail?: string;
}

/** A part of the check: gives its rows one by one, so that what is known is kept when the time runs out. */
export type Section = (
  setting: Setting & {
    readonly films: number;
    readonly quick: boolean;
    /** Beginnings of the names of the works to be compared; `[""]` takes all. */
    readonly works: readonly string[];
  },
) => AsyncIterable<Row>;
