import type { Frame } from '../frame.js';
import type { Candidate } from '../plugin.js';
import type { Token } from './ticket.js';

/**
 * A film to process elsewhere: its file, without pixels. The process that reads the file computes its hash, and so the
 * frame's id.
 */
export interface Reference {
  /** The source's id. */
  readonly source: string;
  readonly candidate: Candidate;
  /** {@link Origin.receivedAt}. */
  readonly receivedAt: string;
  /** {@link Frame.repeat}. */
  readonly repeat?: number;
}

/** The results of the stages, by sink; null for a sink that the film does not reach. */
export type Findings = Readonly<Record<string, Pick<Frame, 'meta' | 'results' | 'rendered'> | null>>;

/** What has become of a film elsewhere. */
export interface Processed {
  /** The hash of the bytes that were processed. */
  readonly sha256: string;
  /** Absent: a stage has failed, or there are no stages. */
  readonly findings?: Findings | undefined;
  /** The error of the stage that failed. */
  readonly error?: unknown;
  /** Called when the film has left this process. */
  readonly release?: (() => void) | undefined;
}

/** A token with what the stages have found. Without: the frame is as its source offers it. */
export interface ProcessedToken extends Token {
  readonly findings?: Findings | undefined;
}
