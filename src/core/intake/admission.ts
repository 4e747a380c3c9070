import { Observable } from 'rxjs';
import type { Limits, Pipeline } from '../config/pipeline.js';
import type { Load } from '../monitor/monitor.js';
import type { Candidate, Copy } from '../plugin.js';
import type { Ticket } from '../flow/ticket.js';

/**
 * Memory reserved for a file, as a multiple of its size: compressed films grow about tenfold. If the frame holds more,
 * its real size counts.
 */
const EXPANSION = 10;

/** A file that a source offers. */
export interface Offer {
  readonly source: string;
  readonly candidate: Candidate;
}

/** A file in flight. It has a ticket once it has been read. */
export interface Admitted extends Offer {
  ticket?: Ticket;
  /** The local copy, if the source has fetched one. */
  copy?: Copy | undefined;
  /** {@link Processed.release}. */
  release?: (() => void) | undefined;
}

/** Two for each thread; more where a first stage is to process more at a time. */
export function unstagedFrames({ stages }: Pick<Pipeline, 'stages'>, threads: number): number {
  const ids = new Set(stages.map(({ id }) => id));
  const first = stages.filter(({ from }) => !from.some((id) => ids.has(id)));
  return Math.max(
    2 * threads,
    ...first.map(({ concurrency = 1, batch }) => concurrency * (batch?.size ?? 1)),
  );
}

/** A frame that waits to enter the graph. */
interface Entering {
  readonly ticket: Ticket;
  readonly alone: boolean;
  readonly enter: () => void;
}

/**
 * Admission by credit, in two steps. Files wait as paths while the frames in flight use up the limits in number or, by
 * estimate, in bytes. A frame that has been read enters the graph only while the frames in it are within the limit in
 * bytes. Only a few frames that no stage has processed are let in at a time, because a small file may hold a huge
 * image. One frame alone is always let in.
 */
export class Admission {
  readonly #inFlight = new Set<Admitted>();
  readonly #inGraph = new Set<Ticket>();
  readonly #entering: Entering[] = [];
  /** The frame that must be alone in the graph. */
  #alone: Ticket | undefined;
  #open = true;
  #paused = false;
  /** Number of waiting files. */
  #waiting = 0;
  #pump: () => void = () => undefined;

  /** `unstaged`: how many frames may be in the graph before their first stage has finished, as of {@link unstagedFrames}. */
  constructor(
    private readonly limits: Limits,
    private readonly unstaged: number,
  ) {}

  /** Files that wait (once closed: files that were not admitted), and frames in flight. */
  get load(): Load {
    let bytes = 0;
    for (const { ticket } of this.#inFlight) bytes += ticket?.bytes ?? 0;
    return { waiting: this.#waiting, frames: this.#inFlight.size, bytes };
  }

  /** Emits each offer when there is credit for it; completes after the last one. */
  admit(offers$: Observable<Offer>): Observable<Admitted> {
    return new Observable((subscriber) => {
      let waiting: Offer[] = [];
      let head = 0;
      let completed = false;
      this.#pump = (): void => {
        if (head > 1000) {
          waiting = waiting.slice(head);
          head = 0;
        }
        for (
          let next = waiting[head];
          this.#open && !this.#paused && next !== undefined;
          next = waiting[head]
        ) {
          if (!this.#hasCreditFor(next.candidate)) return;
          head += 1;
          this.#waiting -= 1;
          const admitted: Admitted = { ...next };
          this.#inFlight.add(admitted);
          subscriber.next(admitted);
        }
        if (this.#open && this.#paused && head < waiting.length) return;
        waiting = this.#open ? waiting.slice(head) : [];
        head = 0;
        if (completed || !this.#open) subscriber.complete();
      };
      return offers$.subscribe({
        next: (offer) => {
          waiting.push(offer);
          this.#waiting += 1;
          if (waiting.length === head + 1) this.#pump();
        },
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          completed = true;
          this.#pump();
        },
      });
    });
  }

  /**
   * Resolves when the frame may enter the graph. With `alone`: when no other frame is in it; no other enters before
   * this one is released.
   */
  enter(ticket: Ticket, alone = false): Promise<void> {
    return new Promise((enter) => {
      this.#entering.push({ ticket, alone, enter });
      this.progress();
    });
  }

  /** A stage has finished with a frame, so that its size is known. */
  progress(): void {
    for (
      let next = this.#entering[0];
      next !== undefined && this.#hasRoomFor(next);
      next = this.#entering[0]
    ) {
      this.#entering.shift();
      this.#inGraph.add(next.ticket);
      if (next.alone) this.#alone = next.ticket;
      next.enter();
    }
  }

  /** The frame is finished: its credit goes to the next. */
  release(admitted: Admitted): void {
    this.#inFlight.delete(admitted);
    if (admitted.ticket !== undefined) this.#inGraph.delete(admitted.ticket);
    if (admitted.ticket === this.#alone) this.#alone = undefined;
    this.progress();
    this.#pump();
  }

  /** Admits nothing until {@link resume}. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#pump();
  }

  /** Admits nothing more; frames in flight finish. */
  close(): void {
    this.#open = false;
    this.#pump();
  }

  #hasRoomFor({ alone }: Entering): boolean {
    if (this.#inGraph.size === 0) return true;
    if (alone || this.#alone !== undefined) return false;
    if (this.limits.bytes === Infinity && this.unstaged === Infinity) return true;
    let bytes = 0;
    let unstaged = 0;
    for (const ticket of this.#inGraph) {
      bytes += ticket.bytes;
      if (!ticket.staged) unstaged += 1;
    }
    return bytes <= this.limits.bytes && unstaged < this.unstaged;
  }

  #hasCreditFor(candidate: Candidate): boolean {
    if (this.#inFlight.size === 0) return true;
    if (this.#inFlight.size >= this.limits.frames) return false;
    if (this.limits.bytes === Infinity) return true;
    let bytes = candidate.size * EXPANSION;
    for (const { candidate: held, ticket } of this.#inFlight) {
      bytes += Math.max(held.size * EXPANSION, ticket?.bytes ?? 0);
    }
    return bytes <= this.limits.bytes;
  }
}
