import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { Container } from 'inversify';
import { defer, from, mergeMap } from 'rxjs';
import { z } from 'zod';
import type { Pipeline, SinkNode, SourceNode, StageNode } from '../core/config/pipeline.js';
import type { Frame, StageResult } from '../core/frame.js';
import type { Failure } from '../core/flow/ticket.js';
import { defineSink, defineSource, defineStage, type Candidate } from '../core/plugin.js';
import { startPipeline } from '../core/run.js';

/** A film to process. */
export interface FilmToTest {
  /** The file, relative to the working directory. */
  readonly path: string;
  /** The path inside the source. Default: the file's name. */
  readonly name?: string;
}

/** A mocked stage: adds a result under its id to every frame, or fails with a message. */
export type Mock = { readonly result: StageResult } | { readonly error: string };

export interface GraphTestOptions {
  /** Mocked stages, by id; other ids are ignored. */
  readonly mocks?: Readonly<Record<string, Mock>>;
  /** The container with services that stages need (the engine, for example). */
  readonly host: Container;
}

/** The result of a film. */
export interface TestedFilm {
  readonly name: string;
  /** The frame as delivered to the last sink; null if to none. */
  readonly frame: Frame | null;
  /** The ids of the sinks that got it, in the graph's order. */
  readonly sinks: readonly string[];
  readonly failure?: Failure;
}

const noOptions = z.strictObject({});

/**
 * Processes films by a graph without its sources and sinks: nothing is watched, written or sent, and the journal is in
 * a temporary folder. Conditions (`when`) apply: `sinks` names the sinks that would have got a film. Resolves with the
 * films in the given order. Rejects with `CreateError` if a plugin refuses its settings.
 */
export async function runFilms(
  pipeline: Pipeline,
  films: readonly FilmToTest[],
  { mocks = {}, host }: GraphTestOptions,
): Promise<TestedFilm[]> {
  const stateDir = await mkdtemp(join(tmpdir(), 'rxray-graph-'));
  const got = new Map<string, Set<string>>();
  const [source] = pipeline.sources;
  try {
    const run = await startPipeline(
      {
        ...pipeline,
        stateDir,
        sources: source === undefined ? [] : [listing(source, films)],
        stages: pipeline.stages.map((stage) => {
          const mock = mocks[stage.id];
          return mock === undefined ? stage : mocked(stage, mock);
        }),
        sinks: pipeline.sinks.map((sink) =>
          recording(sink, ({ id }) => got.set(id, (got.get(id) ?? new Set()).add(sink.id))),
        ),
      },
      host,
      { once: true },
    );
    const settled = new Map<string, TestedFilm>();
    run.settled$.subscribe({
      next: ({ id, name, frame, failure }) => {
        const sinks = pipeline.sinks.map((sink) => sink.id).filter((sink) => got.get(id)?.has(sink));
        settled.set(name, { name, frame, sinks, ...(failure !== undefined && { failure }) });
      },
      error: () => undefined,
    });
    await run.finished;
    return films.map((film) => {
      const tested = settled.get(nameOf(film));
      if (tested === undefined) throw new Error(`the graph did not emit ${film.path}`);
      return tested;
    });
  } finally {
    await rm(stateDir, { recursive: true, force: true });
  }
}

function nameOf({ path, name = basename(path) }: FilmToTest): string {
  return name;
}

function listing(node: SourceNode, films: readonly FilmToTest[]): SourceNode {
  const candidate = async (film: FilmToTest): Promise<Candidate> => {
    const path = resolve(film.path);
    const { size, mtimeMs } = await stat(path);
    return { path, name: nameOf(film), size, mtimeMs };
  };
  const plugin = defineSource({
    name: 'films-to-test',
    summary: 'Offers the films of a test.',
    options: noOptions,
    create: () => ({ candidates$: defer(() => from(films)).pipe(mergeMap(candidate, 16)) }),
  });
  return { ...node, plugin, settings: {} };
}

function mocked(node: StageNode, mock: Mock): StageNode {
  const plugin = defineStage({
    name: 'mock',
    summary: 'Replaces a stage.',
    options: noOptions,
    runsIn: 'main',
    create: (_, { id }) => ({
      process(frame) {
        if ('error' in mock) throw new Error(mock.error);
        return { ...frame, results: { ...frame.results, [id]: mock.result } };
      },
    }),
  });
  const { batch: _batch, ...rest } = node;
  return { ...rest, plugin, settings: {} };
}

function recording(node: SinkNode, onFrame: (frame: Frame) => void): SinkNode {
  const plugin = defineSink({
    name: 'recording',
    summary: 'Records the frames.',
    options: noOptions,
    create: () => ({
      write: (frames) => {
        frames.forEach(onFrame);
        return Promise.resolve();
      },
    }),
  });
  return { ...node, plugin, settings: {} };
}
