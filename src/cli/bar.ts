import { SingleBar } from 'cli-progress';

/** One bar at a time on standard error, and none where that is not a terminal. */
export class Bar {
  #shown: { readonly name: string; readonly line: SingleBar } | undefined;

  /** Shows `done` of `total`, what kind of work it is, and how long the rest may take. */
  show(name: string, done: number, total: number, detail = ''): void {
    if (!process.stderr.isTTY) return;
    if (this.#shown?.name !== name) {
      this.end();
      const line = new SingleBar({
        format: '{name} {bar} {value}/{total}  {eta_formatted}  {detail}',
        formatTime: timeLeft,
        hideCursor: true,
        clearOnComplete: true,
      });
      line.start(total, done, { name, detail });
      this.#shown = { name, line };
    }
    this.#shown.line.update(done, { detail });
  }

  end(): void {
    this.#shown?.line.stop();
    this.#shown = undefined;
  }
}

/** `40 s left`, `12 min left`, `2 h 05 min left`; nothing while that is not known. */
export function timeLeft(seconds: unknown): string {
  if (typeof seconds !== 'number' || !Number.isFinite(seconds)) return '';
  if (seconds < 60) return `${Math.ceil(seconds)} s left`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min left`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min left`;
}
