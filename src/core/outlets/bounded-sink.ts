import { Unavailable } from '../errors.js';
import type { Frame } from '../frame.js';
import type { SinkInstance } from '../plugin.js';

/**
 * A sink whose writes have a time limit. A write that has not returned after `timeoutMs` counts as an outage. So do
 * later writes until it returns, since a sink gets one call at a time. If it succeeds in the end, its frames count as
 * delivered.
 */
export class BoundedSink {
  #isHanging = false;
  /** Frames that a late write has delivered. */
  readonly #delivered = new Set<string>();

  constructor(
    private readonly sink: Pick<SinkInstance, 'write'>,
    private readonly timeoutMs: number,
    /** A write that exceeded the limit has returned. */
    private readonly onReturn: () => void = () => undefined,
  ) {}

  /** Throws {@link Unavailable} after `timeoutMs`, and the sink's own errors. */
  async write(frames: readonly Frame[]): Promise<void> {
    const left = frames.filter(({ id }) => !this.#delivered.delete(id));
    if (left.length === 0) return;
    if (this.#isHanging) throw new Unavailable('its last write has not returned yet');
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, this.timeoutMs, 'late');
    });
    // A plugin's `write` may throw synchronously.
    const write = Promise.resolve(left).then((group) => this.sink.write(group));
    try {
      if ((await Promise.race([write, bound])) !== 'late') return;
    } finally {
      clearTimeout(timer);
    }
    this.#isHanging = true;
    void write
      .then(
        () => {
          for (const { id } of left) this.#delivered.add(id);
        },
        () => undefined,
      )
      .finally(() => {
        this.#isHanging = false;
        this.onReturn();
      });
    throw new Unavailable(`a write has not returned after ${String(this.timeoutMs)} ms`);
  }
}
