import { defer, finalize, Observable, Subject, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { frameBytes, type Frame } from '../frame.js';
import type { Span } from '../flow/settled.js';
import { isLive, type SinkAnswer, type Token } from '../flow/ticket.js';
import type { Kind, SinkInstance, StageInstance } from '../plugin.js';
import { Histogram, type HistogramCounts } from './histogram.js';

/** In seconds: from a cheap stage on a small film to a long latent search. */
const DURATIONS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** A longer call is reported, even if its limit allows it. */
const LONG_CALL_MS = 60_000;
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128];

/** Why a source, stage or sink does not work at present. */
export interface Trouble {
  readonly since: Date;
  readonly message: string;
}

/** The counters of a {@link Meter} as plain data. */
export interface MeterCounts extends Pick<
  Meter,
  'framesIn' | 'framesOut' | 'errors' | 'bytes' | 'callSeconds' | 'workSeconds'
> {
  readonly durations: HistogramCounts;
  readonly batches: HistogramCounts;
  /** Now. */
  readonly queue: number;
  readonly inFlight: number;
  readonly capacity: number;
}

/** A call that is in progress. */
interface Call {
  readonly started: number;
  /** How long it may take, in milliseconds. */
  readonly limitMs: number;
}

/**
 * The counters of one source, stage or sink. They only grow, except those of work in progress. Plain numbers: a frame
 * costs a few additions.
 */
export class Meter {
  framesIn = 0;
  framesOut = 0;
  /** Frames that failed here. */
  errors = 0;
  /** Encoded bytes and pixels of the frames that came out. */
  bytes = 0;
  /** Frames that the plugin is processing. */
  inFlight = 0;
  /** Total seconds of all calls, including waits for a device; for stages in worker threads, of the work only. */
  callSeconds = 0;
  /** Seconds of work in worker threads. */
  workSeconds = 0;
  /** Durations of calls in seconds. */
  readonly durations = new Histogram(DURATIONS);
  /** Frames per call, of stages that work in batches and of sinks. */
  readonly batches = new Histogram(BATCHES);
  /** The output with pixels, while there are subscribers. */
  readonly #passing = new Subject<Frame>();
  #tokensIn = 0;
  #tokensOut = 0;
  /** Under way, the oldest first. */
  readonly #calls = new Set<Call>();
  /** Start of the first call that exceeded its limit, if no call has succeeded since. */
  #lateSince: number | null = null;

  /** Time limit of a call per frame, in milliseconds. */
  limitMs = Infinity;

  /** Maximum number of concurrent calls; null if unknown. */
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

