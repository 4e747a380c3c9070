import 'reflect-metadata';
import { Container, type ServiceIdentifier } from 'inversify';
import type { Pipeline } from './config/pipeline.js';
import { DeadLetter } from './dead-letter.js';
import { messageOf } from './errors.js';
import { Journal } from './journal/journal.js';
import type { Log, SinkInstance, SourceInstance, StageInstance } from './plugin.js';
import { WorkerPool } from './workers/pool.js';

/** The logger of the process. */
export const LOG: ServiceIdentifier<Log> = Symbol.for('rxray:log');
/** The journal of a run, and the plugins of its graph by the name of their ids. */
export const JOURNAL: ServiceIdentifier<Journal> = Symbol.for('rxray:journal');
export const SOURCE: ServiceIdentifier<SourceInstance> = Symbol.for('rxray:source');
export const STAGE: ServiceIdentifier<StageInstance> = Symbol.for('rxray:stage');
export const SINK: ServiceIdentifier<SinkInstance> = Symbol.for('rxray:sink');

/**
 * The container of the process: what all its graphs share. The caller binds what core does not know
 * (the engine, for one).
 */
export function createProcessContainer(log: Log): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(LOG).toConstantValue(log);
  return container;
}

/** The container of a run: what its graphs share when one takes the place of another. */
export function createRunContainer(parent: Container, stateDir: string): Container {
  const container = new Container({ parent, defaultScope: 'Singleton' });
  container
    .bind(WorkerPool)
    .toResolvedValue((log: Log) => new WorkerPool(log), [LOG])
    .inSingletonScope()
    .onDeactivation((pool) => pool.dispose());
  container
    .bind(JOURNAL)
    .toResolvedValue((log: Log) => Journal.open(stateDir, log), [LOG])
    .inSingletonScope()
    .onDeactivation((journal) => journal.close());
  return container;
}

/** The container of one running graph. `unbindAllAsync` disposes of everything that the graph opened. */
export function createGraphContainer(parent: Container, pipeline: Pipeline): Container {
  const container = new Container({ parent, defaultScope: 'Singleton' });
  container
    .bind(DeadLetter)
    .toResolvedValue(
      (pool: WorkerPool) => new DeadLetter(pipeline.stateDir, pipeline.hash, pool),
      [WorkerPool],
    )
    .inSingletonScope();
  return container;
}

/** Puts a plugin of the graph under its id into the container, which disposes of it at its end. */
export function adopt<T extends { dispose?(): Promise<void> | void }>(
  container: Container,
  kind: ServiceIdentifier<T>,
  id: string,
  plugin: T,
): void {
  container
    .bind(kind)
    .toConstantValue(plugin)
    .whenNamed(id)
    .onDeactivation(async () => {
      try {
        await plugin.dispose?.();
      } catch (error) {
        // The others are to be disposed of, too, and what ended the run is the better message.
        container.get(LOG).error({ component: id }, `could not be closed: ${messageOf(error)}`);
      }
    });
  // Only what has been asked for once is deactivated.
  container.get(kind, { name: id });
}
