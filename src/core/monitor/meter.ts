import { defer, finalize, Observable, Subject, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { frameBytes, type Frame } from '../frame.js';
import type { Span } from '../flow/settled.js';
import { isLive, type SinkAnswer, type Token } from '../flow/ticket.js';
import type { Kind, SinkInstance, StageInstance } from '../plugin.js';
import type { Work } from '../workers/pool.js';
import { Histogram } from './histogram.js';

/** In seconds: from a cheap stage on a small film to a long latent search. */
const DURATIONS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** A call that takes longer is worth a look, whatever its limit. */
const LONG_CALL_MS = 60_000;
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128];

/** What keeps an entry of the graph from its work. */
export interface Trouble {
  readonly since: Date;
  readonly message: string;
}

/** A call that is under way. */
interface Call {
  readonly started: number;
  /** How long it may take, in milliseconds. */
  readonly limitMs: number;
}

/**
 * The counters of one entry of the graph. Everything only ever grows, except what is under way.
 * Plain numbers: one frame costs a few additions.
 */
export class Meter {
  framesIn = 0;
  framesOut = 0;
  /** Frames that failed here. */
  errors = 0;
  /** Encoded bytes and pixels of the frames that came out. */
  bytes = 0;
  /** Frames that the plugin has in hand. */
  inFlight = 0;
  /** Seconds of all calls together, waiting for a device included; of stages in worker threads the work alone. */
  callSeconds = 0;
  /** Seconds of work in worker threads. */
  workSeconds = 0;
  /** How long a call takes, in seconds. */
  readonly durations = new Histogram(DURATIONS);
  /** Frames per call, of stages that work in batches and of sinks. */
  readonly batches = new Histogram(BATCHES);
  /** What came out, pixels and all, as long as somebody looks. */
  readonly #passing = new Subject<Frame>();
  /** What a worker thread did to make a frame. */
  #workOf: (made: Frame) => Work | undefined = () => undefined;
  #tokensIn = 0;
  #tokensOut = 0;
  /** Under way, the oldest first. */
  readonly #calls = new Set<Call>();
  /** When the first of the calls began that took longer than they may, without one that ended well since. */
  #lateSince: number | null = null;

  /** How long a call may take for each of its frames, in milliseconds. */
  limitMs = Infinity;

  /** How many calls may be under way at a time; null where nobody can say. */
  capacity: number | null = null;

  constructor(
    readonly id: string,
    readonly kind: Kind,
    private readonly note: (frameId: string, span: Span) => void,
  ) {}

  /** Frames that wait for the plugin. */
  get queue(): number {
    return Math.max(0, this.#tokensIn - this.#tokensOut - this.inFlight);
  }

  /** A call that has been under way for long, or the last ones took longer than they may; null when all is well. */
  get trouble(): Trouble | null {
    const [oldest] = this.#calls;
    if (this.#lateSince !== null) {
      const message = `a call has taken longer than ${String(this.limitMs)} ms (\`timeoutMs\`), and none has ended well since`;
      return { since: dateOf(this.#lateSince), message };
    }
    if (oldest === undefined) return null;
    if (performance.now() - oldest.started < Math.min(oldest.limitMs, LONG_CALL_MS)) return null;
    return { since: dateOf(oldest.started), message: 'a call has not returned since' };
  }

  /** Every frame that comes out from now on. */
  readonly passing$ = new Observable<Frame>((subscriber) => this.#passing.subscribe(subscriber));

  /** Put before the component: counts what comes to it. */
  entering(): MonoTypeOperatorFunction<Token> {
    return tap((token) => {
      this.#tokensIn += 1;
      if (isLive(token)) this.framesIn += 1;
    });
  }

  /** Put after the component: counts what comes out of it, or fails in it. */
  leaving(): MonoTypeOperatorFunction<Token> {
    return tap((token) => {
      this.#tokensOut += 1;
      if (token.frame !== null) this.#passed(token.frame);
      else if (token.ticket.failure?.component === this.id) this.errors += 1;
    });
  }

  /** Put after a sink. */
  settling(): MonoTypeOperatorFunction<SinkAnswer> {
    return tap(({ frame, kind, thrown }) => {
      this.#tokensOut += 1;
      if (frame !== null && kind !== 'park') this.settleLate(frame, thrown);
    });
  }

  /** A sink has taken, or refused, what waited for it. */
  settleLate(frame: Frame, thrown: unknown): void {
    if (thrown !== undefined) this.errors += 1;
    else this.#passed(frame);
  }

  /** Whether somebody looks at what comes out. */
  get watched(): boolean {
    return this.#passing.observed;
  }

  /** The stage, with its calls measured; `workOf` tells what a worker thread did of it. */
  stage(stage: StageInstance, workOf: (made: Frame) => Work | undefined = () => undefined): StageInstance {
    this.#workOf = workOf;
    if ('operator' in stage) {
      // A whole stream has no calls: how long each frame is inside is what can be said of it.
      return {
        operator: (frames) =>
          defer(() => {
            const since = new Map<string, number>();
            return frames.pipe(
              tap(({ id }) => {
                this.inFlight += 1;
                since.set(id, performance.now());
              }),
              stage.operator,
              tap(({ id }) => {
                const started = since.get(id);
                if (started === undefined) return;
                since.delete(id);
                this.#ended([id], started);
              }),
              finalize(() => (this.inFlight -= since.size)),
            );
          }),
      };
    }
    if ('processBatch' in stage) {
      return {
        ...(stage.device !== undefined && { device: stage.device }),
        processBatch: (frames) => this.#measure(frames, () => stage.processBatch(frames)),
      };
    }
    return { process: (frame) => this.#measure([frame], () => stage.process(frame), workOf) };
  }

  /** The sink, with its writes measured. */
  sink(sink: SinkInstance): SinkInstance {
    return { write: (frames) => this.#measure(frames, () => sink.write(frames)) };
  }

  async #measure<T>(
    frames: readonly Frame[],
    call: () => T | Promise<T>,
    workOf: (made: T) => Work | undefined = () => undefined,
  ): Promise<T> {
    const started = performance.now();
    const underway = { started, limitMs: this.limitMs * frames.length };
    this.#calls.add(underway);
    this.inFlight += frames.length;
    let work: Work | undefined;
    try {
      const made = await call();
      this.#lateSince = null;
      work = workOf(made);
      if (work !== undefined) this.workSeconds += work.ms / 1000;
      return made;
    } catch (error) {
      if (performance.now() - started >= underway.limitMs) this.#lateSince ??= started;
      throw error;
    } finally {
      this.#calls.delete(underway);
      this.#ended(
        frames.map(({ id }) => id),
        work?.started ?? started,
        work?.ms,
      );
    }
  }

  #ended(ids: readonly string[], started: number, ms = performance.now() - started): void {
    this.inFlight -= ids.length;
    this.callSeconds += ms / 1000;
    this.durations.observe(ms / 1000);
    this.batches.observe(ids.length);
    const startedAt = performance.timeOrigin + started;
    for (const id of ids) this.note(id, { component: this.id, startedAt, ms, batch: ids.length });
  }

  #passed(frame: Frame): void {
    const bytes = frameBytes(frame);
    const held = this.#workOf(frame)?.bytes ?? bytes;
    this.framesOut += 1;
    this.bytes += held;
    // A frame that was in a thread before somebody looked has left its pixels there.
    if (this.#passing.observed && held === bytes) this.#passing.next(frame);
  }
}

function dateOf(now: number): Date {
  return new Date(performance.timeOrigin + now);
}
