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
import { needsPixels, type Pipeline } from '../config/pipeline.js';
import { DeadLetter, type Failed } from '../dead-letter.js';
import { endReplay } from '../dead-letter-entries.js';
import { durably } from '../durable.js';
import { isFatal, isSkip, messageOf, RxrayError } from '../errors.js';
import { frameId, type Frame, type Origin } from '../frame.js';
import { isAnswered, type Status } from '../fate.js';
import { partOf, wholeFile } from '../file-part.js';
import type { Journal } from '../journal/journal.js';
import type { Conclusion, FilmFile, JournalRecord, Policy } from '../journal/protocol.js';
import type { Load, Monitor } from '../monitor/monitor.js';
import type { Candidate, Outcome, StageInstance } from '../plugin.js';
import { Outlet } from '../outlets/outlet.js';
import { Admission, unstagedFrames } from '../intake/admission.js';
import {
  createConnectors,
  createStages,
  OpenPlugins,
  type Connectors,
  type Stages,
  type StageHost,
} from './create.js';
import { intake, type Elsewhere } from '../intake/intake.js';
import { remake, type Remade } from './remake.js';
import { verdictOf } from '../verdict.js';
import { replaysOf } from '../intake/replays.js';
import type { Settled, Span } from '../flow/settled.js';
import { failureOf, type Failure, type SinkAnswer, type Ticket } from '../flow/ticket.js';
import { wireRemote, type Remote } from '../graph/remote.js';
import { wire } from '../graph/wire.js';

/** A file or folder that may hold films and cannot be read. */
export interface Unread {
  readonly source: string;
  readonly name: string;
  readonly reason: string;
}

/** Services shared by the graphs of a run. */
export interface RunParts extends StageHost {
  readonly journal: Journal;
}

export interface GenerationOptions {
  readonly once: boolean;
  /** Only replays of the dead letter are processed. */
  readonly replaysOnly: boolean;
  readonly policy: Policy;
  /** Files that are skipped because they are settled. */
  readonly onAlready: (known: readonly JournalRecord[]) => void;
  /** Files and folders of a source that cannot be read. */
  readonly onUnread: (unread: Unread) => void;
  /** Files that are known to be no images. */
  readonly onLeftAlone: (files: number) => void;
  readonly monitor: Monitor;
  /** Runs the stages on other machines. Absent: they run in this process. */
  readonly remote?: Remote | undefined;
}

/**
 * One graph of a run, from the creation of its plugins to its last frame. Its stages are created while an earlier graph
 * may still run; sinks and sources, which hold files and folders, after that has released them.
 */
export class Generation {
  readonly #opened: OpenPlugins;
  readonly #deadLetter: DeadLetter;
  readonly #abort = new AbortController();
  readonly #stop = new Subject<void>();
  #stages: Stages = new Map();
  #columns: ReadonlyMap<string, Pick<StageInstance, 'columns'>> = new Map();
  #connectors:
    { readonly opened: OpenPlugins; readonly parts: Connectors; readonly abort: AbortController } | undefined;
  #outlets: ReadonlyMap<string, Outlet> = new Map();
  #admission: Admission | undefined;
  /** Films in the graph that have settled as failed: a sink refused them late. */
  readonly #refusedLate = new Set<string>();

  private constructor(
    readonly pipeline: Pipeline,
    private readonly run: RunParts,
    private readonly options: GenerationOptions,
  ) {
    this.#opened = new OpenPlugins(run.log);
    this.#deadLetter = new DeadLetter(pipeline.stateDir, pipeline.hash, run.pool);
  }

