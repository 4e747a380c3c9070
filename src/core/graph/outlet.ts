import { deserialize, serialize } from 'node:v8';
import { ExponentialBackoff, type IBackoff } from 'cockatiel';
import { Observable, type OperatorFunction, type Subscriber } from 'rxjs';
import type { OnError, SinkRetry } from '../config/pipeline.js';
import { errorKind, isFatal, messageOf, RxrayError, Unavailable } from '../errors.js';
import { withoutPixels, type Frame } from '../frame.js';
import type { Journal } from '../journal/journal.js';
import type { Film } from '../journal/protocol.js';
import type { Log, SinkInstance } from '../plugin.js';
import { isLive, type LiveToken, type Token } from './ticket.js';

/** A token that a sink is through with; `thrown` says why it did not take the frame. */
export interface Settlement {
  /** The sink's id. */
  readonly sink: string;
  readonly token: Token;
  readonly frame: Frame | null;
  /** The journal has the frame for the sink, or has the sink's word for it already. */
  readonly parked?: boolean;
  readonly thrown?: unknown;
}

export interface OutletOptions {
  readonly id: string;
  readonly sink: SinkInstance;
  readonly maxBatch: number;
  readonly pixels: boolean;
  readonly outbox: boolean;
  readonly retry: SinkRetry;
  readonly onError: OnError;
  readonly journal: Journal;
  /** How many deliveries wait from an earlier run. */
  readonly parked: number;
  /** Whether the journal is told of every delivery: a lone sink's are told by the film's own record. */
  readonly confirms: boolean;
  /** The run ends when its sources do: it waits for what is parked, up to `retry.giveUpAfterMs`. */
  readonly once: boolean;
  /** What had been parked is delivered, or was refused; resolves when that is on the disk. */
  readonly onLate: (film: Film, frame: Frame, thrown?: unknown) => Promise<void>;
  readonly log: Log;
  readonly now: () => Date;
}

/** A frame on its way to the sink: fresh from the graph, or from the journal. */
type Item = { readonly frame: Frame } & (
  | { readonly token: LiveToken; journaled: boolean; readonly film?: never }
  | { readonly film: Film; readonly row: number; readonly token?: never }
);

/**
 * The way to one sink: a queue of its own, in groups of up to `maxBatch`, one `write` at a time.
 *
 * The queue is bounded by the run's credit: a slow sink slows the intake. One that is down does not: what waits for it
 * moves into the journal and gives its credit back, and as long as anything is there, what is new goes there, too, and
 * the sink is served from there alone, oldest first. It is asked again with growing waits; frames that fail are passed
 * over for those behind them, so that a frame that the sink cannot bear holds nothing up, and is refused in the end.
 */
export class Outlet {
  readonly #options: OutletOptions;
  #subscriber: Subscriber<Settlement> | undefined;
  readonly #queue: Item[] = [];
  /** Tokens that are on their way into the queue or the journal. */
  #entering = 0;
  #completed = false;
  #stopped = false;
  #working = false;
  #fromJournal: boolean;
  /** The row of the journal behind which the next group begins. */
  #cursor = 0;
  #down: { readonly since: number; readonly until: number; readonly backoff: IBackoff<unknown> } | undefined;
  /** How many groups the sink has taken. */
  #successes = 0;
  /** Frames that failed, how often, and how far {@link #successes} was then. */
  readonly #strikes = new Map<string, { readonly count: number; readonly successes: number }>();
  #wake: () => void = () => undefined;

  constructor(options: OutletOptions) {
    this.#options = options;
    this.#fromJournal = options.parked > 0;
  }

