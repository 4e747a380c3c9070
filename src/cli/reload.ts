import { resolve } from 'node:path';
import chokidar from 'chokidar';
import { concatMap, debounceTime, Subject } from 'rxjs';

/** Editors save in several steps. */
const SETTLE_MS = 200;

/**
 * Calls `reload`, one call at a time, when the pipeline file changes (if `watching`), and on SIGHUP, which is a terminal's
 * last word where there is one. Returns what ends it.
 */
export function onReload(file: string, watching: boolean, reload: () => Promise<void>): () => void {
  const wanted = new Subject<void>();
  const subscription = wanted.pipe(debounceTime(SETTLE_MS), concatMap(reload)).subscribe();
  const want = (): void => wanted.next();
  const inTerminal = process.stdin.isTTY || process.stderr.isTTY;
  if (watching || !inTerminal) process.on('SIGHUP', want);
  // Editors replace the file: its folder is what stays.
  const watcher = watching
    ? chokidar.watch(resolve(file), { ignoreInitial: true }).on('all', want)
    : undefined;
  return () => {
    process.off('SIGHUP', want);
    subscription.unsubscribe();
    void watcher?.close();
  };
}
