import { resolve } from 'node:path';
import type { Observable } from 'rxjs';
import type { Container } from 'inversify';
import type { Issue } from '../core/config/pipeline.js';
import type { Log } from '../core/plugin.js';
import { rxjs } from '../core/rxjs.js';
import type { Settled } from '../core/flow/settled.js';

export interface RunPipelineOptions {
  /** Base folder of relative paths in the YAML. Default: the working directory. */
  readonly baseDir?: string;
  /** End when all present files have been processed. Default: keep watching. */
  readonly once?: boolean;
  /** Process films again that are done. */
  readonly again?: boolean;
  /** The environment variables for `${NAME}`. Default: those of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The logger. Default: none. */
  readonly log?: Log;
}

/** The pipeline has errors: `issues` has all of them, with line and column. */
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
 * Runs a pipeline from its YAML text inside your own program; emits films as they settle. Starts with the subscription.
 * Unsubscribing stops admission, lets films in flight reach their sinks, and closes everything. Completes when the run
 * has ended (with `once`, after one full scan). Errors with {@link PipelineError} for errors in the text, `CreateError`
 * if a plugin refuses its settings, and an `RxrayError` if files cannot be written.
 */
export function runPipeline(yaml: string, options: RunPipelineOptions = {}): Observable<Settled> {
  const { baseDir = '.', once = false, again = false, env = process.env, log = silent } = options;
  // Every thread with a stage of the user's imports this module for what else `rxray` exports: without all that runs a graph.
  const { Observable } = rxjs();
  return new Observable<Settled>((subscriber) => {
    const unsubscribed = new AbortController();
    const run = async (host: Container): Promise<void> => {
      const { parsePipeline } = await import('../core/config/load.js');
      const { startPipeline } = await import('../core/run.js');
      const { builtInRegistry } = await import('./builtins.js');
      const file = resolve(baseDir, 'pipeline.yaml');
      const { pipeline, issues } = await parsePipeline(yaml, { file, registry: builtInRegistry(), env });
      if (pipeline === undefined) throw new PipelineError(issues);
      const graph = await startPipeline(pipeline, host, { once, again });
      // Errors are reported by the end of the run.
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
    import('./host.js')
      .then(({ createHost }) => {
        const host = createHost(log);
        return run(host).finally(() => host.unbindAllAsync());
      })
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
