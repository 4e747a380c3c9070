import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { durably } from './durable.js';
import { RxrayError, messageOf } from './errors.js';
import type { Origin } from './frame.js';
import type { Failure } from './graph/ticket.js';
import type { Candidate } from './plugin.js';
import type { WorkerPool } from './workers/pool.js';

/** A film that failed: a ticket, or what is left of one. */
export interface Failed {
  readonly id: string;
  readonly candidate: Candidate;
  readonly origin: Origin;
}

/** What `reason.json` says of a file that failed. */
export interface Reason {
  readonly id: string;
  readonly source: string;
  readonly file: string;
  readonly sha256: string;
  readonly code: string;
  /** The entry of the graph in which it happened; null when the file could not even be read. */
  readonly stage: string | null;
  readonly message: string;
  readonly cause: string | null;
  /** The hash of the graph that failed on it. */
  readonly graph: string;
  readonly at: string;
}

/**
 * The folder of the files that failed: one folder per frame id with the original file and its
 * `reason.json`, on the disk when `keep` resolves. A file that could not be read, or that has changed
 * since, leaves the reason alone.
 */
export class DeadLetter {
  readonly dir: string;

  constructor(
    stateDir: string,
    private readonly graph: string,
    private readonly pool: WorkerPool,
  ) {
    this.dir = join(stateDir, 'deadletter');
  }

  /** Keeps the film's file with the reason of its failure. Throws STATE_UNWRITABLE. */
  async keep(film: Failed, failure: Failure): Promise<void> {
    const { origin, id } = film;
    const reason: Reason = {
      id,
      source: origin.source,
      file: origin.name,
      sha256: origin.sha256,
      code: failure.code,
      stage: failure.component ?? null,
      message: failure.message,
      cause: causeOf(failure.cause),
      graph: this.graph,
      at: new Date().toISOString(),
    };
    const part = join(this.dir, `.${id}.part`);
    const whole = join(this.dir, id);
    try {
      await rm(part, { recursive: true, force: true });
      await mkdir(part, { recursive: true });
      const bytes = await this.#readAgain(film);
      // The reason must not take the place of a film of its name.
      if (bytes !== null)
        await writeDurably(join(part, basename(origin.name).replace(/^reason\.json$/, 'film-$&')), bytes);
      const text = `${JSON.stringify(reason, null, 2)}\n`;
      await durably('deadletter.write', () => writeDurably(join(part, 'reason.json'), text));
      await syncDir(part);
      await rm(whole, { recursive: true, force: true });
      await durably('deadletter.rename', () => rename(part, whole));
      await syncDir(this.dir);
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
  async #readAgain({ candidate, origin }: Failed): Promise<Uint8Array | null> {
    if (origin.sha256 === '') return null;
    const reply = await this.pool.read(candidate, candidate.size).catch(() => null);
    return reply?.sha256 === origin.sha256 ? reply.encoded : null;
  }
}

async function writeDurably(path: string, data: Uint8Array | string): Promise<void> {
  await writeFile(path, data, { flush: true });
}

async function syncDir(path: string): Promise<void> {
  const dir = await open(path, 'r');
  try {
    await dir.sync();
  } finally {
    await dir.close();
  }
}

function causeOf(thrown: unknown): string | null {
  const causes: string[] = [];
  for (let cause = thrown; cause instanceof Error && cause.cause !== undefined; cause = cause.cause) {
    causes.push(messageOf(cause.cause));
  }
  return causes.length === 0 ? null : causes.join(' ← ');
}
