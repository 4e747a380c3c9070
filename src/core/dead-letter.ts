import { constants } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { RxrayError, messageOf } from './errors.js';
import type { Failure, Ticket } from './graph/ticket.js';

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
 * `reason.json`. A file that cannot be read leaves the reason alone.
 */
export class DeadLetter {
  readonly dir: string;

  constructor(
    stateDir: string,
    private readonly graph: string,
  ) {
    this.dir = join(stateDir, 'deadletter');
  }

  /** Keeps the ticket's file with the reason of its failure. Throws STATE_UNWRITABLE. */
  async keep(ticket: Ticket, failure: Failure): Promise<void> {
    const { origin, candidate, id } = ticket;
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
      // An unreadable file has no copy: its reason is all there is to keep.
      if (candidate.error === undefined) {
        await copyFile(candidate.path, join(part, basename(origin.name)), constants.COPYFILE_FICLONE).catch(
          () => undefined,
        );
      }
      await writeFile(join(part, 'reason.json'), `${JSON.stringify(reason, null, 2)}\n`);
      await rm(whole, { recursive: true, force: true });
      await rename(part, whole);
    } catch (cause) {
      throw new RxrayError(
        'STATE_UNWRITABLE',
        `the dead letter ${this.dir} cannot be written: ${messageOf(cause)}`,
        { cause },
      );
    }
  }
}

function causeOf(thrown: unknown): string | null {
  const causes: string[] = [];
  for (let cause = thrown; cause instanceof Error && cause.cause !== undefined; cause = cause.cause) {
    causes.push(messageOf(cause.cause));
  }
  return causes.length === 0 ? null : causes.join(' ← ');
}