  /** A call that has been in progress for too long, or calls that exceeded their limit; null if there are none. */
  get trouble(): Trouble | null {
    const [oldest] = this.#calls;
    if (this.#lateSince !== null) {
      const message = `a call has taken longer than ${String(this.limitMs)} ms (\`timeoutMs\`), and none has succeeded since`;
      return { since: dateOf(this.#lateSince), message };
    }
    if (oldest === undefined) return null;
    if (performance.now() - oldest.started < Math.min(oldest.limitMs, LONG_CALL_MS)) return null;
    return { since: dateOf(oldest.started), message: 'a call has not returned since' };
  }

  get counts(): MeterCounts {
    const { framesIn, framesOut, errors, bytes, callSeconds, workSeconds, queue, inFlight, capacity } = this;
    const plain = ({ counts, sum, count }: Histogram): HistogramCounts => ({ counts, sum, count });
    return {
      ...{ framesIn, framesOut, errors, bytes, callSeconds, workSeconds, queue, inFlight },
      ...{ capacity: capacity ?? 0, durations: plain(this.durations), batches: plain(this.batches) },
    };
  }

  /** Adds what another process has counted for the same entry since `before`. */
  add(now: MeterCounts, before?: MeterCounts): void {
    const grown = (key: Exclude<keyof MeterCounts, 'durations' | 'batches'>): number =>
      now[key] - (before?.[key] ?? 0);
    for (const key of ['framesIn', 'framesOut', 'errors', 'bytes', 'callSeconds', 'workSeconds'] as const)
      this[key] += grown(key);
    this.durations.add(now.durations, before?.durations);
    this.batches.add(now.batches, before?.batches);
    this.#tokensIn += grown('queue') + grown('inFlight');
    this.inFlight += grown('inFlight');
    this.capacity = (this.capacity ?? 0) + grown('capacity');
  }

  /** Every frame that comes out from now on. */
  readonly passing$ = new Observable<Frame>((subscriber) => this.#passing.subscribe(subscriber));

  /** Placed before the component: counts its input. */
  entering(): MonoTypeOperatorFunction<Token> {
    return tap((token) => this.entered(token));
  }

  entered(token: Token): void {
    this.#tokensIn += 1;
    if (isLive(token)) this.framesIn += 1;
  }

  /** Placed after the component: counts its output and failures. */
  leaving(): MonoTypeOperatorFunction<Token> {
    return tap((token) => this.left(token));
  }

  left({ ticket, frame }: Token): void {
    this.#tokensOut += 1;
    if (frame !== null) this.#passed(frame);
    else if (ticket.failure?.component === this.id) this.errors += 1;
  }

  /** A frame of so many bytes has gone on to the next stage inside a worker thread, with its pixels. */
  handedOn(bytes: number): void {
    this.#tokensOut += 1;
    this.#count(bytes);
  }

  /** Placed after a sink. */
  settling(): MonoTypeOperatorFunction<SinkAnswer> {
    return tap(({ frame, kind, thrown }) => {
      this.#tokensOut += 1;
      if (frame !== null && kind !== 'park') this.settleLate(frame, thrown);
    });
  }

  /** A sink has confirmed or refused a parked film. */
  settleLate(frame: Frame, thrown: unknown): void {
    if (thrown !== undefined) this.errors += 1;
    else this.#passed(frame);
  }

  /** Whether the output has subscribers. */
  get watched(): boolean {
    return this.#passing.observed;
  }

  /** Passes a frame that came out in another process to the subscribers. */
  show(frame: Frame): void {
    this.#passing.next(frame);
  }

  /** The stage with its calls measured. */
  stage(stage: StageInstance): StageInstance {
    if ('operator' in stage) {
      // A stream has no calls: the time that each frame spends inside is measured.
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
                this.inFlight -= 1;
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
    return { process: (frame) => this.#measure([frame], () => stage.process(frame)) };
  }

  /** The sink, with its writes measured. */
  sink(sink: SinkInstance): SinkInstance {
    return { write: (frames) => this.#measure(frames, () => sink.write(frames)) };
  }

  /** A worker thread begins with frames: they are in flight until the returned function is called. */
  begin(limitMs: number, frames = 1): () => void {
    const call = { started: performance.now(), limitMs };
    this.#calls.add(call);
    this.inFlight += frames;
    return () => {
      this.#calls.delete(call);
      this.inFlight -= frames;
    };
  }

  /** A worker thread has worked for a frame for `ms` milliseconds, from `started` on the main thread's `performance.now()`. */
  worked(id: string, started: number, ms: number, isDone: boolean): void {
    this.workSeconds += ms / 1000;
    this.#judge(isDone, started, ms, this.limitMs);
    this.#ended([id], started, ms);
  }

  async #measure<T>(frames: readonly Frame[], call: () => T | Promise<T>): Promise<T> {
    const limitMs = this.limitMs * frames.length;
    const end = this.begin(limitMs, frames.length);
    const started = performance.now();
    let isDone = false;
    try {
      const made = await call();
      isDone = true;
      return made;
    } finally {
      const ms = performance.now() - started;
      end();
      this.#judge(isDone, started, ms, limitMs);
      this.#ended(
        frames.map(({ id }) => id),
        started,
        ms,
      );
    }
  }

  #judge(isDone: boolean, started: number, ms: number, limitMs: number): void {
    if (isDone) this.#lateSince = null;
    else if (ms >= limitMs) this.#lateSince ??= started;
  }

  #ended(ids: readonly string[], started: number, ms = performance.now() - started): void {
    this.callSeconds += ms / 1000;
    this.durations.observe(ms / 1000);
    this.batches.observe(ids.length);
    const startedAt = performance.timeOrigin + started;
    for (const id of ids) this.note(id, { component: this.id, startedAt, ms, batch: ids.length });
  }

  #passed(frame: Frame): void {
    this.#count(frameBytes(frame));
    this.#passing.next(frame);
  }

  #count(bytes: number): void {
    this.framesOut += 1;
    this.bytes += bytes;
  }
}

function dateOf(now: number): Date {
  return new Date(performance.timeOrigin + now);
}
