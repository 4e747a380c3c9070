import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { durably } from '../durable.js';
import { RxrayError, messageOf } from '../errors.js';
import type { Status } from '../fate.js';
import type { Interval } from '../history.js';
import type { Candidate, Log } from '../plugin.js';
import { makePrivate } from '../private-folder.js';
import type {
  AdmitOptions,
  Admittance,
  Conclusion,
  FilmFile,
  JournalCalls,
  JournalRecord,
  Parked,
  Policy,
  Refusal,
  RequestMessage,
  ResponseMessage,
} from './protocol.js';

/**
 * The durable record of every file's fate, in SQLite (WAL, synchronous FULL). A commit blocks its thread for some
 * milliseconds, so the database has its own thread, which commits everything since the last commit in one transaction.
 */
export class Journal {
  readonly #waiting = new Map<
    number,
    { resolve: (response: never) => void; reject: (error: Error) => void }
  >();
  /** Requests of this turn of the event loop, sent together: each message is expensive, whatever its size. */
  #outgoing: RequestMessage[] = [];
  #next = 0;
  #ended = false;

  private constructor(private readonly worker: Worker) {
    worker.on('message', (messages: readonly ResponseMessage[]) => {
      for (const { seq, ok, response, error } of messages) {
        const waiting = this.#waiting.get(seq);
        this.#waiting.delete(seq);
        if (ok) waiting?.resolve(response as never);
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
      const message = `the state folder ${stateDir} cannot be used: ${messageOf(cause)}`;
      throw new RxrayError('STATE_UNWRITABLE', message, { cause });
    }
    const worker = new Worker(new URL(`./thread${extname(import.meta.url)}`, import.meta.url), {
      workerData: { path },
    });
    const journal = new Journal(worker);
    try {
      const { setAside } = await journal.#request('open');
      if (setAside !== null) {
        log.warn(
          { setAside },
          `the journal was damaged: it is kept as ${setAside}, and a new one is created`,
        );
      }
      return journal;
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  /**
   * The records of these files with the same path, size, mtime, inode and ctime; null for a file without a record that
   * counts by the policy. A file that could not be read does not count as settled: it may be readable next time.
   */
  async lookUp(
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
    return this.#request('lookUp', source, files, policy, Date.now());
  }

  /**
   * Counts an attempt at a film, and returns what earlier attempts have done. If the film is settled, its record is
   * updated with the present path, mtime, inode and ctime. An attempt that needs a precaution ({@link precautionAfter})
   * is counted only with `alone`. `harmless`: this process runs no stage, so that a film cannot crash it, and the count
   * need not survive a crash. Otherwise resolves when it would.
   */
  admit(
    film: FilmFile,
    policy: Policy,
    { findDuplicate = false, alone = false, harmless = false }: Partial<AdmitOptions> = {},
  ): Promise<Admittance> {
    return this.#request('admit', film, policy, { findDuplicate, alone, harmless }, Date.now());
  }

  /** The film has passed all stages: if the process crashes from now on, the film is not the cause. */
  passed(id: string): Promise<void> {
    return this.#request('passed', id);
  }

  /** Keeps a frame (by `v8.serialize`) until {@link confirm}; resolves when it is on the disk. */
  park(id: string, sink: string, frame: Uint8Array): Promise<void> {
    return durably('journal.park', () => this.#request('park', id, sink, frame, Date.now()));
  }

  /**
   * The sink has confirmed the film. Resolves when that is on the disk: with the film if this was its last delivery.
   * `abnormal`: its verdict, for the history.
   */
  confirm(id: string, sink: string, abnormal = false): Promise<FilmFile | null> {
    return durably('journal.confirm', () => this.#request('confirm', id, sink, abnormal, Date.now()));
  }

  /**
   * Records the fate of a film that leaves the graph; resolves when it is on the disk. A film is `waiting` while a
   * delivery is parked, then `done`.
   */
  record(conclusion: Conclusion): Promise<Status> {
    return durably('journal.record', () => this.#request('record', conclusion));
  }

  /**
   * A sink has refused a parked film; resolves when that is on the disk, with the film's status before. The film has
   * failed, but other sinks still get it.
   */
  refuse(refusal: Refusal): Promise<Status> {
    return durably('journal.refuse', () => this.#request('refuse', refusal));
  }

  /** Up to `limit` deliveries parked for the sink, oldest first, after the row `after`. */
  parked(sink: string, after: number, limit: number): Promise<readonly Parked[]> {
    return this.#request('parked', sink, after, limit);
  }

  /** Number of parked deliveries, by sink. */
  parkedCounts(): Promise<Readonly<Record<string, number>>> {
    return this.#request('parkedCounts');
  }

  /**
   * Films that settled since then (ms since 1970), in intervals of so many minutes; intervals without films are left out.
   * It reads one row per minute, however many films there are.
   */
  history(since: number, minutes: number): Promise<readonly Interval[]> {
    return this.#request('history', since, minutes);
  }

  /** Stores a value under a key; null deletes it. */
  note(key: string, value: string | null): Promise<void> {
    return this.#request('note', key, value);
  }

  noted(key: string): Promise<string | null> {
    return this.#request('noted', key);
  }

  /** The ids of obsolete dead-letter entries: the film is done, or an unreadable file has been read since. */
  obsolete(ids: readonly string[]): Promise<readonly string[]> {
    return ids.length === 0 ? Promise.resolve([]) : this.#request('obsolete', ids);
  }

  /** Commits and closes the database. */
  async close(): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#request('close');
    } finally {
      this.#ended = true;
      await this.worker.terminate();
    }
  }

  #request<M extends keyof JournalCalls>(
    method: M,
    ...args: Parameters<JournalCalls[M]>
  ): Promise<ReturnType<JournalCalls[M]>> {
    if (this.#ended) return Promise.reject(new Error('the journal is closed'));
    const seq = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, { resolve, reject });
      if (this.#outgoing.push({ seq, method, args } as RequestMessage) === 1)
        setImmediate(() => this.#send());
    });
  }

  #send(): void {
    this.worker.postMessage(this.#outgoing);
    this.#outgoing = [];
  }

  #fail(error: Error): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
