import { statfs } from 'node:fs/promises';
import { concatMap, distinctUntilChanged, EMPTY, timer, type Observable } from 'rxjs';

const LOOK_EVERY_MS = 2000;

/** Whether the disk of `folder` has less than `minFreeBytes` free: now, and on each change. */
export function diskIsLow(folder: string, minFreeBytes: number): Observable<boolean> {
  if (minFreeBytes === 0) return EMPTY;
  return timer(0, LOOK_EVERY_MS).pipe(
    concatMap(async () => {
      try {
        const { bavail, bsize } = await statfs(folder);
        return bavail * bsize < minFreeBytes;
      } catch {
        // If free space cannot be read, the writers will report the error.
        return false;
      }
    }),
    distinctUntilChanged(),
  );
}
