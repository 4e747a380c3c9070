import { messageOf, RxrayError, type ErrorCode } from '../errors.js';
import { ADMITTED, next, type Fate, type SinkEvent } from '../fate.js';
import { checkMade, frameBytes, sealed, type Frame, type Origin } from '../frame.js';
import type { Candidate } from '../plugin.js';

/** Why a frame failed. */
export interface Failure {
  readonly code: ErrorCode;
  /** The stage or sink that failed; `undefined` if the file could not be read. */
  readonly component: string | undefined;
  readonly message: string;
  readonly cause?: unknown;
}

export function failureOf(component: string | undefined, thrown: unknown, fallback: ErrorCode): Failure {
  return {
    code: thrown instanceof RxrayError ? thrown.code : fallback,
    component,
    message: messageOf(thrown),
    cause: thrown,
  };
}

/** Callbacks of a ticket. */
export interface TicketHooks {
  /** Gives the frame's credit back. */
  readonly release: () => void;
  /** Called when a stage has finished with the frame. */
  readonly onProgress?: () => void;
  /** Called once, after the last stage and before the first sink. */
  readonly onPassed?: () => Promise<void>;
}

/**
 * One attempt at a film, from reading the file until all sinks have answered. Frames are immutable and exist in several
 * versions at once, one per branch; all of them share the ticket.
 */
export class Ticket {
  /** Sinks that must not get the film again: they have it, or it is parked for them. */
  delivered: ReadonlySet<string> = new Set();
  /** Whether another film has the same bytes: it skips the stages. */
  duplicate = false;
  /** The frame as the last sink received it; null before. */
  delivery: Frame | null = null;
  /** Sinks that it has reached or skipped. */
  readonly reached = new Set<string>();
  /** Ids under which the dead letter may have earlier, unreadable versions of the file. */
  unread: readonly string[] = [];
  #fate = ADMITTED;
  #failure: Failure | undefined;
  #passed: Promise<void> | undefined;
  #bytes = 0;
  #staged = false;

  constructor(
    readonly id: string,
    readonly candidate: Candidate,
    readonly origin: Origin,
    private readonly hooks: TicketHooks,
  ) {}

  /** The film's fate in this attempt, so far. */
  get fate(): Fate {
    return this.#fate;
  }

  /** Whether no stage has failed on it. A refusal by one sink does not stop delivery to the others. */
  get live(): boolean {
    return this.#fate.status !== 'failed';
  }

  /** Whether a first stage (usually a decoder) has finished with it, so that {@link bytes} is known. */
  get staged(): boolean {
    return this.#staged;
  }

  /** The first failure; later ones are consequences of it. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Resolves when the journal has recorded that the film has passed all stages. */
  passed(): Promise<void> {
    return (this.#passed ??= this.hooks.onPassed?.() ?? Promise.resolve());
  }

  release(): void {
    this.hooks.release();
  }

  /** An upper bound of the memory that the frame holds: every encoded file and image made for it. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds memory that is held for the frame. */
  hold(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Adds the memory of a stage's output. */
  advance(out: Frame, before: Frame): void {
    if (out.image !== before.image) this.hold(frameBytes(out));
    this.countAsStaged();
  }

  /** For stages that may hold a frame until others arrive: admission must not wait for them. */
  countAsStaged(): void {
    this.#staged = true;
    this.hooks.onProgress?.();
  }

  /** A stage, or reading the file, failed: later stages and sinks do not get the frame. */
  fail(component: string | undefined, thrown: unknown, fallback: ErrorCode): void {
    this.#failure ??= failureOf(component, thrown, fallback);
    this.#fate = next(this.#fate, { kind: 'fail', code: this.#failure.code });
    this.countAsStaged();
  }

  /** A sink has answered. If it refuses the frame, other sinks still get it. */
  answer(sink: string, kind: SinkEvent['kind'], thrown?: unknown): void {
    if (kind === 'refuse') {
      this.#failure ??= failureOf(sink, thrown, 'FRAME_SINK');
      this.#fate = next(this.#fate, { kind, sink, code: this.#failure.code });
    } else {
      this.#fate = next(this.#fate, { kind, sink });
    }
  }
}

/**
 * The item that flows between the nodes of the graph. Each node emits exactly one token per ticket. A token without a
 * frame tells joins and sinks that no frame will arrive on this path, because it failed or because a `when` excluded
 * it.
 */
export interface Token {
  readonly ticket: Ticket;
  readonly frame: Frame | null;
}

export interface LiveToken extends Token {
  readonly frame: Frame;
}

/** Whether the token has a frame that has not failed on another branch. */
export function isLive(token: Token): token is LiveToken {
  return token.frame !== null && token.ticket.live;
}

/** The token with the stage's output. Throws like {@link checkMade}. */
export function advance(token: LiveToken, out: Frame): Token {
  return stepped(token, checkMade(out, token.frame));
}

/** The token with output that has been checked. */
export function stepped({ ticket, frame }: LiveToken, made: Frame): Token {
  ticket.advance(made, frame);
  return { ticket, frame: sealed(made) };
}

export function absent({ ticket }: Token): Token {
  return { ticket, frame: null };
}

/** The answer of a sink for one token. */
export interface SinkAnswer {
  /** The sink's id. */
  readonly sink: string;
  readonly token: Token;
  readonly frame: Frame | null;
  readonly kind: SinkEvent['kind'];
  /** Why the sink refused it. */
  readonly thrown?: unknown;
}
