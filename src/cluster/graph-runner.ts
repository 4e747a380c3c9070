import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { Container } from 'inversify';
import { Subject } from 'rxjs';
import type { Pipeline } from '../core/config/pipeline.js';
import { createRunContainer, stageHostOf } from '../core/container.js';
import { errorKind, messageOf } from '../core/errors.js';
import { isAnswered } from '../core/fate.js';
import { frameId, sealed, withoutPixels, type Frame } from '../core/frame.js';
import { Admission, unstagedFrames } from '../core/intake/admission.js';
import type { Candidate, Copy, Fetcher } from '../core/plugin.js';
import { createFetchers, createStages, OpenPlugins, type StageHost } from '../core/run/create.js';
import type { Findings } from '../core/flow/elsewhere.js';
import { Ticket, type Failure, type Token } from '../core/flow/ticket.js';
import { wire } from '../core/graph/wire.js';
import type { Monitor } from '../core/monitor/monitor.js';
import type { Outlet } from '../core/outlets/outlet.js';
import type { WorkerPool } from '../core/workers/pool.js';
import { toPlainError, type PlainError } from '../core/workers/protocol.js';
import { fetchFilm, type HeadAddress } from './film-server.js';
import type { WorkerSink } from './graph.js';
import type { Assignment, Result } from './protocol.js';

/** How often a missing file is looked for: network file systems may show new files late. */
const LOOKS = 4;
const LOOK_MS = 250;

/** Runs the stages of a graph on a worker, without sources and sinks. */
export class GraphRunner {
  readonly #abort = new AbortController();
  readonly #admitted = new Subject<Token>();
  /** Films in the graph, by the ids of their frames; each resolves with the film's outcome. */
  readonly #inside = new Map<string, Promise<Result['outcome']>>();
  readonly #resolve = new Map<string, (outcome: Result['outcome']) => void>();
  /** By source. */
  #fetchers: ReadonlyMap<string, Fetcher> = new Map();
  readonly #admission: Admission;
  readonly #opened: OpenPlugins;

  private constructor(
    readonly pipeline: Pipeline,
    private readonly monitor: Monitor,
    private readonly host: StageHost,
    private readonly films: HeadAddress | undefined,
    private readonly close: () => Promise<void>,
  ) {
    this.#opened = new OpenPlugins(host.log);
    const unstaged = unstagedFrames(pipeline, host.pool.threads);
    this.#admission = new Admission({ ...pipeline.limits, frames: Infinity }, unstaged);
  }

  /**
   * Makes the stages; `monitor` observes them. `films`: where films are fetched; default: they are read under the head's
   * paths. Throws `CreateError`.
   */
  static async open(
    pipeline: Pipeline,
    parent: Container,
    monitor: Monitor,
    films?: HeadAddress,
  ): Promise<GraphRunner> {
    const container = createRunContainer(parent, pipeline);
    const host = stageHostOf(container);
    const runner = new GraphRunner(pipeline, monitor, host, films, () => container.unbindAllAsync());
    try {
      const { signal } = runner.#abort;
      runner.#fetchers = await createFetchers(pipeline, host.log, runner.#opened, signal);
      runner.#run(await createStages(pipeline, host, runner.#opened, signal));
      return runner;
    } catch (error) {
      await runner.dispose();
      throw error;
    }
  }

  /**
   * How many films to have at a time: as many as take a second, but at least enough to fill the largest batch while
   * another is processed, and no more than hide the time that messages take. Another worker may be idle.
   */
  room(filmsPerSecond: number): number {
    const { threads } = this.host.pool;
    const ofStages = (unbatched: number): number[] =>
      this.pipeline.stages.map(
        ({ batch, concurrency = 1 }) => (batch?.size ?? unbatched) * (concurrency + 1),
      );
    const least = Math.max(2 * threads, ...ofStages(1));
    const most = Math.max(4 * threads, ...ofStages(16));
    return Math.min(most, Math.max(least, Math.ceil(filmsPerSecond)));
  }

