import 'reflect-metadata';
import { availableParallelism } from 'node:os';
import { Container, type ServiceIdentifier } from 'inversify';
import type { Pipeline } from './config/pipeline.js';
import { RxrayError } from './errors.js';
import { Journal } from './journal/journal.js';
import type { Log } from './plugin.js';
import type { StageHost } from './run/create.js';
import { WorkerPool } from './workers/pool.js';

/** The logger of the process. */
export const LOG: ServiceIdentifier<Log> = Symbol.for('rxray:log');
/** The journal of a run. */
export const JOURNAL: ServiceIdentifier<Journal> = Symbol.for('rxray:journal');

/** How many threads the stages in workers, and a run of a model, may use: `threads:` of the graph that runs. */
export const CPU: ServiceIdentifier<{ threads: number }> = Symbol.for('rxray:cpu');

/** The container of the process, shared by all its runs. The caller binds services outside core, such as the engine. */
export function createProcessContainer(log: Log): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(LOG).toConstantValue(log);
  container.bind(CPU).toConstantValue({ threads: availableParallelism() });
  return container;
}

/** The container of a run, shared by graphs that replace one another. `unbindAllAsync` closes it. */
export function createRunContainer(
  parent: Container,
  { stateDir, threads = availableParallelism() }: Pick<Pipeline, 'stateDir' | 'threads'>,
): Container {
  parent.get(CPU).threads = threads;
  const container = new Container({ parent, defaultScope: 'Singleton' });
  container
    .bind(WorkerPool)
    .toResolvedValue((log: Log, { threads }: { threads: number }) => new WorkerPool(log, threads), [LOG, CPU])
    .inSingletonScope()
    .onDeactivation((pool) => pool.dispose());
  container
    .bind(JOURNAL)
    .toResolvedValue((log: Log) => Journal.open(stateDir, log), [LOG])
    .inSingletonScope()
    .onDeactivation((journal) => journal.close());
  return container;
}

/** What the stages of a run get from its container. */
export function stageHostOf(container: Container): StageHost {
  return {
    log: container.get(LOG),
    pool: container.get(WorkerPool),
    provide: (service) => {
      if (container.isBound(service)) return container.get(service);
      throw new RxrayError('CONFIG_CREATE', `this process has no service \`${service.name}\``);
    },
  };
}
