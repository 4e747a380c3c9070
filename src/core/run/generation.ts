import { stat } from 'node:fs/promises';
import {
  concatMap,
  EMPTY,
  filter,
  merge,
  mergeMap,
  of,
  Subject,
  takeUntil,
  tap,
  type Observable,
  type OperatorFunction,
} from 'rxjs';
import type { Pipeline } from '../config/pipeline.js';
import { DeadLetter, type Failed } from '../dead-letter.js';
import { durably } from '../durable.js';
import { isFatal, isSkip, messageOf, RxrayError } from '../errors.js';
import { frameId, type Frame, type Origin } from '../frame.js';
import type { Status } from '../fate.js';
import { isAnswered } from '../fate.js';
import type { Journal } from '../journal/journal.js';
import type { Conclusion, FilmFile, JournalRecord, Policy } from '../journal/protocol.js';
import type { Load, Monitor } from '../monitor/monitor.js';
import type { Candidate, Outcome, StageInstance } from '../plugin.js';
import { Outlet } from '../outlets/outlet.js';
import { Admission } from '../intake/admission.js';
import { createEnds, createStages, Opened, type Ends, type Stages, type Workshop } from './create.js';
import { intake } from '../intake/intake.js';
import { remake, type Remade } from './remake.js';
import { replaysOf } from '../intake/replays.js';
import type { Settled, Span } from '../flow/settled.js';
import { failureOf, type Failure, type SinkAnswer, type Ticket } from '../flow/ticket.js';
import { wireRemote, type Remote } from '../graph/remote.js';
import { wire } from '../graph/wire.js';

/** A file or folder that may hold films and cannot be taken. */
export interface Unread {
  readonly source: string;
  readonly name: string;
  readonly reason: string;
}

/** What the graphs of a run share. */
export interface RunParts extends Workshop {
  readonly journal: Journal;
}

export interface GenerationOptions {
  readonly once: boolean;
  /** Nothing is taken but what the dead letter is asked for. */
  readonly replaysOnly: boolean;
  readonly policy: Policy;
  /** Files that are left alone because the journal has settled them. */
  readonly onAlready: (known: readonly JournalRecord[]) => void;
  /** Files and folders of a source that cannot be taken. */
  readonly onUnread: (unread: Unread) => void;
  readonly monitor: Monitor;
  /** Runs the stages elsewhere. Absent: they run in this process. */
  readonly remote?: Remote | undefined;
}

/**
 * One graph of a run, from the making of its plugins to its last frame. Its stages are made beside a graph that is still
 * running; sinks and sources, which hold files and folders, when that has let go of them.
 */
export class Generation {
  readonly #opened: Opened;
  readonly #deadLetter: DeadLetter;
  readonly #abort = new AbortController();
  readonly #stop = new Subject<void>();
  #stages: Stages = new Map();
  #columns: ReadonlyMap<string, Pick<StageInstance, 'columns'>> = new Map();
  #ends: { readonly opened: Opened; readonly parts: Ends; readonly abort: AbortController } | undefined;
  #outlets: ReadonlyMap<string, Outlet> = new Map();
  #admission: Admission | undefined;

  private constructor(
    readonly pipeline: Pipeline,
    private readonly run: RunParts,
    private readonly options: GenerationOptions,
  ) {
    this.#opened = new Opened(run.log);
    this.#deadLetter = new DeadLetter(pipeline.stateDir, pipeline.hash, run.pool);
  }

  /** Makes the stages of the graph. Throws {@link CreateError}. */
  static async open(pipeline: Pipeline, run: RunParts, options: GenerationOptions): Promise<Generation> {
    const generation = new Generation(pipeline, run, options);
    const isRemote = options.remote !== undefined;
    const opened = isRemote ? new Opened(run.log) : generation.#opened;
    try {
      const stages = await createStages(
        pipeline,
        run,
        opened,
        generation.#abort.signal,
        (id) => options.monitor.meters.get(id)?.watched === true,
      );
      generation.#columns = new Map([...stages].map(([id, { columns = [] }]) => [id, { columns }]));
      // Stages that run elsewhere are made here to see that they can be, and what columns they have.
      if (isRemote) await opened.dispose();
      else generation.#stages = stages;
      return generation;
    } catch (error) {
      await opened.dispose();
      await generation.dispose();
      throw error;
    }
  }

