import type { Container } from 'inversify';
import { CPU, createProcessContainer } from '../core/container.js';
import type { Log } from '../core/plugin.js';
import { Engine } from '../engine/engine.js';

/** The composition root: services shared by all graphs of this process. `unbindAllAsync` closes it. */
export function createHost(log: Log): Container {
  const container = createProcessContainer(log);
  container
    .bind(Engine)
    .toDynamicValue(
      () =>
        new Engine({
          // Worker threads need cores too.
          spinning: false,
          threads: () => container.get(CPU).threads,
          // Threads of one run wait for one another, also while other threads of the process use their cores.
          lanes: () => Math.min(2, container.get(CPU).threads),
          log: {
            info: (message) => log.info({}, message),
            warn: (message) => log.warn({}, message),
          },
        }),
    )
    .inSingletonScope()
    .onDeactivation((engine) => engine.dispose());
  return container;
}
