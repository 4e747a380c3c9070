import { RxrayError, messageOf, type ErrorCode } from '../errors.js';
import { frameBytes, type Frame, type Origin } from '../frame.js';
import type { Candidate } from '../plugin.js';

/** Why a frame did not come through. */
export interface Failure {
  readonly code: ErrorCode;
  /** The entry of the graph in which it happened; `undefined` when the file could not even be read. */
  readonly component: string | undefined;
  readonly message: string;
  readonly cause?: unknown;
}

/**
 * One frame's admission to the graph, from its file's reading until every sink has settled. The frame
 * itself is immutable and exists in several versions at once, one per branch; the ticket is what they share.
 */
export class Ticket {
  #failure: Failure | undefined;
  #bytes = 0;

  constructor(
    readonly id: string,
    readonly candidate: Candidate,
    readonly origin: Origin,
    /** Gives the frame's credit back. */
    readonly release: () => void,
  ) {}

  /** The first failure; later ones are its consequences. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** An upper bound of the memory that the frame holds: every encoded file and image made for it. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts the memory of a new version of the frame. */
  charge(frame: Frame, before?: Frame): void {
    if (frame.image === undefined || frame.image !== before?.image) this.#bytes += frameBytes(frame);
  }

  fail(component: string | undefined, thrown: unknown, fallback: ErrorCode): void {
    this.#failure ??= {
      code: thrown instanceof RxrayError ? thrown.code : fallback,
      component,
      message: messageOf(thrown),
      cause: thrown,
    };
  }
}

/**
 * What flows between the nodes of the graph. Each node emits exactly one token per ticket that it was
 * given: joins and sinks know from a null frame that this one will not come to them by this way,
 * because it failed or because a `when` led it elsewhere.
 */
export interface Token {
  readonly ticket: Ticket;
  readonly frame: Frame | null;
}

/** A token whose frame has not failed on another branch meanwhile. */
export function isLive(token: Token): token is Token & { readonly frame: Frame } {
  return token.frame !== null && token.ticket.failure === undefined;
}

export function absent({ ticket }: Token): Token {
  return { ticket, frame: null };
}
