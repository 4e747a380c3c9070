import { Observable } from 'rxjs';
import type { Limits } from '../config/pipeline.js';
import type { Candidate } from '../plugin.js';
import type { Ticket } from './ticket.js';

/**
 * Memory set aside for a file, as a multiple of its size: compressed films grow about tenfold. Where
 * the frame turns out to hold more, that counts.
 */
const EXPANSION = 10;

/** A file that a source offers. */
export interface Offer {
  readonly source: string;
  readonly candidate: Candidate;
}

/** A file in flight: at first it is only going to be read, then it has a ticket. */
export interface Admitted extends Offer {
  ticket?: Ticket;
}

/**
 * Admission by credit: holds files back, as paths, while the frames in flight have used up the limits
 * in number or in bytes. A frame that is alone is always let in, however large.
 */
export class Admission {
  readonly #inFlight = new Set<Admitted>();
  #open = true;
  #pump: () => void = () => undefined;

  constructor(private readonly limits: Limits) {}

  /** Emits each offer when there is credit for it; completes when the last one has been let in. */
  admit(offers$: Observable<Offer>): Observable<Admitted> {
    return new Observable((subscriber) => {
      let waiting: Offer[] = [];
      let head = 0;
      let completed = false;
      this.#pump = (): void => {
        for (let next = waiting[head]; this.#open && next !== undefined; next = waiting[head]) {
          if (!this.#hasCreditFor(next.candidate)) return;
          head += 1;
          const admitted: Admitted = { ...next };
          this.#inFlight.add(admitted);
          subscriber.next(admitted);
        }
        waiting = this.#open ? waiting.slice(head) : [];
        head = 0;
        if (completed || !this.#open) subscriber.complete();
      };
      return offers$.subscribe({
        next: (offer) => {
          waiting.push(offer);
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

  /** The frame is through: its credit goes to the next. */
  release(admitted: Admitted): void {
    this.#inFlight.delete(admitted);
    this.#pump();
  }

  /** Lets nothing in any more; what is in flight goes on to its end. */
  close(): void {
    this.#open = false;
    this.#pump();
  }

  #hasCreditFor(candidate: Candidate): boolean {
    if (this.#inFlight.size === 0) return true;
    if (this.#inFlight.size >= this.limits.frames) return false;
    let bytes = candidate.size * EXPANSION;
    for (const { candidate: held, ticket } of this.#inFlight) {
      bytes += Math.max(held.size * EXPANSION, ticket?.bytes ?? 0);
    }
    return bytes <= this.limits.bytes;
  }
}
