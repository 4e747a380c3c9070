import { stat } from 'node:fs/promises';
import type { Container } from 'inversify';
import { concatMap, EMPTY, mergeMap, of, share, Subject, type Observable, type OperatorFunction } from 'rxjs';
import type { Pipeline } from './config/pipeline.js';
import { createGraphContainer, JOURNAL, LOG, SOURCE } from './container.js';
import { DeadLetter } from './dead-letter.js';
import { isFatal, messageOf, RxrayError } from './errors.js';
import { frameId, type Frame, type Origin } from './frame.js';
import { createParts } from './graph/create.js';
import type { Settlement } from './graph/deliver.js';
import { takeIn } from './graph/intake.js';
import { remake, type Remade } from './graph/remake.js';
import type { Failure, Ticket } from './graph/ticket.js';
import { wire } from './graph/wire.js';
import type { Span } from './monitor/meter.js';
import { Monitor } from './monitor/monitor.js';
import type { Candidate, Outcome } from './plugin.js';
import { WorkerPool } from './workers/pool.js';

export interface RunOptions {
  /** End when everything that is there has been processed. Default: go on watching. */
  readonly once?: boolean;
  /** Process again what the journal says is settled. */
  readonly again?: boolean;
  readonly now?: () => Date;
  /** Is told what the graph does; one may watch several graphs, one after the other. */
  readonly monitor?: Monitor;
}

/** A film at the end of its way: every sink has it, or it lies in the dead letter. */
export interface Settled {
  readonly id: string;
  /** The path inside the source. */
  readonly name: string;
  readonly origin: Origin;
  readonly outcome: Outcome;
  /** The frame as the last sink took it; null when none did. */
  readonly frame: Frame | null;
  readonly failure?: Failure;
  /** The hash of the graph that did it. */
  readonly graph: string;
  /** How long each call of a stage or sink took for it, in the order of their ends. */
  readonly spans: readonly Span[];
}

export interface Summary {
  readonly done: number;
  readonly failed: number;
  /** Files that were left alone because the journal says that they are done. */
  readonly already: number;
  /** Files that were left alone because they failed before. */
  readonly failedBefore: number;
  readonly seconds: number;
}

/** How many files were done, and had failed, before this run. */
export interface Already {
  readonly done: number;
  readonly failed: number;
}

/** A running graph. */
export interface PipelineRun {
  /** Every film as it settles. Completes, or errors, with the run. */
  readonly settled$: Observable<Settled>;
  /** Files that the journal has settled already, each time that a source finds some. */
  readonly already$: Observable<Already>;
  /** Resolves when the run has ended and everything is closed; rejects with what ended it, if that was an error. */
  readonly finished: Promise<Summary>;
  /**
   * Takes a film that was once admitted through the stages again, for looking at: from `path`, which
   * must still hold the same bytes. Rejects with FRAME_UNREADABLE when it does not.
   */
  remake(origin: Origin): Promise<Remade>;
  /** Takes no more files, and ends when those in flight are through. */
  stop(): void;
}

/**
 * Makes the graph's plugins and starts it, in a child of `parent`, which is disposed of with the run.
 * Throws {@link CreateError} when plugins refuse, STATE_* and OUTPUT_* errors when there is no place to write.
 */
