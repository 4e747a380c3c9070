import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** As much may lie about before it is collected, in each thread. */
const COLLECT_EVERY_BYTES = 128 * 1024 ** 2;

let seen = 0;
let gc: (() => void) | undefined;

/**
 * To be told of all shared memory that comes into this thread's hands. V8 does not count it: it sees the small object
 * that holds a film's pixels, and finds no reason to look whether somebody still wants them until thousands have gone by.
 */
export function countShared(bytes: number): void {
  seen += bytes;
  if (seen < COLLECT_EVERY_BYTES) return;
  seen = 0;
  setImmediate(collect);
}

/** V8's own, which it hands out only when asked: to programs that never come here, not at all. */
function collect(): void {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as () => void;
  }
  gc();
}
