import { ExponentialBackoff, type IBackoff } from 'cockatiel';
import type { SinkRetry } from '../config/pipeline.js';

/** Whether a sink is down, and when it is retried: after waits that double each time, with random jitter. */
export class CircuitBreaker {
  #outage:
    { readonly since: number; readonly until: number; readonly backoff: IBackoff<unknown> } | undefined;

  constructor(private readonly retry: Pick<SinkRetry, 'backoffMs' | 'maxBackoffMs'>) {}

  get isOpen(): boolean {
    return this.#outage !== undefined;
  }

  /** How long the outage has lasted, in milliseconds; 0 while there is none. */
  get outageMs(): number {
    return this.#outage === undefined ? 0 : performance.now() - this.#outage.since;
  }

  /** How long until the sink is retried, in milliseconds; at most 0 when it is time. */
  get waitMs(): number {
    return (this.#outage?.until ?? 0) - performance.now();
  }

  /** The sink has failed: it is retried at the earliest after `retryAfterMs`. */
  open(retryAfterMs = 0): void {
    const { backoffMs, maxBackoffMs } = this.retry;
    const now = performance.now();
    const backoff =
      this.#outage?.backoff.next(undefined) ??
      new ExponentialBackoff({ initialDelay: backoffMs, maxDelay: maxBackoffMs }).next();
    const until = now + Math.max(backoff.duration, retryAfterMs);
    this.#outage = { since: this.#outage?.since ?? now, until, backoff };
  }

  /** Ends the wait: the sink is retried at once. */
  retryNow(): void {
    if (this.#outage !== undefined) this.#outage = { ...this.#outage, until: 0 };
  }

  /** The sink has answered. */
  close(): void {
    this.#outage = undefined;
  }
}
