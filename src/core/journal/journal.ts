import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { durably } from '../durable.js';
import { RxrayError, messageOf } from '../errors.js';
import type { Status } from '../fate.js';
import type { Candidate, Log } from '../plugin.js';
import { makePrivate } from '../private-folder.js';
import type {
  Admittance,
  Answer,
  Conclusion,
  FilmFile,
  JournalRecord,
  Parked,
  Policy,
  Question,
  Refusal,
  Request,
  Response,
} from './protocol.js';

/**
 * The durable record of what became of every file, in SQLite (WAL, synchronous FULL). A commit blocks
 * its thread for some milliseconds, so the database lives in a thread of its own, which commits
 * whatever has come together since the last commit in one transaction.
 */
export class Journal {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  /** Questions that leave together, at the end of the turn: a message costs more than what is in it. */
  #asked: Request[] = [];
  #next = 0;
  #ended = false;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (responses: readonly Response[]) => {
      for (const { seq, ok, answer, error } of responses) {
        const waiting = this.#waiting.get(seq);
        this.#waiting.delete(seq);
        if (ok) waiting?.resolve(answer as never);
        else waiting?.reject(new RxrayError(error.code, error.message));
      }
    });
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Error('the journal thread has ended')));
  }

  /** Opens (or makes) the journal in `stateDir`. Throws STATE_UNWRITABLE or STATE_LOCKED. */
  static async open(stateDir: string, log: Log): Promise<Journal> {
    const path = join(stateDir, 'journal.db');
    try {
      await makePrivate(stateDir, log);
    } catch (cause) {
      throw new RxrayError('STATE_UNWRITABLE', `${stateDir} cannot be made: ${messageOf(cause)}`, { cause });
    }
    const worker = new Worker(new URL(`./thread${extname(import.meta.url)}`, import.meta.url), {
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
   * What became of these files in the same place, size, mtime, inode and ctime, file by file; null where nothing did
   * that counts by the policy. A file that could not be read is no settled one: next time it may be.
   */
  async outcomes(
    source: string,
    candidates: readonly Candidate[],
    policy: Policy,
  ): Promise<readonly (JournalRecord | null)[]> {
    if (candidates.length === 0) return [];
    const files = candidates.map(({ path, name, size, mtimeMs, ino, ctimeMs }) => ({
      path,
      name,
      size,
      mtimeMs,
      ino,
      ctimeMs,
    }));
    return this.#ask({ kind: 'outcomes', source, files, policy, at: Date.now() });
  }

  /**
   * Counts an attempt at a film, and says what earlier attempts have done of it. If it is settled, its file is known by
   * its present place, mtime, inode and ctime from now on. A film that needs a precaution ({@link precautionAfter}) is
   * counted only with `alone`. `harmless`: this process runs no stage, so that its end
   * says nothing of the film. Resolves when the count outlives this process.
   */
  admit(
    film: FilmFile,
    policy: Policy,
    {
      findDuplicate = false,
      alone = false,
      harmless = false,
    }: { readonly findDuplicate?: boolean; readonly alone?: boolean; readonly harmless?: boolean } = {},
  ): Promise<Admittance> {
    return this.#ask({ kind: 'admit', film, policy, findDuplicate, alone, harmless, at: Date.now() });
  }

  /** The film has passed all stages: if the process ends now, the film is not the cause. */
  async passed(id: string): Promise<void> {
    await this.#ask({ kind: 'passed', id });
  }

  /** Keeps a frame (by `v8.serialize`) until {@link confirm}; resolves when it is on the disk. */
  async park(id: string, sink: string, frame: Uint8Array): Promise<void> {
    await durably('journal.park', () => this.#ask({ kind: 'park', id, sink, frame, at: Date.now() }));
  }

  /** The sink has the film. Resolves, when that is on the disk, with the film if it waited for nothing else. */
  confirm(id: string, sink: string): Promise<FilmFile | null> {
    return durably('journal.confirm', () => this.#ask({ kind: 'confirm', id, sink, at: Date.now() }));
  }

  /**
   * Writes what became of a film; resolves when it is on the disk. A film is `done` when no delivery is parked any
   * more, and `waiting` until then.
   */
  record(conclusion: Conclusion): Promise<Status> {
    return durably('journal.record', () => this.#ask({ kind: 'record', conclusion }));
  }

  /**
   * A sink has refused what was parked for it; resolves when that is on the disk. The film has failed, but other sinks
   * still get it.
   */
  async refuse(refusal: Refusal): Promise<void> {
    await durably('journal.refuse', () => this.#ask({ kind: 'refuse', refusal }));
  }

  /** Up to `limit` deliveries that wait for the sink, oldest first, behind the row `after`. */
  parked(sink: string, after: number, limit: number): Promise<readonly Parked[]> {
    return this.#ask({ kind: 'parked', sink, after, limit });
  }

  /** How many deliveries wait, by sink. */
  parkedCounts(): Promise<Readonly<Record<string, number>>> {
    return this.#ask({ kind: 'parkedCounts' });
  }

  /** Remembers something under a key; null forgets it. */
  async note(key: string, value: string | null): Promise<void> {
    await this.#ask({ kind: 'note', key, value });
  }

  noted(key: string): Promise<string | null> {
    return this.#ask({ kind: 'noted', key });
  }

  /** Those of the letters' ids that nobody needs: the film is done, or what could not be read has been read since. */
  obsolete(ids: readonly string[]): Promise<readonly string[]> {
    return ids.length === 0 ? Promise.resolve([]) : this.#ask({ kind: 'obsolete', ids });
  }

  /** Commits what is left and closes the database. */
  async close(): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#ask({ kind: 'close' });
    } finally {
      this.#ended = true;
      await this.#worker.terminate();
    }
  }

  #ask<Q extends Question>(question: Q): Promise<Answer<Q>> {
    if (this.#ended) return Promise.reject(new Error('the journal is closed'));
    const seq = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, { resolve, reject });
      if (this.#asked.push({ seq, question }) === 1) setImmediate(() => this.#send());
    });
  }

  #send(): void {
    this.#worker.postMessage(this.#asked);
    this.#asked = [];
  }

  #fail(error: Error): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
