import { createHash } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { durably } from './durable.js';
import { RxrayError, messageOf } from './errors.js';
import { partName, partOf, wholeFile } from './file-part.js';
import { shortened, succeeds, syncFolder } from './files.js';
import { frameId, type Origin } from './frame.js';
import type { Failure } from './flow/ticket.js';
import { entryIds, deadLetterDir, readEntry, removeEntry, type Reason } from './dead-letter-entries.js';
import type { Candidate } from './plugin.js';
import type { WorkerPool } from './workers/pool.js';

/** A failed film: a ticket, or the same fields from the journal. */
export interface Failed {
  readonly id: string;
  readonly candidate: Candidate;
  readonly origin: Origin;
}

/**
 * The folder of failed files: one folder per frame id with a copy of the file and `reason.json`, durable when `keep`
 * resolves. Of a file that could not be read, or has changed since, only the reason is kept.
 */
export class DeadLetter {
  readonly dir: string;
  /** The ids of the entries known to this process. */
  readonly #ids = new Set<string>();
  /** The last operation on each entry, by id, and on each file: two sinks may refuse a film at the same time. */
  readonly #under = new Map<string, Promise<void>>();

  constructor(
    private readonly stateDir: string,
    private readonly graph: string,
    private readonly pool: WorkerPool,
  ) {
    this.dir = deadLetterDir(stateDir);
  }

  /** Repairs what a crash has left incomplete. Returns the ids of all entries. */
  async open(): Promise<readonly string[]> {
    for (const id of await entryIds(this.stateDir)) this.#ids.add(id);
    return [...this.#ids];
  }

  /** Removes the entry of a film that is done. */
  async forget(id: string): Promise<void> {
    if (!this.#ids.has(id) && !this.#under.has(id)) return;
    await this.#inTurn([id], async () => {
      if (this.#ids.delete(id)) await removeEntry(this.stateDir, id);
    });
  }

  /** Keeps the film's file with the reason of its failure. Throws STATE_UNWRITABLE. */
  async keep(film: Failed, failure: Failure): Promise<void> {
    // Films of one file share its copy, so they take turns.
    const { source, sha256 } = film.origin;
    const file = JSON.stringify([source, wholeFile(film.origin).name, sha256]);
    await this.#inTurn([film.id, file], () => this.#write(film, failure));
  }

  /** Acts after every earlier operation on one of the ids or files. */
  async #inTurn(keys: readonly string[], act: () => Promise<void>): Promise<void> {
    const turn = Promise.allSettled(keys.map((key) => this.#under.get(key) ?? Promise.resolve())).then(act);
    for (const key of keys) this.#under.set(key, turn);
    try {
      await turn;
    } finally {
      for (const key of keys) if (this.#under.get(key) === turn) this.#under.delete(key);
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
      const name = fileNameOf(origin.name);
      const isLinked = await this.#linkOther(film, join(part, name));
      const bytes = isLinked ? null : await this.#readAgain(film);
      await durably('deadletter.write', async () => {
        if (bytes !== null) await writeFile(join(part, name), bytes, { flush: true });
        await writeFile(join(part, 'reason.json'), `${JSON.stringify(reason, null, 2)}\n`, { flush: true });
        await syncFolder(part);
      });
      // An earlier entry may hold the only copy: it is removed after the new one is in place.
      if (await succeeds(stat(whole))) {
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
   * Whether `to` is now a hard link to the copy of the file that another of its films has here: a file with a thousand
   * damaged frames is kept once.
   */
  async #linkOther({ origin }: Failed, to: string): Promise<boolean> {
    const part = partOf(origin);
    if (part === undefined) return false;
    for (let number = 1; number <= part.of; number++) {
      const name = partName({ ...part, number });
      const id = frameId(origin.source, name, origin.sha256);
      if (name === origin.name || !this.#ids.has(id)) continue;
      if (await succeeds(link(join(this.dir, id, fileNameOf(name)), to))) return true;
    }
    return false;
  }

  /** Reads the bytes that failed again; null if the file was not readable, or has changed since. */
  async #readAgain({ id, candidate, origin }: Failed): Promise<Uint8Array | null> {
    if (origin.sha256 === '') return null;
    const reply = await this.pool.read(candidate, candidate.copy?.size ?? candidate.size).catch(() => null);
    if (reply?.sha256 === origin.sha256) return reply.encoded;
    if (!this.#ids.has(id)) return null;
    // The user may have removed the entry meanwhile.
    const { kept } = await readEntry(this.stateDir, id).catch(() => ({ kept: null }));
    const bytes = kept === null ? null : await readFile(kept).catch(() => null);
    return bytes !== null && createHash('sha256').update(bytes).digest('hex') === origin.sha256
      ? bytes
      : null;
  }
}

/** Length of a copy's name; the name of a film may be an address. */
const NAME_BYTES = 200;

/** The name of the copy. The film may itself be called reason.json. */
function fileNameOf(film: string): string {
  return shortened(basename(film).replace(/^reason\.json$/, 'film-$&'), NAME_BYTES);
}

function causeOf(thrown: unknown): string | null {
  const causes: string[] = [];
  for (let cause = thrown; cause instanceof Error && cause.cause !== undefined; cause = cause.cause) {
    causes.push(messageOf(cause.cause));
  }
  return causes.length === 0 ? null : causes.join(' ← ');
}