  /**
   * Makes sinks and sources, anew if need be; `again`: sinks are to supersede what they have. Throws
   * {@link CreateError}, or OUTPUT_UNWRITABLE.
   */
  async connect(again = false): Promise<void> {
    const { once } = this.options;
    const { log } = this.run;
    const opened = new Opened(log);
    const abort = new AbortController();
    try {
      const parts = await createEnds(this.pipeline, log, opened, this.#columns, abort.signal, {
        once,
        again,
        unsettled: (source, candidates) => this.#unsettled(source, candidates),
        unread: (source, name, reason) => this.options.onUnread({ source, name, reason }),
        outage: (source, message) => {
          this.options.monitor.outage(source, message === null ? null : { since: new Date(), message });
        },
      });
      this.#ends = { opened, parts, abort };
    } catch (error) {
      abort.abort();
      await opened.dispose();
      throw error;
    }
  }

  /** Disposes of sinks and sources. */
  async disconnect(): Promise<void> {
    const ends = this.#ends;
    this.#ends = undefined;
    ends?.abort.abort();
    await ends?.opened.dispose();
  }

  async dispose(): Promise<void> {
    await this.disconnect();
    this.#abort.abort();
    await this.#opened.dispose();
  }

  /** Takes no more files: what is in flight goes on to its end, what is parked stays so. */
  stop(): void {
    this.#stop.next();
    for (const outlet of this.#outlets.values()) outlet.stop();
  }

  /** Files that wait to be let in (once stopped, those that were not), and those that are in flight. */
  get load(): Pick<Load, 'waiting' | 'frames'> {
    return this.#admission?.load ?? { waiting: 0, frames: 0 };
  }

  /** Takes a film that was once admitted through the stages again: see {@link PipelineRun.remake}. */
  async remake(origin: Origin): Promise<Remade> {
    const { size, mtimeMs } = await stat(origin.path).catch((cause: unknown) => {
      throw new RxrayError('FRAME_UNREADABLE', 'the file is not where it was', { cause });
    });
    const reply = await this.run.pool.read({ ...origin, size, mtimeMs }, this.pipeline.limits.bytes);
    if (reply?.sha256 !== origin.sha256) {
      throw new RxrayError('FRAME_UNREADABLE', 'the file has changed since');
    }
    const id = frameId(origin.source, origin.name, origin.sha256);
    const frame = { id, origin, encoded: reply.encoded, meta: {}, results: {} };
    return remake(this.pipeline, this.#stages, frame);
  }

  /** Holds back new files, or lets them in again. */
  hold(on: boolean): void {
    if (on) this.#admission?.pause();
    else this.#admission?.resume();
  }

  /**
   * Runs the graph once it is subscribed: films as they settle. Completes when everything is through, or when `abandoned`
   * emits, with those whose sinks have all spoken by then; errors when the run cannot go on.
   */
  async start(abandoned: Observable<void>): Promise<Observable<Settled>> {
    const { pipeline, options } = this;
    const { once, policy, onAlready, monitor, remote } = options;
    const { limits } = pipeline;
    const { log, pool, journal } = this.run;
    const parked = await journal.parkedCounts();
    const deadLetter = this.#deadLetter;
    // The process may have ended between the journal's answer and the letter's removal.
    for (const id of await journal.obsolete(await deadLetter.open())) await deadLetter.forget(id);
    const late = new Subject<Settled>();
    const admission =
      remote === undefined
        ? new Admission(limits, 2 * pool.threads)
        : new Admission({ ...limits, frames: remote.frames, bytes: Infinity }, Infinity);
    this.#admission = admission;
    monitor.attach(pipeline, pool.threads);
    monitor.load = () => admission.load;
    // Whoever asks at the very end finds the journal closed.
    monitor.parked = () => journal.parkedCounts().catch(() => ({}));
    if (this.#ends === undefined) throw new Error('the graph is not connected');
    const { sources, sinks } = this.#ends.parts;
    this.#outlets = new Map(
      pipeline.sinks.map(({ id, plugin, settings, retry, timeoutMs, onError = 'deadLetter' }) => {
        const sink = sinks.get(id);
        if (sink === undefined) throw new Error(`the sink "${id}" has not been made`);
        const { maxBatch = 1, pixels = false, outbox = false } = plugin;
        const meter = monitor.meter(id);
        meter.capacity = 1;
        const outlet = new Outlet({
          id,
          sink: meter.sink(sink),
          maxBatch,
          pixels: typeof pixels === 'function' ? pixels(settings as never) : pixels,
          outbox,
          retry,
          timeoutMs,
          onError,
          journal,
          parked: parked[id] ?? 0,
          confirms: outbox || pipeline.sinks.length > 1,
          once,
          onLate: async (film, frame, thrown) => {
            const settled = await this.#concludeLate(id, film, frame, thrown);
            meter.settleLate(frame, thrown);
            if (settled !== undefined) late.next(settled);
          },
          onOutage: (outage) => {
            monitor.outage(id, outage);
          },
          log,
        });
        return [id, outlet] as const;
      }),
    );
    for (const [sink, count] of Object.entries(parked)) {
      if (this.#outlets.has(sink))
        log.info({ sink, count }, 'films from before wait for the sink in the journal');
      else log.warn({ sink, count }, 'films wait in the journal for a sink that this graph does not have');
    }
    const tokens$ = intake(options.replaysOnly ? new Map() : sources, {
      admission,
      pool,
      journal,
      limits,
      findDuplicates: pipeline.duplicates === 'skip',
      referencesOnly: remote !== undefined,
      once,
      policy,
      replays$: replaysOf(pipeline.stateDir, sources, once, log),
      stop$: this.#stop,
      onAlready: ({ source, candidate, id }, known) => {
        onAlready([known]);
        void this.#endReplay(id, candidate, known.status);
        if (known.status === 'done') void this.#putAway(source, candidate, 'done', known.sha256);
      },
      monitor,
      log,
    });
    remote?.use(pipeline);
    const all$ =
      remote === undefined
        ? wire(pipeline, this.#stages, this.#outlets, tokens$, { log, pool, monitor })
        : wireRemote(pipeline, this.#outlets, tokens$, { remote, monitor, signal: this.#abort.signal });
    const answered$ = all$.pipe(
      allAnswered(pipeline.sinks.length === 0 ? [''] : pipeline.sinks.map(({ id }) => id)),
      takeUntil(abandoned),
    );
    const live$ = answered$.pipe(
      mergeMap((ticket) => this.#conclude(ticket)),
      filter((settled) => settled !== undefined),
      // The outlets complete when nothing can come late any more.
      tap({ complete: () => late.complete() }),
    );
    return merge(late, live$);
  }

  /** Writes what became of a film. Returns nothing for one that waits for a sink, or was settled late already. */
  async #conclude(ticket: Ticket): Promise<Settled | undefined> {
    const { id, origin, candidate, failure, delivery } = ticket;
    const outcome = failure === undefined ? 'done' : 'failed';
    if (failure !== undefined && !isSkip(failure.code)) await this.#deadLetter.keep(ticket, failure);
    const status = await this.run.journal.record(this.#conclusionOf(ticket));
    await this.#endReplay(id, candidate, status, ticket.unread);
    if (status === outcome) await this.#putAway(origin.source, candidate, outcome, origin.sha256);
    ticket.release();
    const spans = this.options.monitor.leave(id);
    if (status !== outcome) return undefined;
    return this.#settled(ticket, delivery, failure, spans);
  }

  /** The same for what a sink had waiting in the journal. */
  async #concludeLate(
    sink: string,
    film: FilmFile,
    frame: Frame,
    thrown: unknown,
  ): Promise<Settled | undefined> {
    const { id, source, name, path, size, mtimeMs, sha256 } = film;
    const candidate = {
      path,
      name,
      size,
      mtimeMs,
      ino: film.ino ?? undefined,
      ctimeMs: film.ctimeMs ?? undefined,
    };
    const { journal } = this.run;
    if (thrown === undefined) {
      if ((await journal.confirm(id, sink)) === null) return undefined;
      await this.#endReplay(id, candidate, 'done');
      await this.#putAway(source, candidate, 'done', sha256);
      return this.#settled({ id, origin: frame.origin }, frame, undefined, []);
    }
    const failure = failureOf(sink, thrown, 'FRAME_SINK');
    const failed: Failed = { id, candidate, origin: frame.origin };
    await this.#deadLetter.keep(failed, failure);
    const { code, message } = failure;
    await journal.refuse({ id, sink, code, message, graph: this.pipeline.hash, at: Date.now() });
    await this.#putAway(source, candidate, 'failed', sha256);
    return this.#settled(failed, frame, failure, []);
  }

  /** Removes the film's letter when it is done, and at once what was kept under another id because it could not be read. */
  async #endReplay(
    id: string,
    { replay }: Candidate,
    status: Status,
    unread: readonly string[] = [],
  ): Promise<void> {
    const deadLetter = this.#deadLetter;
    try {
      for (const obsolete of status === 'done' ? [id, ...unread] : unread) await deadLetter.forget(obsolete);
      if (replay === undefined) return;
      if (replay.letter === id) await deadLetter.endReplay(id);
      else await deadLetter.forget(replay.letter);
    } catch (error) {
      // The film is settled; the next start tries again.
      this.run.log.warn({ frame: id }, `the dead letter cannot be tidied: ${messageOf(error)}`);
    }
  }

  #settled(
    { id, origin }: Pick<Failed, 'id' | 'origin'>,
    frame: Frame | null,
    failure: Failure | undefined,
    spans: readonly Span[],
  ): Settled {
    const { name } = origin;
    const outcome = failure === undefined ? 'done' : isSkip(failure.code) ? 'skipped' : 'failed';
    const graph = this.pipeline.hash;
    return { id, name, origin, outcome, frame, ...(failure !== undefined && { failure }), graph, spans };
  }

  #conclusionOf({ id, origin, candidate, fate, failure }: Ticket): Conclusion {
    const { path, name, size, mtimeMs, ino, ctimeMs } = candidate;
    const { source, sha256 } = origin;
    return {
      ...{ id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256: sha256 || null },
      fate,
      message: failure?.message ?? null,
      graph: this.pipeline.hash,
      at: Date.now(),
    };
  }

  /** A warning only: the film is settled, and the next start tries again. */
  async #putAway(
    source: string,
    candidate: Candidate,
    outcome: Outcome,
    sha256: string | null,
  ): Promise<void> {
    try {
      const instance = this.#ends?.parts.sources.get(source);
      if (instance?.settle === undefined) return;
      const settle = instance.settle.bind(instance);
      await durably('source.settle', () => settle(candidate, outcome, sha256 ?? ''));
    } catch (error) {
      const { log } = this.run;
      const { code = 'unknown error' } = error as NodeJS.ErrnoException;
      log.warn({ source }, `a file that is ${outcome} could not be put where it belongs: ${code}`);
      log.debug({ source, file: candidate.name }, messageOf(error));
    }
  }

  async #unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]> {
    const { journal } = this.run;
    const found = await journal.outcomes(source, candidates, this.options.policy);
    const known = found.filter((each) => each !== null);
    if (known.length > 0) this.options.onAlready(known);
    // The process may have ended between the journal's answer and the source acting on it.
    for (const [index, candidate] of candidates.entries()) {
      const { status, sha256 = null } = found[index] ?? {};
      if (status === 'done') await this.#putAway(source, candidate, 'done', sha256);
    }
    return candidates.filter((_, index) => found[index] === null);
  }
}

/** Emits each ticket when all sinks have answered. Errors when the run cannot go on. */
function allAnswered(sinks: readonly string[]): OperatorFunction<SinkAnswer, Ticket> {
  return concatMap(({ sink, token: { ticket }, frame, kind, thrown }) => {
    if (isFatal(thrown)) throw thrown;
    ticket.answer(sink, kind, thrown);
    const cause = ticket.failure?.cause;
    if (isFatal(cause) && cause.code === 'RUN_STOPPED') throw cause;
    ticket.delivery = frame ?? ticket.delivery;
    return isAnswered(ticket.fate, sinks) ? of(ticket) : EMPTY;
  });
}
