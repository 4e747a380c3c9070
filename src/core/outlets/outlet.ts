import { setImmediate } from 'node:timers/promises';
import type { OnError, SinkRetry } from '../config/pipeline.js';
import { errorKind, isFatal, messageOf, RxrayError, type Unavailable } from '../errors.js';
import type { SinkEvent } from '../fate.js';
import { withoutPixels, type Frame } from '../frame.js';
import type { Journal } from '../journal/journal.js';
import type { FilmFile } from '../journal/protocol.js';
import type { Trouble } from '../monitor/meter.js';
import { MAX_TIMER_MS, type Log, type SinkInstance } from '../plugin.js';
import { apart } from './apart.js';
import { BoundedSink } from './bounded-sink.js';
import { CircuitBreaker } from './breaker.js';
import { Spill, type Spilled } from './spill.js';
import { Strikes } from './strikes.js';

/**
 * The result of a delivery: the sink has confirmed the frame, the journal keeps it for the sink, or the sink has
 * refused it.
 */
export type Acknowledgement =
  | { readonly kind: Exclude<SinkEvent['kind'], 'skip' | 'refuse'> }
  | { readonly kind: 'refuse'; readonly thrown: unknown };

export interface OutletOptions {
  readonly id: string;
  readonly sink: SinkInstance;
  readonly maxBatch: number;
  readonly pixels: boolean;
  readonly outbox: boolean;
  readonly retry: SinkRetry;
  /** Time limit for a write, in milliseconds. */
  readonly timeoutMs: number;
  readonly onError: OnError;
  readonly journal: Pick<Journal, 'park' | 'parked' | 'confirm'>;
  /** Number of deliveries parked by earlier runs. */
  readonly parked: number;
  /** Whether the journal records each delivery. With one sink, the film's own record is enough. */
  readonly confirms: boolean;
  /** The run ends with its sources, and waits for parked films up to `retry.giveUpAfterMs`. */
  readonly once: boolean;
  /** The sink has confirmed or refused a parked film; resolves when that is on the disk. */
  readonly onLate: (film: FilmFile, frame: Frame, thrown?: unknown) => Promise<void>;
  /** An outage begins, or ends (null). */
  readonly onOutage?: (outage: Trouble | null) => void;
  readonly log: Log;
}

/** A frame that comes from the graph. */
interface Fresh {
  readonly frame: Frame;
  readonly answer: (answer: Acknowledgement) => void;
  /** Whether the journal has it. */
  parked: boolean;
}

type Item = Fresh | Spilled;

/**
 * Delivers frames to one sink: a queue, groups of up to `maxBatch`, one `write` at a time.
 *
 * The run's credit limits the queue: a slow sink slows the intake. During an outage, waiting frames are parked in the
 * journal and give their credit back. While any are parked, new frames are parked too, and the sink is served only from
 * the journal, oldest first. It is retried with growing waits, one frame at a time. A frame that it keeps failing on
 * while it takes others is refused in the end.
 */
export class Outlet {
  /** The run's credit limits it. */
  readonly #queue: Fresh[] = [];
  readonly #sink: BoundedSink;
  readonly #breaker: CircuitBreaker;
  readonly #spill: Spill;
  readonly #strikes = new Strikes();
  /** Whether the sink is served from the journal. */
  #fromJournal: boolean;
  /** Number of frames being parked. */
  #entering = 0;
  #state: 'open' | 'ended' | 'closed' = 'open';
  #stopped = false;
  #finishing = false;
  /** The work in progress. */
  #working: Promise<void> = Promise.resolve();
  #wake: () => void = () => undefined;