  /** Makes the stages of the graph. Throws {@link CreateError}. */
  static async open(pipeline: Pipeline, run: RunParts, options: GenerationOptions): Promise<Generation> {
    const generation = new Generation(pipeline, run, options);
    const isRemote = options.remote !== undefined;
    const opened = isRemote ? new OpenPlugins(run.log) : generation.#opened;
    try {
      const stages = await createStages(pipeline, run, opened, generation.#abort.signal);
      generation.#columns = new Map([...stages].map(([id, { columns = [] }]) => [id, { columns }]));
      // Stages that run on other machines are created here to check their settings and to get their columns.
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
   * Creates sinks and sources; may be called again after {@link disconnect}. `again`: new results supersede old ones.
   * Throws {@link CreateError}, or OUTPUT_UNWRITABLE.
   */
  async connect(again = false): Promise<void> {
    const { once } = this.options;
    const { log } = this.run;
    const opened = new OpenPlugins(log);
    const abort = new AbortController();
    try {
      const parts = await createConnectors(this.pipeline, log, opened, this.#columns, abort.signal, {
        once,
        again,
        unsettled: (source, candidates) => this.#unsettled(source, candidates),
        unread: (source, name, reason) => this.options.onUnread({ source, name, reason }),
        leftAlone: (files) => this.options.onLeftAlone(files),
        outage: (source, message) => {
          this.options.monitor.outage(source, message === null ? null : { since: new Date(), message });
        },
      });
      this.#connectors = { opened, parts, abort };
    } catch (error) {
      abort.abort();
      await opened.dispose();
      throw error;
    }
  }

  /** Disposes of sinks and sources. */
  async disconnect(): Promise<void> {
    const connectors = this.#connectors;
    this.#connectors = undefined;
    connectors?.abort.abort();
    await connectors?.opened.dispose();
  }

  async dispose(): Promise<void> {
    await this.disconnect();
    this.#abort.abort();
    await this.#opened.dispose();
  }

  /** Admits no more files: frames in flight finish, parked frames stay parked. */
  stop(): void {
    this.#stop.next();
    // If the sources have offered everything, waiting files must no longer be admitted.
    this.#admission?.close();
    for (const outlet of this.#outlets.values()) outlet.stop();
  }

  /** Files that wait for admission (once stopped: that were not admitted), and frames in flight. */
  get load(): Pick<Load, 'waiting' | 'frames'> {
    return this.#admission?.load ?? { waiting: 0, frames: 0 };
  }

  /** Processes an earlier film again: see {@link PipelineRun.remake}. */
  async remake(origin: Origin): Promise<Remade> {
    const { size, mtimeMs } = await stat(origin.path).catch((cause: unknown) => {
      throw new RxrayError('FRAME_UNREADABLE', 'the file is gone', { cause });
    });
    const reply = await this.run.pool.read({ ...origin, size, mtimeMs }, this.pipeline.limits.bytes);
    if (reply?.sha256 !== origin.sha256) {
      throw new RxrayError('FRAME_UNREADABLE', 'the file has changed since');
    }
    const id = frameId(origin.source, origin.name, origin.sha256);
    const frame = { id, origin, encoded: reply.encoded, meta: {}, results: {} };
    return remake(this.pipeline, this.#stages, frame);
  }

  /** Pauses or resumes admission. */
  hold(on: boolean): void {
    if (on) this.#admission?.pause();
    else this.#admission?.resume();
  }

  /**
   * Runs the graph while subscribed; emits films as they settle. Completes when all films have finished, or when
   * `abandoned` emits; errors when the run cannot continue.
   */
  async start(abandoned: Observable<void>): Promise<Observable<Settled>> {
    const { pipeline, options } = this;
    const { once, policy, onAlready, monitor, remote } = options;
    const { limits } = pipeline;
    const { log, pool, journal } = this.run;
    const parked = await journal.parkedCounts();
    const deadLetter = this.#deadLetter;
    // The process may have ended between the journal's answer and the removal of the entry.
    for (const id of await journal.obsolete(await deadLetter.open())) await deadLetter.forget(id);
    const late = new Subject<Settled>();
    const admission =
      remote === undefined
        ? new Admission(limits, unstagedFrames(pipeline, pool.threads))
        : new Admission({ ...limits, frames: remote.frames, bytes: Infinity }, Infinity);
    this.#admission = admission;
    monitor.attach(pipeline, pool.threads);
    monitor.load = () => admission.load;
    // At the very end the journal may be closed.
    monitor.parked = () => journal.parkedCounts().catch(() => ({}));
    monitor.history = (since, minutes) => journal.history(since, minutes).catch(() => []);
    if (this.#connectors === undefined) throw new Error('the graph is not connected');
    const { sources, sinks } = this.#connectors.parts;
    this.#outlets = new Map(
      pipeline.sinks.map((node) => {
        const { id, plugin, retry, timeoutMs, onError = 'deadLetter' } = node;
        const sink = sinks.get(id);
        if (sink === undefined) throw new Error(`the sink "${id}" has not been made`);
        const { maxBatch = 1, outbox = false } = plugin;
        const meter = monitor.meter(id);
        meter.capacity = 1;
        const outlet = new Outlet({
          id,
          sink: meter.sink(sink),
          maxBatch,
          pixels: needsPixels(node),
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
      if (this.#outlets.has(sink)) log.info({ sink, count }, 'films of earlier runs are parked for the sink');
      else log.warn({ sink, count }, 'films are parked for a sink that this graph does not have');
    }
    const tokens$ = intake(options.replaysOnly ? new Map() : sources, {
      admission,
      pool,
      journal,
      limits,
      findDuplicates: pipeline.duplicates === 'skip',
      countImages: imageCounterOf(pipeline),
      elsewhere: remote && this.#elsewhere(remote),
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
    remote?.use(pipeline, monitor);
    const all$ =
      remote === undefined
        ? wire(pipeline, this.#stages, this.#outlets, tokens$, { log, pool, monitor })
        : wireRemote(pipeline, this.#outlets, tokens$, { remote, monitor });
    const answered$ = all$.pipe(
      allAnswered(pipeline.sinks.length === 0 ? [''] : pipeline.sinks.map(({ id }) => id)),
      takeUntil(
        abandoned.pipe(mergeMap(() => Promise.all([...this.#outlets.values()].map((each) => each.finish())))),
      ),
    );
    const live$ = answered$.pipe(
      mergeMap((ticket) => this.#conclude(ticket)),
      filter((settled) => settled !== undefined),
      // When the outlets have completed, no more parked films are delivered.
      tap({ complete: () => late.complete() }),
    );
    return merge(late, live$);
  }

  /** Where films are processed; without stages, they are only hashed. */
  #elsewhere(remote: Remote): Elsewhere {
    const { sources, stages, limits } = this.pipeline;
    const { signal } = this.#abort;
    if (stages.length === 0) {
      return {
        process: ({ candidate }) => this.run.pool.hash(candidate, limits.bytes),
        fetches: () => false,
      };
    }
    const fetched = new Set(sources.filter(({ plugin }) => plugin.fetcher !== undefined).map(({ id }) => id));
    return {
      process: (film) => remote.process(film, signal),
      fetches: (source) => remote.fetches && fetched.has(source),
    };
  }

  /**
   * Records the fate of a film that leaves the graph. Returns undefined if it still waits for a sink, or was settled
   * late already.
   */
  async #conclude(ticket: Ticket): Promise<Settled | undefined> {
    const { id, origin, candidate, failure, delivery } = ticket;
    const outcome = failure === undefined ? 'done' : 'failed';
    if (failure !== undefined && !isSkip(failure.code)) await this.#deadLetter.keep(ticket, failure);
    const status = await this.run.journal.record(this.#conclusionOf(ticket));
    await this.#endReplay(id, candidate, status, ticket.unread);
    if (status === outcome) await this.#putAway(origin.source, candidate, outcome, origin.sha256);
    ticket.release();
    const spans = this.options.monitor.leave(id);
    if (this.#refusedLate.delete(id) || status !== outcome) return undefined;
    return this.#settled(ticket, delivery, failure, spans);
  }

  /** Records the answer of a sink for a parked film. Returns undefined if that does not settle it. */
  async #concludeLate(
    sink: string,
    film: FilmFile,
    frame: Frame,
    thrown: unknown,
  ): Promise<Settled | undefined> {
    const { id, source, name, path, size, mtimeMs, sha256 } = film;
    const [ino, ctimeMs] = [film.ino ?? undefined, film.ctimeMs ?? undefined];
    const candidate = { path, name, size, mtimeMs, ino, ctimeMs };
    const { journal } = this.run;
    if (thrown === undefined) {
      if ((await journal.confirm(id, sink, isAbnormal(frame))) === null) return undefined;
      await this.#endReplay(id, candidate, 'done');
      await this.#putAway(source, candidate, 'done', sha256);
      return this.#settled({ id, origin: frame.origin }, frame, undefined, []);
    }
    const failure = failureOf(sink, thrown, 'FRAME_SINK');
    const failed: Failed = { id, candidate, origin: frame.origin };
    await this.#deadLetter.keep(failed, failure);
    const { code, message } = failure;
    const before = await journal.refuse({
      id,
      sink,
      code,
      message,
      graph: this.pipeline.hash,
      at: Date.now(),
    });
    if (before === 'failed' || this.#refusedLate.has(id)) return undefined;
    if (before === 'admitted') this.#refusedLate.add(id);
    await this.#putAway(source, candidate, 'failed', sha256);
    return this.#settled(failed, frame, failure, []);
  }

  /** Removes the film's dead-letter entry if it is done, and entries of earlier, unreadable versions of its file. */
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
      if (replay.entry === id) await endReplay(this.pipeline.stateDir, id);
      else await deadLetter.forget(replay.entry);
    } catch (error) {
      // The film is settled; the next start tries again.
      this.run.log.warn({ frame: id }, `an entry of the dead letter cannot be removed: ${messageOf(error)}`);
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

  #conclusionOf({ id, origin, candidate, fate, failure, delivery }: Ticket): Conclusion {
    const { path, name, size, mtimeMs, ino, ctimeMs } = candidate;
    const { source, sha256 } = origin;
    return {
      ...{ id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256: sha256 || null },
      fate,
      message: failure?.message ?? null,
      graph: this.pipeline.hash,
      at: Date.now(),
      abnormal: isAbnormal(delivery),
    };
  }

  /** An error is only logged: the film is settled, and the next start tries again. */
  async #putAway(
    source: string,
    candidate: Candidate,
    outcome: Outcome,
    sha256: string | null,
  ): Promise<void> {
    try {
      const instance = this.#connectors?.parts.sources.get(source);
      if (instance?.settle === undefined) return;
      const settle = instance.settle.bind(instance);
      const file = wholeFile(candidate);
      const end = partOf(candidate) === undefined ? outcome : await this.#outcomeOf(source, file);
      if (end === undefined) return;
      await durably('source.settle', () => settle(file, end, sha256 ?? ''));
    } catch (error) {
      const { log } = this.run;
      const { code = 'unknown error' } = error as NodeJS.ErrnoException;
      log.warn({ source }, `the file of a film that is ${outcome} could not be moved or deleted: ${code}`);
      log.debug({ source, file: candidate.name }, messageOf(error));
    }
  }

  /** Of a file with several films; undefined until all of them are settled. */
  async #outcomeOf(source: string, file: Candidate): Promise<Outcome | undefined> {
    const [record] = await this.run.journal.lookUp(source, [file], { since: 0, failedSince: 0 });
    return record === null || record?.status === 'waiting' ? undefined : record?.status;
  }

  async #unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]> {
    const { journal } = this.run;
    const found = await journal.lookUp(source, candidates, this.options.policy);
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

/** The largest count of the stages that count images; undefined if none does. */
function imageCounterOf({ stages }: Pipeline): ((path: string) => Promise<number>) | undefined {
  const counters = stages
    .map(({ plugin, settings }) => plugin.imageCounter?.(settings as never))
    .filter((counter) => counter !== undefined);
  if (counters.length === 0) return undefined;
  return async (path) => Math.max(...(await Promise.all(counters.map((count) => count(path)))));
}

function isAbnormal(frame: Frame | null): boolean {
  return verdictOf(frame?.results ?? {}).abnormal === true;
}

/** Emits each ticket when all sinks have answered. Errors when the run cannot continue. */
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
