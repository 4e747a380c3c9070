import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { durably } from './durable.js';
import { RxrayError, messageOf } from './errors.js';
import { syncFolder } from './files.js';
import type { Origin } from './frame.js';
import type { Failure } from './flow/ticket.js';
import { endReplay, letterIds, lettersDir, readLetter, removeLetter, type Reason } from './letters.js';
import type { Candidate } from './plugin.js';
import type { WorkerPool } from './workers/pool.js';

/** A film that failed: a ticket, or what is left of one. */
export interface Failed {
  readonly id: string;
  readonly candidate: Candidate;
  readonly origin: Origin;
}

/**
 * The folder of the files that failed: one folder per frame id with the original file and its
 * `reason.json`, on the disk when `keep` resolves. A file that could not be read, or that has changed
 * since, leaves the reason alone.
 */
export class DeadLetter {
  readonly dir: string;
  /** The ids of what lies there, as far as this process knows. */
  readonly #ids = new Set<string>();
  /** The last thing that is being done to a letter: two sinks may refuse a film at the same time. */
  readonly #under = new Map<string, Promise<void>>();

  constructor(
    private readonly stateDir: string,
    private readonly graph: string,
    private readonly pool: WorkerPool,
  ) {
    this.dir = lettersDir(stateDir);
  }

  /** Mends what a crash has left half done. Returns the ids of what lies there. */
  async open(): Promise<readonly string[]> {
    for (const id of await letterIds(this.stateDir)) this.#ids.add(id);
    return [...this.#ids];
  }

  /** The film is done: there is nothing to tell of it any more. */
  async forget(id: string): Promise<void> {
    await this.#inTurn(id, async () => {
      if (this.#ids.delete(id)) await removeLetter(this.stateDir, id);
    });
  }

  /** The film has been run once more, with or without success. */
  async endReplay(id: string): Promise<void> {
    await endReplay(this.stateDir, id);
  }

  /** Keeps the film's file with the reason of its failure. Throws STATE_UNWRITABLE. */
  async keep(film: Failed, failure: Failure): Promise<void> {
    await this.#inTurn(film.id, () => this.#write(film, failure));
  }

  async #inTurn(id: string, act: () => Promise<void>): Promise<void> {
    const turn = (this.#under.get(id) ?? Promise.resolve()).then(act, act);
    this.#under.set(id, turn);
    try {
      await turn;
    } finally {
      if (this.#under.get(id) === turn) this.#under.delete(id);
    }
  }

  async #write(film: Failed, failure: Failure): Promise<void> {
    const { origin, id } = film;
    const reason: Reason = {
      id,
      source: origin.source,
      file: origin.name,
      path: origin.path,
      size: origin.size,
      mtimeMs: origin.mtimeMs,
      sha256: origin.sha256,
      code: failure.code,
      stage: failure.component ?? null,
      message: failure.message,
      cause: causeOf(failure.cause),
      graph: this.graph,
      at: new Date().toISOString(),
    };
    const [part, old, whole] = [
      join(this.dir, `.${id}.part`),
      join(this.dir, `.${id}.old`),
      join(this.dir, id),
    ];
    try {
      await rm(part, { recursive: true, force: true });
      await mkdir(part, { recursive: true });
      const bytes = await this.#readAgain(film);
      // The reason must not take the place of a film of its name.
      const name = basename(origin.name).replace(/^reason\.json$/, 'film-$&');
      await durably('deadletter.write', async () => {
        if (bytes !== null) await writeFile(join(part, name), bytes, { flush: true });
        await writeFile(join(part, 'reason.json'), `${JSON.stringify(reason, null, 2)}\n`, { flush: true });
        await syncFolder(part);
      });
      // An earlier letter may hold the only copy: it goes when the new one is in its place.
      if (await isThere(whole)) {
        await rm(old, { recursive: true, force: true });
        await rename(whole, old);
      }
      await durably('deadletter.rename', async () => {
        await rename(part, whole);
        await syncFolder(this.dir);
      });
      this.#ids.add(id);
      await rm(old, { recursive: true, force: true });
    } catch (cause) {
      throw new RxrayError(
        'STATE_UNWRITABLE',
        `the dead letter ${this.dir} cannot be written: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /**
   * The bytes that failed, once more; null when they are not to be had: a file that was not read in the
   * first place, or one that has changed since (whatever it holds or leads to now is not what failed).
   */
  async #readAgain({ id, candidate, origin }: Failed): Promise<Uint8Array | null> {
    if (origin.sha256 === '') return null;
    const reply = await this.pool.read(candidate, candidate.copy?.size ?? candidate.size).catch(() => null);
    if (reply?.sha256 === origin.sha256) return reply.encoded;
    if (!this.#ids.has(id)) return null;
    const { kept } = await readLetter(this.stateDir, id);
    const bytes = kept === null ? null : await readFile(kept);
    return bytes !== null && createHash('sha256').update(bytes).digest('hex') === origin.sha256
      ? bytes
      : null;
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function causeOf(thrown: unknown): string | null {
  const causes: string[] = [];
  for (let cause = thrown; cause instanceof Error && cause.cause !== undefined; cause = cause.cause) {
    causes.push(messageOf(cause.cause));
  }
  return causes.length === 0 ? null : causes.join(' ← ');
}
