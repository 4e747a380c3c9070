import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** As much may lie about before it is collected, in each thread. */
const COLLECT_EVERY_BYTES = 128 * 1024 ** 2;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
let seen = 0;

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
