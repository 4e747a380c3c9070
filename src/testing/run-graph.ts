import { resolve } from 'node:path';
import { builtInRegistry } from '../host/builtins.js';
import { createHost } from '../host/host.js';
import { parsePipeline } from '../core/config/load.js';
import { PipelineError } from '../host/run-pipeline.js';
import { runFilms, type FilmToTest, type Mock, type TestedFilm } from './graph.js';

export interface RunGraphOptions {
  /** Base folder of relative paths in the YAML. Default: the working directory. */
  readonly baseDir?: string;
  /** The environment variables for `${NAME}`. Default: those of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Mocked stages, by id: each adds a given result, or fails. */
  readonly mocks?: Readonly<Record<string, Mock>>;
}

/**
 * Processes films by a graph from its YAML text, without its sources and sinks: nothing is watched, written or sent.
 * Resolves with the results in the given order. Rejects with `PipelineError` for errors in the text, and with
 * `CreateError` if a plugin refuses its settings.
 */
export async function runGraph(
  yaml: string,
  films: readonly FilmToTest[],
  { baseDir = '.', env = process.env, mocks = {} }: RunGraphOptions = {},
): Promise<TestedFilm[]> {
  const file = resolve(baseDir, 'pipeline.yaml');
  const { pipeline, issues } = await parsePipeline(yaml, { file, registry: builtInRegistry(), env });
  if (pipeline === undefined) throw new PipelineError(issues);
  const host = createHost(silent);
  try {
    return await runFilms(pipeline, films, { mocks, host });
  } finally {
    await host.unbindAllAsync();
  }
}

const nothing = (): void => undefined;
const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing };
