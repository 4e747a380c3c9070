import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { durably } from '../../core/durable.js';
import { messageOf } from '../../core/errors.js';
import { replaceFile } from '../../core/files.js';
import { type Candidate, type FilmGroup, type Log, MAX_TIMER_MS } from '../../core/plugin.js';
import { readHead } from '../../dicom/read-head.js';

const afterMs = z.int().min(1).max(MAX_TIMER_MS);

export const groupOptions = z.strictObject({
  by: z.enum(['study', 'series']).default('study').describe('What the objects of a group have in common.'),
  complete: z
    .union([
      z.strictObject({
        afterMs: afterMs.describe('Complete when no further object has arrived for this long.'),
      }),
      z.strictObject({
        count: z.int().min(2).max(10_000).describe('Complete with this many objects.'),
        afterMs: afterMs
          .default(3_600_000)
          .describe('A group with fewer objects is processed when none has arrived for this long.'),
      }),
    ])
    .describe('When a group is complete: `{ afterMs: 30000 }` or `{ count: 2 }`.'),
});
export type GroupOptions = z.output<typeof groupOptions>;

/** The folder with a record of each group that is being processed. */
const RECORDS = '.groups';
/** Wait before another attempt to write a record. */
const RETRY_MS = 5000;
const UIDS = { study: 0x0020000d, series: 0x0020000e };

const recordSchema = z.strictObject({
  by: z.enum(['study', 'series']),
  id: z.string().regex(/^[0-9a-f]{32}$/),
  complete: z.boolean(),
  names: z.array(z.string()).min(1),
});
type GroupRecord = z.output<typeof recordSchema>;

interface Waiting {
  readonly films: Map<string, Candidate>;
  timer: NodeJS.Timeout | undefined;
}

interface Released {
  readonly record: GroupRecord;
  /** Names of the films that are not settled. */
  readonly pending: Set<string>;
}

export interface GroupServices {
  readonly source: string;
  readonly log: Log;
  /** Offers a film; those of a group one after another. */
  readonly offer: (candidate: Candidate) => void;
}

/**
 * Holds back received films until their study or series is complete.
 *
 * A waiting film is a file that has not been offered: after a restart it waits again, from the time when the last one of
 * its group was written. Before the films of a complete group are offered, a record of them is durable: after a restart the
 * remaining ones are offered as films of the same group. The record is removed when all of them are settled. Films that
 * arrive later are a group of their own.
 */
export class FilmGroups {
  readonly #waiting = new Map<string, Waiting>();
  /** The group of each film that has been offered and is not settled, by the film's name. */
  readonly #released = new Map<string, Released>();
  /** False while the films of earlier runs are being looked up: until then no group is complete. */
  #started = false;
  #closed = false;

  private constructor(
    private readonly root: string,
    private readonly options: GroupOptions,
    private readonly maxBytes: number,
    private readonly services: GroupServices,
  ) {}

  /** Reads the records of an earlier process. Throws a system's error. */
  static async open(
    folder: string,
    options: GroupOptions,
    maxBytes: number,
    services: GroupServices,
  ): Promise<FilmGroups> {
    const root = join(folder, RECORDS);
    await mkdir(root, { recursive: true, mode: 0o700 });
    const groups = new FilmGroups(root, options, maxBytes, services);
    for (const name of await readdir(root)) await groups.#read(join(root, name));
    return groups;
  }

  /** A received film: it is offered when its group is complete, or at once if its header names no group. */
  async add(candidate: Candidate): Promise<void> {
    const { name, path } = candidate;
    const released = this.#released.get(name);
    if (released !== undefined) {
      released.pending.add(name);
      this.services.offer(this.of(candidate));
      return;
    }
    const head = await readHead(path, { maxBytes: this.maxBytes }, UIDS[this.options.by]).catch(
      () => undefined,
    );
    const uid = head?.dataSet.string(UIDS[this.options.by]);
    if (uid === undefined) {
      this.services.offer(candidate);
      return;
    }
    const waiting = this.#waiting.get(uid) ?? { films: new Map<string, Candidate>(), timer: undefined };
    this.#waiting.set(uid, waiting);
    waiting.films.set(name, candidate);
    this.#check(uid, waiting);
  }

