import { setTimeout } from 'node:timers/promises';
import type { Container } from 'inversify';
import { delay, finalize, interval, merge, ReplaySubject, Subject, takeUntil, type Observable } from 'rxjs';
import type { Pipeline } from './config/pipeline.js';
import { createRunContainer, JOURNAL, stageHostOf } from './container.js';
import { isSkip, RxrayError } from './errors.js';
import type { Origin } from './frame.js';
import { publish } from './part.js';
import { diskIsLow } from './intake/disk.js';
import { Generation, type GenerationOptions, type RunParts, type Unread } from './run/generation.js';
import type { Remote } from './graph/remote.js';
import type { Settled } from './flow/settled.js';
import type { Remade } from './run/remake.js';
import type { Journal } from './journal/journal.js';
import type { Policy } from './journal/protocol.js';
import { Monitor } from './monitor/monitor.js';

export interface RunOptions {
  /** End when all present files have been processed. Default: keep watching. */
  readonly once?: boolean;
  /** Process done films again. If this run is interrupted, the next one continues it. */
  readonly again?: boolean;
  /** Process failed films again. */
  readonly failed?: boolean;
  /** Process only dead-letter entries whose replay was requested. */
  readonly replaysOnly?: boolean;
  /**
   * Runs the stages on other machines; called when this process holds the journal. Default: they run in this process.
   */
  readonly remote?: (journal: Journal) => Promise<Remote>;
  /** Observes and counts this run, and no other. Default: a new one. */
  readonly monitor?: Monitor;
}

export interface Summary {
  readonly done: number;
  readonly failed: number;
  /** Files that are not films: DICOM reports, documents, waveforms. */
  readonly skipped: number;
  /** Deliveries parked in the journal. */
  readonly waiting: number;
  /** Films that were still in flight after `shutdownTimeoutMs`: the next start processes them. */
  readonly unfinished: number;
  /** Files that were skipped because they are done. */
  readonly already: number;
  /** Files that were skipped because they failed before. */
  readonly failedBefore: number;
  /** Those of {@link already} that another version of the graph processed. */
  readonly otherGraph: number;
  /** Files and folders that may hold films and could not be read: see {@link PipelineRun.unread$}. */
  readonly unread: number;
  /** Files that are known to be no images by their names (`Thumbs.db`, `notes.txt`). */
  readonly leftAlone: number;
  readonly seconds: number;
}

/** Numbers of files that were done, or had failed, before this run. */
export interface Already {
  readonly done: number;
  readonly failed: number;
  /** Those of `done` that another version of the graph processed. */
  readonly otherGraph: number;
}

/** A running graph. */
export interface PipelineRun {
  /** Every film as it settles. Completes, or errors, with the run. */
  readonly settled$: Observable<Settled>;
  /** Files that are settled already, each time that a source finds some. */
  readonly already$: Observable<Already>;
  /**
   * Files and folders that may hold films and cannot be read: no permission, a name that is not UTF-8, always changing.
   */
  readonly unread$: Observable<Unread>;
  /** Resolves when the run has ended and everything is closed; rejects with the error that ended it. */
  readonly finished: Promise<Summary>;
  /**
   * Processes an earlier film again, only for display: from `path`, which must still have the same bytes. Rejects with
   * FRAME_UNREADABLE if it has not.
   */
  remake(origin: Origin): Promise<Remade>;
  /**
   * Replaces this graph by another when the films in flight have finished, or after `shutdownTimeoutMs`: the new graph
   * then processes the rest. Rejects, while the present graph continues, with {@link CreateError} if plugins refuse,
   * and with CONFIG_REFUSED for changes that need a restart.
   */
  reload(pipeline: Pipeline): Promise<void>;
  /** Admits no more files, and ends when those in flight have finished, or after `shutdownTimeoutMs`. */
  stop(): void;
}