  /** Emits one settlement per token. Errors when the sink has no place to write. */
  get operator(): OperatorFunction<Token, Settlement> {
    return (tokens) =>
      new Observable((subscriber) => {
        this.#subscriber = subscriber;
        this.#pump();
        const subscription = tokens.subscribe({
          next: (token) => {
            this.#entering += 1;
            void this.#enter(token).finally(() => {
              this.#entering -= 1;
              this.#pump();
            });
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            this.#completed = true;
            this.#pump();
          },
        });
        return () => {
          this.#stopped = true;
          this.#wake();
          subscription.unsubscribe();
        };
      });
  }

  /** Leaves what is in the journal there; what is in the queue is still delivered. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  async #enter(token: Token): Promise<void> {
    const { id, pixels, outbox, now } = this.#options;
    if (!isLive(token)) {
      this.#emit(token, null);
      return;
    }
    if (token.ticket.delivered.has(id)) {
      this.#emit(token, token.frame, { parked: true });
      return;
    }
    const frame = { ...token.frame, completedAt: now().toISOString() };
    let item: Item;
    try {
      item = { token, frame: pixels ? frame : withoutPixels(frame), journaled: false };
      if (outbox || this.#fromJournal) await this.#park(item);
    } catch (thrown) {
      this.#emit(token, frame, { thrown });
      return;
    }
    if (this.#fromJournal) this.#emit(token, frame, { parked: true });
    else this.#queue.push(item);
  }

  #pump(): void {
    this.#wake();
    if (this.#working) return;
    this.#working = true;
    this.#work().then(
      () => {
        this.#working = false;
        if (this.#hasWork()) this.#pump();
        else if (this.#completed && this.#entering === 0) this.#subscriber?.complete();
      },
      (error: unknown) => this.#subscriber?.error(error),
    );
  }

  #hasWork(): boolean {
    if (this.#subscriber?.closed === true) return false;
    return this.#queue.length > 0 || (this.#fromJournal && !this.#leavesJournal());
  }

  /** Whether what is parked is for the next run to deliver. */
  #leavesJournal(): boolean {
    const { once, retry } = this.#options;
    if (this.#stopped || (this.#completed && !once)) return true;
    const outage = this.#down === undefined ? 0 : performance.now() - this.#down.since;
    return this.#completed && this.#down !== undefined && outage >= retry.giveUpAfterMs;
  }

  async #work(): Promise<void> {
    const { id, maxBatch, journal, retry } = this.#options;
    while (this.#hasWork()) {
      if (this.#down !== undefined) {
        const { since, until } = this.#down;
        const end = this.#completed ? Math.min(until, since + retry.giveUpAfterMs) : until;
        const wait = end - performance.now();
        if (wait > 0) {
          await this.#sleep(wait);
          continue;
        }
      }
      // Whether the sink is up again is asked with one frame, so that one that it cannot bear is found out among others.
      const most = this.#down === undefined ? maxBatch : 1;
      if (!this.#fromJournal) {
        await this.#deliver(this.#queue.splice(0, most));
        continue;
      }
      const rows = await journal.parked(id, this.#cursor, most);
      if (rows.length > 0) {
        await this.#deliver(
          rows.map(({ row, film, frame }) => ({ row, film, frame: deserialize(frame) as Frame })),
        );
      } else if (this.#cursor > 0) {
        this.#cursor = 0;
      } else if (this.#entering > 0) {
        await this.#sleep(1000);
      } else {
        this.#fromJournal = false;
      }
    }
  }

  async #deliver(items: readonly Item[]): Promise<void> {
    const { sink, retry } = this.#options;
    try {
      await sink.write(items.map(({ frame }) => frame));
    } catch (thrown) {
      if (this.#subscriber?.closed === true) return;
      if (isFatal(thrown)) throw thrown;
      const outage = errorKind(thrown) === 'outage';
      const [only, ...others] = items;
      if (only === undefined) return;
      if (others.length > 0 && !outage) {
        for (const [index, item] of items.entries()) {
          if (this.#down === undefined) await this.#deliver([item]);
          else await this.#setBack(items.slice(index, index + 1));
        }
        return;
      }
      const refused = thrown instanceof RxrayError && !outage;
      if (refused || (others.length === 0 && this.#strike(only, outage) >= retry.attempts)) {
        // A sink that rejects a film is reachable.
        if (refused) this.#comeUp();
        await this.#settle(only, thrown);
        return;
      }
      this.#goDown(thrown);
      await this.#setBack(items);
      return;
    }
    this.#successes += 1;
    this.#comeUp();
    await Promise.all(items.map((item) => this.#settle(item)));
  }

  /** How often the frame has failed. In an outage that counts only if the sink took others meanwhile. */
  #strike({ frame: { id } }: Item, outage: boolean): number {
    const before = this.#strikes.get(id) ?? { count: 0, successes: -1 };
    const counts = !outage || this.#successes > before.successes;
    const count = before.count + (counts ? 1 : 0);
    this.#strikes.set(id, { count, successes: this.#successes });
    return count;
  }

  #goDown(thrown: unknown): void {
    const { id, retry, log } = this.#options;
    const now = performance.now();
    const growing = new ExponentialBackoff({ initialDelay: retry.backoffMs, maxDelay: retry.maxBackoffMs });
    const backoff = this.#down?.backoff.next(undefined) ?? growing.next();
    const wait = Math.max(backoff.duration, thrown instanceof Unavailable ? thrown.retryAfterMs : 0);
    if (this.#down === undefined) {
      log.warn({ sink: id }, `the sink is down, films wait for it in the journal: ${messageOf(thrown)}`);
    }
    this.#down = { since: this.#down?.since ?? now, until: now + wait, backoff };
  }

  #comeUp(): void {
    if (this.#down === undefined) return;
    this.#down = undefined;
    // What was passed over has waited longest.
    this.#cursor = 0;
    this.#options.log.info({ sink: this.#options.id }, 'the sink is up again');
  }

  /** From here on the sink is served from the journal; behind an item that had its chance alone. */
  async #setBack(items: readonly Item[]): Promise<void> {
    this.#fromJournal = true;
    const live = [...items.filter(({ film }) => film === undefined), ...this.#queue.splice(0)];
    const [only, ...others] = items;
    // Of a group it is not known who is to blame: they are asked for one by one.
    if (only?.film !== undefined && others.length === 0) this.#cursor = Math.max(this.#cursor, only.row);
    await Promise.all(
      live.map(async (item) => {
        if (item.token === undefined) return;
        try {
          await this.#park(item);
          this.#emit(item.token, item.token.frame, { parked: true });
        } catch (thrown) {
          this.#emit(item.token, item.token.frame, { thrown });
        }
      }),
    );
  }

  async #park(item: Item): Promise<void> {
    const { id, journal } = this.#options;
    if (item.token === undefined || item.journaled) return;
    await journal.park(item.frame.id, id, serialize(item.frame));
    item.journaled = true;
  }

  async #settle(item: Item, thrown?: unknown): Promise<void> {
    const { id, journal, confirms, onError, onLate, log } = this.#options;
    this.#strikes.delete(item.frame.id);
    let refused = thrown;
    if (thrown !== undefined && onError !== 'deadLetter') {
      const message = `the sink refused a film: ${messageOf(thrown)}`;
      if (onError === 'stop') throw new RxrayError('RUN_STOPPED', message, { component: id, cause: thrown });
      log.warn({ sink: id, frame: item.frame.id }, message);
      refused = undefined;
    }
    if (item.film !== undefined) {
      await onLate(item.film, item.frame, refused);
      return;
    }
    // Whoever waits for the film's own record hears of a journal that cannot be written.
    if (confirms && refused === undefined) journal.confirm(item.frame.id, id).catch(() => undefined);
    this.#emit(item.token, item.token.frame, refused === undefined ? {} : { thrown: refused });
  }

  #emit(token: Token, frame: Frame | null, how: Pick<Settlement, 'parked' | 'thrown'> = {}): void {
    this.#subscriber?.next({ sink: this.#options.id, token, frame, ...how });
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
