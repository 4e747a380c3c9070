import { Worklist, type WorklistFilm } from '../control/worklist.js';
import { Monitor } from '../core/monitor/monitor.js';
import type { Log } from '../core/plugin.js';

/** The last films of a pipeline, oldest first, whether it runs or not. `since`: milliseconds since 1970. */
export async function lastFilms(stateDir: string, log: Log, since = 0): Promise<WorklistFilm[]> {
  const worklist = new Worklist(stateDir, new Monitor(), log);
  try {
    return (await worklist.all()).filter(({ settledAt }) => Date.parse(settledAt) >= since);
  } finally {
    await worklist.close();
  }
}