/** The generation that replaces the present one. */
interface Swap {
  readonly next: Generation;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** How often hanging stages are checked. */
const LOOK_MS = 5000;
/** How long plugins may take to close after `shutdownTimeoutMs`. */
const ABANDON_MS = 5000;

/**
 * Creates the graph's plugins and starts it. `parent` has the services of the process; those of the run are closed with
 * the run. Throws {@link CreateError} if plugins refuse, STATE_* and OUTPUT_* errors if files cannot be written.
 */
export async function startPipeline(
  pipeline: Pipeline,
  parent: Container,
  options: RunOptions = {},
): Promise<PipelineRun> {
  const { once = false, again = false, failed = false } = options;
  const { monitor = new Monitor(), replaysOnly = false } = options;
  const container = createRunContainer(parent, pipeline);
  const started = performance.now();
  const settled = new Subject<Settled>();
  const already = new Subject<Already>();
  const unread = new ReplaySubject<Unread>(1000);
  /** Emits when `shutdownTimeoutMs` is over. */
  const abandoned = new ReplaySubject<void>(1);
  /** The same for a graph that is being replaced. */
  const superseded = new Subject<void>();
  const { films } = monitor;
  const counts = { otherGraph: 0, unread: 0 };
  let stopping = false;
  let swap: Swap | undefined;
  let isOver = false;

  let parts: RunParts;
  let generationOptions: GenerationOptions;
  let generation: Generation;
  let remote: Remote | undefined;
  try {
    parts = { ...stageHostOf(container), journal: await container.getAsync(JOURNAL) };
    const policy = await policyOf(pipeline, parts, { again, failed });
    remote = await options.remote?.(parts.journal);
    monitor.remote = () => remote?.status(monitor.load().waiting) ?? null;
    generationOptions = {
      remote,
      once,
      replaysOnly,
      policy,
      onAlready: (known) => {
        const done = known.filter(({ status }) => status === 'done');
        const found = {
          done: done.length,
          failed: known.filter(({ status, code }) => status === 'failed' && !isSkip(code)).length,
          otherGraph: done.filter(({ graph }) => graph !== generation.pipeline.hash).length,
        };
        films.already += found.done;
        films.failedBefore += found.failed;
        counts.otherGraph += found.otherGraph;
        if (found.done + found.failed > 0) already.next(found);
      },
      onUnread: (place) => {
        counts.unread += 1;
        unread.next(place);
      },
      onLeftAlone: (files) => {
        films.leftAlone += files;
      },
      monitor,
    };
    generation = await Generation.open(pipeline, parts, generationOptions);
    try {
      await generation.connect(again);
    } catch (error) {
      await generation.dispose();
      throw error;
    }
  } catch (error) {
    await remote?.close();
    await container.unbindAllAsync();
    throw error;
  }
  const { log, journal } = parts;

  /** Stages whose trouble has been logged, and its start. */
  const reported = new Map<string, number>();

  /** Runs the present generation to its end. */
  async function runGeneration(): Promise<void> {
    const timeUp = merge(abandoned, superseded);
    const films$ = await generation.start(timeUp);
    const { minFreeBytes } = generation.pipeline.limits;
    // No film is admitted before the disk has been checked.
    if (minFreeBytes > 0) generation.hold(true);
    const disk = diskIsLow(pipeline.stateDir, minFreeBytes).subscribe((low) => {
      generation.hold(low);
      const message = 'the disk is nearly full: no film is admitted until there is space again';
      monitor.held = low ? { since: new Date(), message } : null;
      if (low) log.warn({}, message);
      else log.info({}, 'there is enough space on the disk');
    });
    const hanging = interval(LOOK_MS).subscribe(() => {
      for (const { entry, kind, since, message } of monitor.troubles) {
        if (kind !== 'stage' || reported.get(entry) === since.getTime()) continue;
        reported.set(entry, since.getTime());
        log.warn({ stage: entry, since }, `the stage makes no progress: ${message}`);
      }
    });
    // A stop may have been requested meanwhile.
    const ended = new Promise<void>((resolve, reject) => {
      films$
        .pipe(
          takeUntil(timeUp.pipe(delay(ABANDON_MS))),
          finalize(() => {
            disk.unsubscribe();
            hanging.unsubscribe();
          }),
        )
        .subscribe({
          next: (film) => {
            monitor.settle(film);
            settled.next(film);
            if (hasTooManyErrors()) stop();
          },
          error: reject,
          complete: resolve,
        });
    });
    if (stopping || swap !== undefined) generation.stop();
    await ended;
  }

  /** Closes the present sinks and sources and opens those of the next generation; if those fail, opens the present ones again. */
  async function exchange({ next, resolve, reject }: Swap): Promise<void> {
    const before = generation;
    await inTime(before.disconnect(), before);
    try {
      await next.connect();
    } catch (error) {
      await next.dispose();
      await before.connect();
      reject(error);
      return;
    }
    generation = next;
    await inTime(before.dispose(), before);
    resolve();
  }

  async function run(): Promise<Summary> {
    for (;;) {
      await runGeneration();
      const wanted = swap;
      swap = undefined;
      if (wanted === undefined) break;
      if (stopping) {
        await wanted.next.dispose();
        wanted.reject(new RxrayError('CONFIG_REFUSED', 'the run was stopped'));
        break;
      }
      await exchange(wanted);
    }
    const { frames: unfinished, waiting } = generation.load;
    // Every file was processed. With `once` a stop comes before the sources have offered all.
    if (unfinished === 0 && waiting === 0 && !replaysOnly && !(once && stopping))
      await journal.note(AGAIN, null);
    const parked = Object.values(await journal.parkedCounts());
    if (hasTooManyErrors()) {
      const { maxErrors = 0, stateDir } = generation.pipeline;
      const failed = films.failed === 1 ? '1 film has' : `${films.failed} films have`;
      throw new RxrayError(
        'RUN_STOPPED',
        `${failed} failed, and \`maxErrors: ${maxErrors}\` ends the run then: see ${stateDir}/deadletter for each with its reason; the next run processes the remaining films`,
      );
    }
    return {
      ...films,
      ...counts,
      waiting: parked.reduce((sum, count) => sum + count, 0),
      unfinished,
      seconds: (performance.now() - started) / 1000,
    };
  }

  function hasTooManyErrors(): boolean {
    return films.failed >= (generation.pipeline.maxErrors ?? Infinity);
  }

  function stop(): void {
    if (stopping) return;
    stopping = true;
    generation.stop();
    void setTimeout(generation.pipeline.shutdownTimeoutMs, undefined, { ref: false }).then(() =>
      abandoned.next(),
    );
  }

  /** Throws CONFIG_REFUSED if no other graph can take over now. */
  function requireFree(): void {
    if (!isOver && !stopping && swap === undefined) return;
    const why = isOver
      ? 'the run has ended'
      : stopping
        ? 'the run is being stopped'
        : 'another graph is taking over';
    throw new RxrayError('CONFIG_REFUSED', why);
  }

  async function close(): Promise<void> {
    isOver = true;
    swap?.reject(new RxrayError('CONFIG_REFUSED', 'the run has ended'));
    void swap?.next.dispose();
    await generation.dispose();
    await remote?.close();
    await container.unbindAllAsync();
  }

  const finished = run()
    .finally(() => inTime(close(), generation))
    .then(async (summary) => {
      const { part } = pipeline;
      const isComplete = once && !stopping && summary.waiting + summary.unfinished + summary.unread === 0;
      if (part !== undefined && isComplete) await Promise.all(part.outputs.map(publish));
      return summary;
    })
    .then(
      (summary) => {
        settled.complete();
        return summary;
      },
      (error: unknown) => {
        settled.error(error);
        throw error;
      },
    );

  return {
    settled$: settled.asObservable(),
    already$: already.asObservable(),
    unread$: unread.asObservable(),
    finished,
    remake: (origin) => generation.remake(origin),
    reload: async (changed) => {
      for (const [key, isChanged] of [
        ['state', changed.stateDir !== pipeline.stateDir],
        ['threads', changed.threads !== pipeline.threads],
      ] as const) {
        if (!isChanged) continue;
        const message = `\`${key}:\` cannot be changed while the graph runs: restart it`;
        throw new RxrayError('CONFIG_REFUSED', message);
      }
      requireFree();
      const next = await Generation.open(changed, parts, generationOptions);
      // The run may have been stopped, or another graph been opened, while the stages were made.
      try {
        requireFree();
      } catch (error) {
        await next.dispose();
        throw error;
      }
      await new Promise<void>((resolve, reject) => {
        swap = { next, resolve, reject };
        generation.stop();
        void setTimeout(generation.pipeline.shutdownTimeoutMs, undefined, { ref: false }).then(() => {
          if (swap?.next !== next) return;
          const { frames } = generation.load;
          const left = frames === 1 ? '1 film' : `${frames} films`;
          log.warn(
            { frames },
            `the new graph starts without waiting for ${left}: \`shutdownTimeoutMs\` is over`,
          );
          superseded.next();
        });
      });
    },
    stop,
  };
}

/** Waits until a graph has closed, for a limited time if it still has frames in flight. */
async function inTime(letGo: Promise<void>, { load }: Generation): Promise<void> {
  const patience = load.frames > 0 ? [setTimeout(ABANDON_MS, undefined, { ref: false })] : [];
  await Promise.race([letGo, ...patience]);
}

/** The journal's key for an unfinished run with `again`. */
const AGAIN = 'again';

/** What counts as settled: with `again`, or after an interrupted run with `again`, older films do not. */
async function policyOf(
  { sources }: Pipeline,
  { journal, log }: RunParts,
  { again, failed }: Required<Pick<RunOptions, 'again' | 'failed'>>,
): Promise<Policy> {
  const at = Date.now();
  const failedSince = failed ? at : 0;
  // With other folders, an interrupted run is not continued.
  const folders = JSON.stringify(sources.map(({ id, settings }) => ({ id, settings })));
  if (again) {
    await journal.note(AGAIN, JSON.stringify({ since: at, folders }));
    return { since: at, failedSince };
  }
  const noted = JSON.parse((await journal.noted(AGAIN)) ?? 'null') as {
    since: number;
    folders: string;
  } | null;
  if (noted?.folders !== folders) return { since: 0, failedSince };
  log.info({}, 'an earlier run with --again was interrupted: this run continues it');
  return { since: noted.since, failedSince };
}
