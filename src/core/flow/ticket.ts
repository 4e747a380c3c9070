import { messageOf, RxrayError, type ErrorCode } from '../errors.js';
import { ADMITTED, next, type Fate, type SinkEvent } from '../fate.js';
import { checkMade, frameBytes, type Frame, type Origin } from '../frame.js';
import type { Candidate } from '../plugin.js';

/** Why a frame did not come through. */
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
  /** Called whenever a stage is through with it. */
  readonly onProgress?: () => void;
  /** Called once, when it has come through the stages, before the first sink is asked. */
  readonly onPassed?: () => Promise<void>;
}

/**
 * One frame's admission to the graph, from its file's reading until every sink has answered. The frame itself is
 * immutable and exists in several versions at once, one per branch; the ticket is what they share.
 */
export class Ticket {
  /** Sinks that are not to be asked: they have it, or will get it from the journal. */
  delivered: ReadonlySet<string> = new Set();
  /** Whether its bytes are known from another film: it goes past the stages. */
  duplicate = false;
  /** The frame as the last sink was given it; null before. */
  delivery: Frame | null = null;
  /** Sinks to which it has come, or by which it has been led past. */
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

  /** What this attempt has found out so far. */
  get fate(): Fate {
    return this.#fate;
  }

  /** Whether no stage has failed on it. A sink that refuses it leaves it to the others. */
  get live(): boolean {
    return this.#fate.status !== 'failed';
  }

  /** Whether a first stage (a decoder, as a rule) is through with it, so that {@link bytes} says what it holds. */
  get staged(): boolean {
    return this.#staged;
  }

  /** The first failure; later ones are its consequences. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Resolves when it is known that the film has come through the stages. */
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

  /** For stages that may keep a frame until others have come: they must not be waited for. */
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

  /** A sink has answered. One that refuses the frame leaves it to the others. */
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
 * What flows between the nodes of the graph. Each node emits exactly one token per ticket that it was
 * given: joins and sinks know from a null frame that this one will not come to them by this way,
 * because it failed or because a `when` led it elsewhere.
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
