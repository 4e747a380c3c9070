import { resolve } from 'node:path';
import { Observable } from 'rxjs';
import { builtInRegistry } from './builtins.js';
import { createHost } from './host.js';
import { parsePipeline } from '../core/config/load.js';
import type { Issue } from '../core/config/pipeline.js';
import type { Log } from '../core/plugin.js';
import type { Settled } from '../core/flow/settled.js';
import { startPipeline } from '../core/run.js';

export interface RunPipelineOptions {
  /** What relative paths in the YAML are relative to. Default: the working directory. */
  readonly baseDir?: string;
  /** End when everything that is there has been processed. Default: go on watching. */
  readonly once?: boolean;
  /** Process again what the journal says is settled. */
  readonly again?: boolean;
  /** The variables that `${NAME}` stands for. Default: the environment of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Where log lines go. Default: nowhere. */
  readonly log?: Log;
}

/** The pipeline's text has errors: all of them, with line and column, are in `issues`. */
export class PipelineError extends Error {
  constructor(readonly issues: readonly Issue[]) {
    super(
      issues
        .map(({ location, message }) => `${location ? `line ${location.line}: ` : ''}${message}`)
        .join('\n'),
    );
    this.name = 'PipelineError';
  }
}

/**
 * Runs a pipeline from its YAML text, inside a program of one's own: every film as it settles.
 *
 * Nothing happens before the subscription. Unsubscribing takes no more films in, lets those in flight
 * reach their sinks, and closes everything. Completes when the run has ended (with `once`, after one
 * full scan). Errors with {@link PipelineError} for what is wrong with the text, `CreateError` where a
 * plugin refuses its settings, and an `RxrayError` where there is no place to write.
 */
export function runPipeline(yaml: string, options: RunPipelineOptions = {}): Observable<Settled> {
  const { baseDir = '.', once = false, again = false, env = process.env, log = silent } = options;
  return new Observable<Settled>((subscriber) => {
    const host = createHost(log);
    const unsubscribed = new AbortController();
    const run = async (): Promise<void> => {
      const file = resolve(baseDir, 'pipeline.yaml');
      const { pipeline, issues } = await parsePipeline(yaml, { file, registry: builtInRegistry(), env });
      if (pipeline === undefined) throw new PipelineError(issues);
      const graph = await startPipeline(pipeline, host, { once, again });
      // The run's own end says how it went.
      graph.settled$.subscribe({
        next: (film) => {
          subscriber.next(film);
        },
        error: () => undefined,
      });
      if (unsubscribed.signal.aborted) graph.stop();
      else
        unsubscribed.signal.addEventListener('abort', () => {
          graph.stop();
        });
      await graph.finished;
    };
    run()
      .finally(() => host.unbindAllAsync())
      .then(
        () => {
          subscriber.complete();
        },
        (error: unknown) => {
          subscriber.error(error);
        },
      );
    return () => {
      unsubscribed.abort();
    };
  });
}

const nothing = (): void => undefined;
const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
