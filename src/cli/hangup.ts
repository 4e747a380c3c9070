/**
 * Handles SIGHUP from the start of the process: by default it would end a process that is still starting, which a
 * service manager takes for a clean exit. A SIGHUP that came early is passed to the listener later.
 */
const listeners = new Set<() => void>();
let missed = false;

/** From now on SIGHUP does not end the process. */
export function catchHangups(): void {
  process.on('SIGHUP', () => {
    missed = listeners.size === 0;
    for (const listener of listeners) listener();
  });
}

/** Calls `listener` at every SIGHUP, and at once if one came before. Returns a function that stops this. */
export function onHangup(listener: () => void): () => void {
  listeners.add(listener);
  if (missed) listener();
  missed = false;
  return () => listeners.delete(listener);
}

/** A terminal sends SIGHUP when it is closed: the process then ends. */
export function isInTerminal(): boolean {
  return process.stdin.isTTY || process.stderr.isTTY;
}