export async function startPipeline(
  pipeline: Pipeline,
  parent: Container,
  options: RunOptions = {},
): Promise<PipelineRun> {
  const { once = false, again = false, now = () => new Date(), monitor = new Monitor() } = options;
  const container = createGraphContainer(parent, pipeline);
  const started = performance.now();
  const since = again ? Date.now() : 0;
  const stop = new Subject<void>();
  const abort = new AbortController();
  const settled = new Subject<Settled>();
  const already = new Subject<Already>();
  const counts = { done: 0, failed: 0, already: 0, failedBefore: 0 };
  already.subscribe(({ done, failed }) => {
    counts.already += done;
    counts.failedBefore += failed;
    monitor.films.already += done;
    monitor.films.failedBefore += failed;
  });

  try {
    const log = container.get(LOG);
    const pool = container.get(WorkerPool);
    monitor.attach(pipeline, pool.threads);
    pool.onWorked = (stage, seconds) => monitor.worked(stage, seconds);
    const journal = await container.getAsync(JOURNAL);
    const deadLetter = container.get(DeadLetter);
    /** A warning only: the film is settled, and the next start tries again. */
    const putAway = async (source: string, candidate: Candidate, outcome: Outcome): Promise<void> => {
      try {
        await container.get(SOURCE, { name: source }).settle?.(candidate, outcome);
      } catch (error) {
        const { code = 'unknown error' } = error as NodeJS.ErrnoException;
        log.warn({ source }, `a file that is ${outcome} could not be put where it belongs: ${code}`);
        log.debug({ source, file: candidate.name }, messageOf(error));
      }
    };
    const parts = await createParts(pipeline, container, {
      once,
      again,
      signal: abort.signal,
      unsettled: async (source, candidates) => {
        const outcomes = await journal.outcomes(source, candidates, since);
        const of = (outcome: Outcome | null): Candidate[] =>
          candidates.filter((_, index) => outcomes[index] === outcome);
        const [done, failed] = [of('done'), of('failed')];
        if (done.length + failed.length > 0) already.next({ done: done.length, failed: failed.length });
        // It may have ended between the journal's word and the source's deed.
        for (const candidate of done) await putAway(source, candidate, 'done');
        return of(null);
      },
    });

    const tokens$ = takeIn(parts.sources, {
      pool,
      journal,
      limits: pipeline.limits,
      once,
      since,
      stop$: stop,
      onAlready: ({ source, candidate }, outcome) => {
        already.next({ done: outcome === 'done' ? 1 : 0, failed: outcome === 'failed' ? 1 : 0 });
        if (outcome === 'done') void putAway(source, candidate, outcome);
      },
      now,
      monitor,
    });
    const { threads } = pool;
    const settlements$ = wire(pipeline, parts, tokens$.pipe(share()), { log, threads, now, monitor });
    const conclude = async (ticket: Ticket, frame: Frame | null): Promise<Settled> => {
      const { id, origin, candidate, failure } = ticket;
      const outcome = failure === undefined ? 'done' : 'failed';
      if (failure !== undefined) await deadLetter.keep(ticket, failure);
      await journal.record({
        id,
        source: origin.source,
        name: origin.name,
        path: origin.path,
        size: origin.size,
        mtimeMs: origin.mtimeMs,
        sha256: origin.sha256 || null,
        outcome,
        reason: failure === undefined ? null : `${failure.code}: ${failure.message}`,
        graph: pipeline.hash,
        at: now().getTime(),
      });
      await putAway(origin.source, candidate, outcome);
      ticket.release();
      return {
        id,
        name: origin.name,
        origin,
        outcome,
        frame,
        ...(failure !== undefined && { failure }),
        graph: pipeline.hash,
        spans: monitor.leave(id),
      };
    };

    const run$ = settlements$.pipe(
      whole(Math.max(1, pipeline.sinks.length)),
      mergeMap(({ ticket, frame }) => conclude(ticket, frame)),
    );

    const finished = new Promise<void>((resolve, reject) => {
      run$.subscribe({
        next: (film) => {
          counts[film.outcome] += 1;
          monitor.settle(film);
          settled.next(film);
        },
        error: reject,
        complete: resolve,
      });
    }).finally(async () => {
      abort.abort();
      await container.unbindAllAsync();
    });
    return {
      settled$: settled.asObservable(),
      already$: already.asObservable(),
      finished: finished.then(
        () => {
          settled.complete();
          return { ...counts, seconds: (performance.now() - started) / 1000 };
        },
        (error: unknown) => {
          settled.error(error);
          throw error;
        },
      ),
      remake: async (origin) => {
        const { size, mtimeMs } = await stat(origin.path).catch((cause: unknown) => {
          throw new RxrayError('FRAME_UNREADABLE', 'the file is not where it was', { cause });
        });
        const reply = await pool.read({ ...origin, size, mtimeMs }, pipeline.limits.bytes);
        if (reply?.sha256 !== origin.sha256) {
          throw new RxrayError('FRAME_UNREADABLE', 'the file has changed since');
        }
        const { id, encoded } = { id: frameId(origin.source, origin.name, origin.sha256), ...reply };
        return remake(pipeline, parts, { id, origin, encoded, meta: {}, results: {} });
      },
      stop: () => {
        stop.next();
      },
    };
  } catch (error) {
    abort.abort();
    await container.unbindAllAsync();
    throw error;
  }
}

/** Collects the settlements of each ticket until all sinks have spoken. Errors when a sink cannot go on. */
function whole(sinks: number): OperatorFunction<Settlement, { ticket: Ticket; frame: Frame | null }> {
  const open = new Map<Ticket, { left: number; frame: Frame | null }>();
  return concatMap(({ sink, token: { ticket }, frame, thrown }) => {
    if (thrown !== undefined) {
      if (thrown instanceof RxrayError && isFatal(thrown)) throw thrown;
      ticket.refuse(sink, thrown, 'FRAME_SINK');
    }
    const state = open.get(ticket) ?? { left: sinks, frame: null };
    state.left -= 1;
    state.frame = frame ?? state.frame;
    open.set(ticket, state);
    if (state.left > 0) return EMPTY;
    open.delete(ticket);
    return of({ ticket, frame: state.frame });
  });
}
