import { messageOf, RxrayError, type ErrorCode } from '../errors.js';
import { ADMITTED, next, type Fate, type SinkEvent } from '../fate.js';
import { checkMade, frameBytes, type Frame, type Origin } from '../frame.js';
import type { Candidate } from '../plugin.js';

/** Why a frame failed. */
export interface Failure {
  readonly code: ErrorCode;
  /** The entry of the graph in which it happened; `undefined` when the file could not even be read. */
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

/** What an attempt at a film may leave to the host. */
export interface TicketHooks {
  /** Gives the frame's credit back. */
  readonly release: () => void;
  /** Called whenever a stage has finished with it. */
  readonly onProgress?: () => void;
  /** Called once, after the last stage and before the first sink. */
  readonly onPassed?: () => Promise<void>;
}

/**
 * One frame's admission to the graph, from its file's reading until every sink has answered. The frame itself is
 * immutable and exists in several versions at once, one per branch; the ticket is what they share.
 */
export class Ticket {
  /** Sinks that must not get it again: they have it, or will get it from the journal. */
  delivered: ReadonlySet<string> = new Set();
  /** Whether another film has the same bytes: it skips the stages. */
  duplicate = false;
  /** The frame as the last sink received it; null before. */
  delivery: Frame | null = null;
  /** Sinks that it has reached or skipped. */
  readonly reached = new Set<string>();
  /** Ids under which the dead letter may keep earlier versions of the file, which could not be read. */
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

  /** Whether no stage has failed on it. If one sink refuses it, the other sinks still get it. */
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

  /** Resolves when the journal knows that the film has passed all stages. */
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

  /** Counts memory that is held for the frame. */
  hold(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Counts the memory of what a stage made of the frame. */
  advance(out: Frame, before: Frame): void {
    if (out.image !== before.image) this.hold(frameBytes(out));
    this.countAsStaged();
  }

  /** For stages that may hold a frame until others arrive: admission must not wait for them. */
  countAsStaged(): void {
    this.#staged = true;
    this.hooks.onProgress?.();
  }

  /** A stage (or the reading) failed: no other entry gets the frame. */
  fail(component: string | undefined, thrown: unknown, fallback: ErrorCode): void {
    this.#failure ??= failureOf(component, thrown, fallback);
    this.#fate = next(this.#fate, { kind: 'fail', code: this.#failure.code });
    this.countAsStaged();
  }

  /** A sink has answered. If it refuses the frame, the other sinks still get it. */
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
 * What flows between the nodes of the graph. Each node emits exactly one token per ticket. A token
 * without a frame tells joins and sinks that the frame will not arrive on this path, because it failed or because a `when`
 * excluded it.
 */
export interface Token {
  readonly ticket: Ticket;
  readonly frame: Frame | null;
}

export interface LiveToken extends Token {
  readonly frame: Frame;
}

/** A token whose frame has not failed on another branch meanwhile. */
export function isLive(token: Token): token is LiveToken {
  return token.frame !== null && token.ticket.live;
}

/** The token with what a stage made of its frame. Throws like {@link checkMade}. */
export function advance({ ticket, frame }: LiveToken, out: Frame): Token {
  const made = checkMade(out, frame);
  ticket.advance(made, frame);
  return { ticket, frame: made };
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
