import { mkdir } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { RxrayError, messageOf } from '../errors.js';
import type { Candidate, Log, Outcome } from '../plugin.js';
import type { Answer, Entry, Question, Request, Response } from './store.js';

/**
 * The durable record of what became of every file, in SQLite (WAL, synchronous FULL). A commit blocks
 * its thread for some milliseconds, so the database lives in a thread of its own, which commits
 * whatever has come together since the last commit in one transaction.
 */
export class Journal {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  #next = 0;
  #ended = false;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', ({ seq, ok, answer, error }: Response) => {
      const waiting = this.#waiting.get(seq);
      this.#waiting.delete(seq);
      if (ok) waiting?.resolve(answer as never);
      else waiting?.reject(new RxrayError(error.code, error.message));
    });
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Error('the journal thread has ended')));
  }

  /** Opens (or makes) the journal in `stateDir`. Throws STATE_UNWRITABLE or STATE_LOCKED. */
  static async open(stateDir: string, log: Log): Promise<Journal> {
    const path = join(stateDir, 'journal.db');
    try {
      // It holds films that failed: nobody else's business.
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
    } catch (cause) {
      throw new RxrayError('STATE_UNWRITABLE', `${stateDir} cannot be made: ${messageOf(cause)}`, { cause });
    }
    const worker = new Worker(new URL(`./store${extname(import.meta.url)}`, import.meta.url), {
      workerData: { path },
    });
    const journal = new Journal(worker);
    try {
      const { setAside } = await journal.#ask({ kind: 'open' });
      if (setAside !== null) {
        log.warn({ setAside }, `the journal was damaged: it is kept as ${setAside}, and a new one is begun`);
      }
      return journal;
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  /**
   * What became of these files in the same place, size and mtime at or after `since` (ms), file by
   * file; null where nothing did yet. A file that could not be read is no settled one: next time it may be.
   */
  async outcomes(
    source: string,
    candidates: readonly Candidate[],
    since = 0,
  ): Promise<readonly (Outcome | null)[]> {
    if (candidates.length === 0) return [];
    const files = candidates.map(({ path, name, size, mtimeMs }) => ({ path, name, size, mtimeMs }));
    return this.#ask({ kind: 'outcomes', source, files, since });
  }

  /**
   * What became of the frame at or after `since` (ms), or null; if something did, its file is known
   * by its present place and mtime from now on.
   */
  recognise(id: string, { path, mtimeMs }: Candidate, since = 0): Promise<Outcome | null> {
    return this.#ask({ kind: 'recognise', id, path, mtimeMs, since });
  }

  /** Writes what became of a frame; resolves when it is on the disk. */
  async record(entry: Entry): Promise<void> {
    await this.#ask({ kind: 'record', entry });
  }

  /** Commits what is left and closes the database. */
  async close(): Promise<void> {
    if (this.#ended) return;
    await this.#ask({ kind: 'close' });
    this.#ended = true;
    await this.#worker.terminate();
  }

  #ask<Q extends Question>(question: Q): Promise<Answer<Q>> {
    if (this.#ended) return Promise.reject(new Error('the journal is closed'));
    const seq = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, { resolve, reject });
      this.#worker.postMessage({ seq, question } satisfies Request);
    });
  }

  #fail(error: Error): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
