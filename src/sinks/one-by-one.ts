import type { Frame } from '../core/frame.js';
import type { SinkInstance } from '../core/plugin.js';

/** A sink that runs one `write` after the other, and closes after the last. */
export function oneByOne(
  name: string,
  write: (frames: readonly Frame[]) => Promise<void>,
  close: () => Promise<void> | void,
): SinkInstance {
  let last: Promise<void> = Promise.resolve();
  let disposed = false;
  return {
    async write(frames) {
      if (disposed) throw new Error(`the ${name} sink is closed`);
      const written = last.then(() => write(frames));
      last = written.catch(() => undefined);
      await written;
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      await last;
      await close();
    },
  };
}