  /** Processes a film. Never rejects. */
  async process(film: Assignment): Promise<Result['outcome']> {
    const { source, candidate, receivedAt, repeat } = film;
    let copy: Copy | undefined;
    try {
      copy = await this.#fetchers.get(source)?.fetch(candidate, this.pipeline.limits.bytes);
    } catch (error) {
      return unread(error);
    }
    const fetched = copy === undefined ? candidate : { ...candidate, copy };
    let read: { encoded: Uint8Array; sha256: string } | null;
    try {
      read = this.films === undefined ? await this.#read(fetched) : await this.#receive(this.films, film);
    } catch (error) {
      return unread(error);
    } finally {
      if (copy !== undefined) await rm(copy.path, { force: true });
    }
    if (read === null) return { kind: 'unseen' };
    const { encoded, sha256 } = read;
    const { path, name, size, mtimeMs } = candidate;
    const id = frameId(source, name, sha256);
    const origin = { path, name, size, mtimeMs, source, sha256, receivedAt };
    const meta = candidate.group === undefined ? {} : { group: candidate.group };
    const frame = sealed({
      ...{ id, origin, encoded, meta, results: {} },
      ...(repeat !== undefined && { repeat }),
    });
    // The file was replaced by one with the same bytes.
    for (let other = this.#inside.get(id); other !== undefined; other = this.#inside.get(id)) await other;
    const outcome = new Promise<Result['outcome']>((resolve) => this.#resolve.set(id, resolve));
    this.#inside.set(id, outcome);
    const admitted = { source, candidate };
    const ticket: Ticket = new Ticket(id, candidate, origin, {
      release: () => {
        this.#admission.release(Object.assign(admitted, { ticket }));
      },
      onProgress: () => {
        this.#admission.progress();
      },
    });
    ticket.hold(encoded.byteLength);
    await this.#admission.enter(ticket);
    this.#admitted.next({ ticket, frame });
    return outcome;
  }

  async dispose(): Promise<void> {
    this.#abort.abort();
    await this.#opened.dispose();
    await this.close();
  }

  /** From the head; null if it does not have the film any more. Throws if it cannot be reached. */
  async #receive(
    films: HeadAddress,
    { id, candidate: { size, copy, replay } }: Assignment,
  ): Promise<{ encoded: Uint8Array; sha256: string } | null> {
    for (let look = 1; ; look += 1) {
      try {
        const encoded = await fetchFilm(films, id, (copy ?? replay?.copy)?.size ?? size);
        return encoded && { encoded, sha256: createHash('sha256').update(encoded).digest('hex') };
      } catch (error) {
        const message = `the film cannot be fetched from the head: ${messageOf(error)}`;
        this.host.log.warn({ film: id }, message);
        if (look === LOOKS) throw new Error(message, { cause: error });
        await setTimeout(LOOK_MS);
      }
    }
  }

  async #read(candidate: Candidate): ReturnType<WorkerPool['read']> {
    for (let look = 1; ; look += 1) {
      const reply = await this.host.pool.read(candidate, this.pipeline.limits.bytes);
      if (reply !== null || look === LOOKS) return reply;
      await setTimeout(LOOK_MS);
    }
  }

  #run(stages: Parameters<typeof wire>[1]): void {
    const { pipeline, monitor } = this;
    const { log, pool } = this.host;
    monitor.attach(pipeline, pool.threads);
    const sinks = pipeline.sinks.map(({ id }) => id);
    /** What the sinks need of the pixels of films in the graph, by film and sink. */
    const rendered = new Map<string, Frame['rendered']>();
    const outlets = new Map(
      pipeline.sinks.map((sink: WorkerSink) => [
        sink.id,
        collector(async (frame) => {
          const render = sink.plugin?.render;
          if (render === undefined) return;
          const key = `${frame.id} ${sink.id}`;
          try {
            rendered.set(key, await render(frame, sink.settings as never));
          } catch (error) {
            rendered.set(key, { failed: messageOf(error) });
          }
        }),
      ]),
    );
    const found = new Map<string, Record<string, Findings[string]>>();
    wire(pipeline, stages, outlets, this.#admitted, { log, pool, monitor }).subscribe({
      next: ({ sink, token: { ticket }, frame, kind }) => {
        ticket.answer(sink, kind === 'refuse' ? 'skip' : kind);
        const findings = found.get(ticket.id) ?? {};
        found.set(ticket.id, findings);
        const key = `${ticket.id} ${sink}`;
        findings[sink] = frame && findingsOf(frame, rendered.get(key));
        rendered.delete(key);
        if (!isAnswered(ticket.fate, sinks)) return;
        found.delete(ticket.id);
        ticket.release();
        const done = this.#resolve.get(ticket.id);
        this.#resolve.delete(ticket.id);
        this.#inside.delete(ticket.id);
        const { failure } = ticket;
        const { sha256 } = ticket.origin;
        done?.(
          failure === undefined
            ? { kind: 'made', sha256, findings }
            : { kind: 'failed', sha256, error: plain(failure) },
        );
      },
    });
  }
}

/** A film that cannot be read fails; of other errors, this machine may be the cause. */
function unread(error: unknown): Result['outcome'] {
  return errorKind(error) === 'frame'
    ? { kind: 'failed', error: toPlainError(error) }
    : { kind: 'unseen', reason: messageOf(error) };
}

function findingsOf(frame: Frame, rendered: Frame['rendered']): Findings[string] {
  const { meta, results } = withoutPixels(frame);
  return { meta, results, ...(rendered !== undefined && { rendered }) };
}

/** Without the cause, which may not be serialisable. */
function plain({ code, message, component }: Failure): PlainError {
  return { code, message, component };
}

/** In place of a sink: confirms everything after `render`, since the head's sinks deliver. */
function collector(render: (frame: Frame) => Promise<void>): Outlet {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const outlet: Pick<Outlet, 'run' | 'deliver' | 'end' | 'close'> = {
    run: () => ended,
    deliver: async (frame) => {
      await render(frame);
      return { kind: 'confirm' };
    },
    end,
    close: end,
  };
  return outlet as Outlet;
}
