import { unwatchFile, watchFile } from 'node:fs';
import { resolve } from 'node:path';
import { concatMap, debounceTime, Subject } from 'rxjs';
import { catchHangups, isInTerminal, onHangup } from './hangup.js';

/** Editors save in several steps. */
const SETTLE_MS = 200;
/** How often the pipeline file is checked: a symbolic link on its path may be changed to another file. */
const LOOK_EVERY_MS = 500;

/**
 * Calls `reload`, one call at a time, when the pipeline file changes (if `watching`), and on SIGHUP, which closing a
 * terminal also sends. Returns a function that stops this.
 */
export function onReload(file: string, watching: boolean, reload: () => Promise<void>): () => void {
  const wanted = new Subject<void>();
  const subscription = wanted.pipe(debounceTime(SETTLE_MS), concatMap(reload)).subscribe();
  const want = (): void => wanted.next();
  const path = resolve(file);
  // Without a terminal, `main` has done so already.
  if (watching && isInTerminal()) catchHangups();
  const stopHangups = onHangup(want);
  if (watching) watchFile(path, { interval: LOOK_EVERY_MS, persistent: false }, want);
  return () => {
    stopHangups();
    if (watching) unwatchFile(path, want);
    subscription.unsubscribe();
  };
}
