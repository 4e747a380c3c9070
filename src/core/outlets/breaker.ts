import { ExponentialBackoff, type IBackoff } from 'cockatiel';
import type { SinkRetry } from '../config/pipeline.js';

/** Whether a sink is down, and when it is tried again: after waits that double each time, with random jitter. */
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

  /** How long to wait before the sink is tried again, in milliseconds; not positive when it is time. */
  get waitMs(): number {
    return (this.#outage?.until ?? 0) - performance.now();
  }

  /** The sink has failed: it is tried again at the earliest after `retryAfterMs`. */
  open(retryAfterMs = 0): void {
    const { backoffMs, maxBackoffMs } = this.retry;
    const now = performance.now();
    const backoff =
      this.#outage?.backoff.next(undefined) ??
      new ExponentialBackoff({ initialDelay: backoffMs, maxDelay: maxBackoffMs }).next();
    const until = now + Math.max(backoff.duration, retryAfterMs);
    this.#outage = { since: this.#outage?.since ?? now, until, backoff };
  }

  /** There is reason to try the sink at once. */
  retryNow(): void {
    if (this.#outage !== undefined) this.#outage = { ...this.#outage, until: 0 };
  }

  /** The sink has answered. */
  close(): void {
    this.#outage = undefined;
  }
}
