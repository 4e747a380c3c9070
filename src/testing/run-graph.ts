import { resolve } from 'node:path';
import { builtInRegistry } from '../host/builtins.js';
import { createHost } from '../host/host.js';
import { parsePipeline } from '../core/config/load.js';
import { PipelineError } from '../host/run-pipeline.js';
import { runFilms, type FilmToTest, type Mock, type TestedFilm } from './graph.js';

export interface RunGraphOptions {
  /** What relative paths in the YAML are relative to. Default: the working directory. */
  readonly baseDir?: string;
  /** The variables that `${NAME}` stands for. Default: the environment of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Stages that are not to run, by id: each adds a result of yours, or fails. */
  readonly mocks?: Readonly<Record<string, Mock>>;
}

/**
 * Runs films through a graph from its YAML text, without its sources and sinks: nothing is watched, written
 * or sent. Resolves with what became of each, in the order given. Rejects with `PipelineError` for what is
 * wrong with the text, and with `CreateError` where a plugin refuses its settings.
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
