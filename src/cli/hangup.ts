/**
 * SIGHUP from the first moment of the process on: its default would end a process that is only starting, which a service
 * manager takes for a clean end. Whoever listens later hears of one that came before.
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

/** Calls `listener` at every SIGHUP, and at once if one came before; returns what ends that. */
export function onHangup(listener: () => void): () => void {
  listeners.add(listener);
  if (missed) listener();
  missed = false;
  return () => listeners.delete(listener);
}

/** A terminal sends SIGHUP when it is closed: then the process is to end. */
export function isInTerminal(): boolean {
  return process.stdin.isTTY || process.stderr.isTTY;
}
