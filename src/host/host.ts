import type { Container } from 'inversify';
import { CPU, createProcessContainer } from '../core/container.js';
import type { Log } from '../core/plugin.js';
import { Engine } from '../engine/engine.js';

/** The composition root: what all graphs of this process share. `unbindAllAsync` ends it. */
export function createHost(log: Log): Container {
  const container = createProcessContainer(log);
  container
    .bind(Engine)
    .toDynamicValue(
      () =>
        new Engine({
          // Worker threads want the cores, too.
          spinning: false,
          threads: () => container.get(CPU).threads,
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
