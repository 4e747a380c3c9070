import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

/** A collection is started after this much new shared memory, in each thread. */
const COLLECT_EVERY_BYTES = 48 * 1024 ** 2;

let seen = 0;
let gc: ((options?: { readonly type: 'minor' }) => void) | undefined;

/**
 * Call it with all shared memory that this thread receives. V8 does not count shared memory: it sees only a small
 * object per film, and would start a collection only after thousands of films.
 */
export function countShared(bytes: number): void {
  seen += bytes;
  if (seen < COLLECT_EVERY_BYTES) return;
  seen = 0;
  setImmediate(collect);
}

/**
 * V8's own function, exposed on first use. In a worker thread the objects are gone with their task, so a collection of the young
 * ones is enough; in the main thread they are held as long as their film.
 */
function collect(): void {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as NonNullable<typeof gc>;
  }
  if (isMainThread) gc();
  else gc({ type: 'minor' });
}
