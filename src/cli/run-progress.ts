import { interval, type Subscription } from 'rxjs';
import type { Monitor } from '../core/monitor/monitor.js';
import { timeLeft } from './bar.js';

const DRAW_MS = 200;
const TELL_MS = 10_000;
const WIDTH = 24;

interface Streams {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

/**
 * How far a run with `--once` is, on standard error: a bar where nothing but this process writes to the terminal, else a
 * line every ten seconds. What is printed meanwhile appears above the bar.
 */
export class RunProgress {
  readonly #monitor: Pick<Monitor, 'films' | 'load'>;
  readonly #output: NodeJS.WriteStream;
  readonly #ticks: Subscription;
  readonly #restore: (() => void)[] = [];
  #isDrawn = false;
  /** When the first films had settled: the time before is spent on loading, and does not count for the rate. */
  #first: { readonly at: number; readonly settled: number } | undefined;

  constructor(
    monitor: Pick<Monitor, 'films' | 'load'>,
    asBar: boolean,
    { stdout, stderr }: Streams = process,
  ) {
    this.#monitor = monitor;
    this.#output = stderr;
    if (asBar) {
      for (const stream of [stdout, stderr]) this.#clearBeforeWritesTo(stream);
    }
    this.#ticks = interval(asBar ? DRAW_MS : TELL_MS).subscribe(() => {
      const { settled, total, text } = this.#state();
      if (total === 0) return;
      if (asBar) this.#draw(settled / total, text);
      else this.#output.write(`${text}\n`);
    });
  }

  /** Removes the bar. */
  end(): void {
    this.#ticks.unsubscribe();
    this.#clear();
    for (const restore of this.#restore.splice(0)) restore();
  }

  /** `120 of 600 films, 3 min left, 2 failed` */
  #state(): { settled: number; total: number; text: string } {
    const { done, failed, skipped } = this.#monitor.films;
    const { waiting, frames } = this.#monitor.load();
    const settled = done + failed + skipped;
    const total = settled + waiting + frames;
    const now = performance.now();
    if (settled > 0) this.#first ??= { at: now, settled };
    const since = this.#first ?? { at: now, settled };
    const seconds = ((total - settled) * (now - since.at)) / (settled - since.settled) / 1000;
    const parts = [`${settled} of ${total} films`, timeLeft(seconds), failed === 0 ? '' : `${failed} failed`];
    return { settled, total, text: parts.filter((part) => part !== '').join(', ') };
  }

  /** `share`: 0–1. */
  #draw(share: number, text: string): void {
    const filled = Math.round(WIDTH * share);
    const line = `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)}  ${text}`;
    this.#clear();
    // A line that wraps could not be cleared.
    this.#output.write(line.slice(0, (this.#output.columns || 80) - 1));
    this.#isDrawn = true;
  }

  #clear(): void {
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    this.#output.write('\r\x1b[2K');
  }

  /** Other lines begin where the bar began; the next tick draws it below them. */
  #clearBeforeWritesTo(stream: NodeJS.WriteStream): void {
    const write = stream.write.bind(stream);
    const clearing = (...args: Parameters<typeof write>): boolean => {
      this.#clear();
      return write(...args);
    };
    stream.write = clearing as typeof write;
    this.#restore.push(() => {
      stream.write = write;
    });
  }
}