  /** The film with its group, if it has one. */
  of(candidate: Candidate): Candidate {
    const record = this.#released.get(candidate.name)?.record;
    return record === undefined ? candidate : { ...candidate, group: groupOf(record) };
  }

  /** All films of earlier runs have been added: `only` when no further ones can come, so that every group is complete. */
  async start({ only }: { readonly only: boolean }): Promise<void> {
    this.#started = true;
    for (const released of new Set(this.#released.values())) await this.#removeIfSettled(released);
    for (const [uid, waiting] of [...this.#waiting]) {
      if (only) await this.#release(uid, waiting);
      else this.#check(uid, waiting);
    }
  }

  async settled(name: string): Promise<void> {
    const released = this.#released.get(name);
    if (released === undefined) return;
    released.pending.delete(name);
    if (this.#started) await this.#removeIfSettled(released);
  }

  /** Waiting films stay where they are. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
  }

  /** Releases the group if it is complete, else waits for its next film. */
  #check(uid: string, waiting: Waiting): void {
    clearTimeout(waiting.timer);
    if (!this.#started || this.#closed) return;
    const { complete } = this.options;
    if ('count' in complete && waiting.films.size >= complete.count) {
      void this.#release(uid, waiting);
      return;
    }
    const last = Math.max(...[...waiting.films.values()].map(({ mtimeMs }) => mtimeMs));
    const rest = Math.min(complete.afterMs, Math.max(0, last + complete.afterMs - Date.now()));
    waiting.timer = setTimeout(() => void this.#release(uid, waiting), rest);
  }

  async #release(uid: string, waiting: Waiting): Promise<void> {
    const { log, source, offer } = this.services;
    const { by, complete } = this.options;
    clearTimeout(waiting.timer);
    this.#waiting.delete(uid);
    const names = [...waiting.films.keys()].sort();
    const id = createHash('sha256').update(names.join('\n')).digest('hex').slice(0, 32);
    const isComplete = !('count' in complete) || names.length >= complete.count;
    const record = { by, id, complete: isComplete, names };
    try {
      await durably('dimse.group', () => replaceFile(this.#file(id), Buffer.from(JSON.stringify(record))));
    } catch (error) {
      log.warn({ source }, `a group waits, because it cannot be recorded: ${messageOf(error)}`);
      this.#waitAgain(uid, waiting);
      return;
    }
    const released = { record, pending: new Set(names) };
    for (const name of names) this.#released.set(name, released);
    if (isComplete) log.info({ source, group: id, films: names.length }, `a ${by} is complete`);
    else log.warn({ source, group: id, films: names.length }, `a ${by} has fewer objects than \`count\``);
    for (const film of waiting.films.values()) offer(this.of(film));
  }

  /** Puts a group back, with the films that have arrived meanwhile, and tries again later. */
  #waitAgain(uid: string, { films }: Waiting): void {
    const newer = this.#waiting.get(uid);
    clearTimeout(newer?.timer);
    const waiting: Waiting = { films: new Map([...films, ...(newer?.films ?? [])]), timer: undefined };
    this.#waiting.set(uid, waiting);
    if (!this.#closed) waiting.timer = setTimeout(() => void this.#release(uid, waiting), RETRY_MS);
  }

  async #read(path: string): Promise<void> {
    // An incomplete record: none of its films has been offered.
    if (!path.endsWith('.json')) {
      await rm(path, { force: true });
      return;
    }
    const text = await readFile(path, 'utf8');
    try {
      const record = recordSchema.parse(JSON.parse(text));
      const released = { record, pending: new Set<string>() };
      for (const name of record.names) this.#released.set(name, released);
    } catch {
      const { log, source } = this.services;
      log.warn({ source }, 'the record of a group is damaged: its remaining films become a new group');
      await rm(path, { force: true });
    }
  }

  async #removeIfSettled({ record, pending }: Released): Promise<void> {
    if (pending.size > 0) return;
    for (const name of record.names) this.#released.delete(name);
    await rm(this.#file(record.id), { force: true });
  }

  #file(id: string): string {
    return join(this.root, `${id}.json`);
  }
}

function groupOf({ by, id, complete, names }: GroupRecord): FilmGroup {
  return { by, id, films: names.length, complete };
}