  constructor(private readonly options: OutletOptions) {
    const { id, sink, timeoutMs, retry, journal, parked } = options;
    this.#fromJournal = parked > 0;
    this.#breaker = new CircuitBreaker(retry);
    this.#spill = new Spill(id, journal);
    this.#sink = new BoundedSink(sink, timeoutMs, () => {
      this.#breaker.retryNow();
      this.#wake();
    });
  }

  /** Serves the sink until {@link end} and nothing is left to do, or {@link close}. Rejects when the run cannot go on. */
  async run(): Promise<void> {
    while (this.#state !== 'closed') {
      if (this.#hasWork()) await (this.#working = this.#work());
      else if (this.#state === 'ended' && this.#entering === 0) return;
      else await this.#sleep();
    }
  }

  /** Delivers a frame. Never rejects. */
  async deliver(frame: Frame): Promise<Acknowledgement> {
    const { pixels, outbox } = this.options;
    this.#entering += 1;
    let item: Omit<Fresh, 'answer'>;
    try {
      item = { frame: pixels ? frame : withoutPixels(frame), parked: outbox || this.#fromJournal };
      if (item.parked) await this.#spill.put(item.frame);
    } catch (thrown) {
      return { kind: 'refuse', thrown };
    } finally {
      this.#entering -= 1;
      this.#wake();
    }
    if (this.#fromJournal) return { kind: 'park' };
    return new Promise((answer) => {
      this.#queue.push({ ...item, answer });
      this.#wake();
    });
  }

  /** No more frames come. */
  end(): void {
    this.#state = 'ended';
    this.#wake();
  }

  /** Leaves parked frames in the journal; frames in the queue are still delivered. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  /**
   * Starts no more writes; resolves when the frames of the one in progress have been answered. A frame that the sink has
   * but that was not answered would be processed again, perhaps by another graph.
   */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.stop();
    await this.#working.catch(() => undefined);
    await setImmediate();
  }

  /** Starts no more writes. */
  close(): void {
    this.#state = 'closed';
    this.stop();
  }

  #hasWork(): boolean {
    if (this.#finishing) return false;
    return this.#queue.length > 0 || (this.#fromJournal && !this.#leavesJournal());
  }

  /** Whether parked frames are left to the next run. */
  #leavesJournal(): boolean {
    const { once, retry } = this.options;
    const ended = this.#state === 'ended';
    if (this.#stopped || (ended && !once)) return true;
    return ended && this.#breaker.isOpen && this.#breaker.outageMs >= retry.giveUpAfterMs;
  }

  async #work(): Promise<void> {
    const { maxBatch, retry } = this.options;
    if (this.#breaker.isOpen) {
      const patience = this.#state === 'ended' ? retry.giveUpAfterMs - this.#breaker.outageMs : Infinity;
      const wait = Math.min(this.#breaker.waitMs, patience);
      if (wait > 0) {
        await this.#sleep(wait);
        return;
      }
    }
    // A sink that is down is retried with one frame.
    const most = this.#breaker.isOpen ? 1 : maxBatch;
    if (!this.#fromJournal) {
      await this.#deliver(this.#queue.splice(0, most));
      return;
    }
    const waiting = await this.#spill.take(most);
    if (waiting.length > 0) await this.#deliver(waiting);
    else if (this.#entering > 0) await this.#sleep(1000);
    else this.#fromJournal = false;
  }

  async #deliver(items: readonly Item[]): Promise<void> {
    const left = new Set(items);
    const write = (group: readonly Item[]): Promise<void> =>
      this.#sink.write(group.map(({ frame }) => frame));
    for await (const { items: group, thrown } of apart(items, write)) {
      if (this.#state === 'closed') return;
      if (isFatal(thrown)) throw thrown;
      const refused = thrown !== undefined && this.#isRefused(group, thrown);
      if (thrown !== undefined && !refused) {
        this.#goDown(thrown);
        await this.#setBack(group, [...left]);
        return;
      }
      for (const item of group) left.delete(item);
      if (thrown === undefined) this.#strikes.success();
      // A sink that rejects a film is reachable; a sink that has failed on it too often may not be.
      if (thrown === undefined || isRejection(thrown)) this.#comeUp();
      await Promise.all(group.map((item) => this.#settle(item, thrown)));
    }
  }

  /** Whether the sink has refused the frame, or has failed on it too often. False for a group of several. */
  #isRefused([only, ...others]: readonly Item[], thrown: unknown): boolean {
    if (isRejection(thrown)) return true;
    if (only === undefined || others.length > 0) return false;
    return this.#strikes.strike(only.frame.id, errorKind(thrown) === 'outage') >= this.options.retry.attempts;
  }

  #goDown(thrown: unknown): void {
    const { id, log, onOutage } = this.options;
    const message = messageOf(thrown);
    if (!this.#breaker.isOpen) {
      log.warn({ sink: id }, `the sink is down, films wait for it in the journal: ${message}`);
      onOutage?.({ since: new Date(), message });
    }
    // It may be an error of another copy of the class.
    this.#breaker.open(errorKind(thrown) === 'outage' ? (thrown as Partial<Unavailable>).retryAfterMs : 0);
  }

  #comeUp(): void {
    if (!this.#breaker.isOpen) return;
    const { id, log, onOutage } = this.options;
    this.#breaker.close();
    this.#spill.rewind();
    log.info({ sink: id }, 'the sink is up again');
    onOutage?.(null);
  }

  /**
   * Parks all waiting frames: from now on the sink is served from the journal, after an item that it has failed on
   * alone.
   */
  async #setBack([failed, ...others]: readonly Item[], items: readonly Item[]): Promise<void> {
    this.#fromJournal = true;
    if (failed !== undefined && 'row' in failed && others.length === 0) this.#spill.passOver(failed);
    const fresh = items.filter((item): item is Fresh => 'answer' in item);
    await Promise.all(
      [...fresh, ...this.#queue.splice(0)].map(async (item) => {
        try {
          if (!item.parked) await this.#spill.put(item.frame);
          item.answer({ kind: 'park' });
        } catch (thrown) {
          item.answer({ kind: 'refuse', thrown });
        }
      }),
    );
  }

  async #settle(item: Item, thrown: unknown): Promise<void> {
    const { id, journal, confirms, onError, onLate, log } = this.options;
    this.#strikes.forget(item.frame.id);
    let refused = thrown;
    if (thrown !== undefined && onError !== 'deadLetter') {
      const message = `the sink refused a film: ${messageOf(thrown)}`;
      if (onError === 'stop') throw new RxrayError('RUN_STOPPED', message, { component: id, cause: thrown });
      log.warn({ sink: id, frame: item.frame.id }, message);
      refused = undefined;
    }
    if ('row' in item) {
      await onLate(item.film, item.frame, refused);
      return;
    }
    // A journal that cannot be written is reported when the film's own record is written.
    if (confirms && refused === undefined) journal.confirm(item.frame.id, id).catch(() => undefined);
    item.answer(refused === undefined ? { kind: 'confirm' } : { kind: 'refuse', thrown: refused });
  }

  /** Until woken, or for `ms` milliseconds. */
  #sleep(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Whether the sink has rejected the frame permanently. */
function isRejection(thrown: unknown): boolean {
  const kind = errorKind(thrown);
  return kind !== undefined && kind !== 'outage';
}
