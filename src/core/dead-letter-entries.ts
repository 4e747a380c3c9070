import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { durably } from './durable.js';
import { RxrayError, messageOf } from './errors.js';
import { isCode, replaceFile, succeeds, syncFolder } from './files.js';

/** The contents of `reason.json`: why a file failed. */
export interface Reason {
  readonly id: string;
  readonly source: string;
  readonly file: string;
  /** The file's absolute path; missing in entries of early versions. */
  readonly path?: string;
  readonly size?: number;
  readonly mtimeMs?: number;
  readonly sha256: string;
  readonly code: string;
  /** The stage or sink that failed; null if the file could not be read. */
  readonly stage: string | null;
  readonly message: string;
  readonly cause: string | null;
  /** The hash of the graph that failed on it. */
  readonly graph: string;
  readonly at: string;
}

/** A film in the dead letter. */
export interface DeadLetterEntry extends Reason {
  /** The copy of the file; null where only the reason is kept and the file is still at {@link path}. */
  readonly kept: string | null;
  /** Whether a replay has been requested and has not finished. */
  readonly replaying: boolean;
}

const ID = /^[0-9a-f]{32}$/;

/** What {@link Reason} needs at least; an entry is read by hand and by scripts, and restored from backups. */
const reasonSchema = z
  .looseObject({
    source: z.string(),
    file: z.string(),
    code: z.string(),
    message: z.string(),
    at: z.string(),
    path: z.string().optional(),
    size: z.number().optional(),
    mtimeMs: z.number().optional(),
  })
  .partial();

/** The folder of the dead letter. */
export const deadLetterDir = (stateDir: string): string => join(stateDir, 'deadletter');
/** The folder of requested replays: one empty file for each. */
const replaysDir = (stateDir: string): string => join(stateDir, 'replays');

/** The ids of all entries. Repairs first what a crash has left incomplete. */
export async function entryIds(stateDir: string): Promise<string[]> {
  const dir = deadLetterDir(stateDir);
  const names = new Set(await namesIn(dir));
  for (const name of [...names]) {
    const [, id = '', what] = /^\.([0-9a-f]{32})\.(part|old|gone)$/.exec(name) ?? [];
    if (id === '') continue;
    names.delete(name);
    // The new entry had not replaced the old one yet.
    if (what === 'old' && !names.has(id)) {
      await rename(join(dir, name), join(dir, id));
      names.add(id);
    } else {
      await rm(join(dir, name), { recursive: true, force: true });
    }
  }
  return [...names].filter((name) => ID.test(name));
}

/** The ids of the entries that can be read at this moment. */
export async function presentIds(stateDir: string): Promise<ReadonlySet<string>> {
  return new Set((await namesIn(deadLetterDir(stateDir))).filter((name) => ID.test(name)));
}

/** All entries, latest first. */
export async function listEntries(stateDir: string): Promise<DeadLetterEntry[]> {
  const entries: DeadLetterEntry[] = [];
  for (const id of await presentIds(stateDir)) {
    const entry = await entryOf(stateDir, id);
    if (entry !== undefined) entries.push(entry);
  }
  return entries.sort((a, b) => (a.at < b.at ? 1 : -1));
}

/** One entry, by its id or the start of it. Throws DEADLETTER_UNKNOWN. */
export async function readEntry(stateDir: string, id: string): Promise<DeadLetterEntry> {
  const found = [...(await presentIds(stateDir))].filter((name) => name.startsWith(id));
  const [only] = found;
  const entry = only === undefined || id === '' ? undefined : await entryOf(stateDir, only);
  if (entry === undefined || found.length > 1) {
    const many = `${String(found.length)} films have ids that begin with ${id}: give more of the id`;
    throw new RxrayError('DEADLETTER_UNKNOWN', found.length > 1 ? many : `no film ${id} in the dead letter`);
  }
  return entry;
}

/**
 * Requests a replay of the film: by the running process, within a second, or by the next one. The entry is removed when
 * the film is done, or replaced when it fails again. Throws DEADLETTER_UNKNOWN.
 */
export async function requestReplay(stateDir: string, id: string): Promise<DeadLetterEntry> {
  const entry = await readEntry(stateDir, id);
  const dir = replaysDir(stateDir);
  await mkdir(dir, { recursive: true });
  await durably('replay.request', () => replaceFile(join(dir, entry.id), Buffer.alloc(0)));
  return { ...entry, replaying: true };
}

/** Deletes the entry. The original file stays in its place, and is not taken again. Throws DEADLETTER_UNKNOWN. */
export async function discardEntry(stateDir: string, id: string): Promise<DeadLetterEntry> {
  const entry = await readEntry(stateDir, id);
  await removeEntry(stateDir, entry.id);
  return entry;
}

/** The entries with a requested replay. */
export async function requestedReplays(stateDir: string): Promise<DeadLetterEntry[]> {
  const entries: DeadLetterEntry[] = [];
  for (const id of await namesIn(replaysDir(stateDir))) {
    if (!ID.test(id)) continue;
    const entry = await entryOf(stateDir, id);
    if (entry === undefined) await endReplay(stateDir, id);
    else entries.push(entry);
  }
  return entries;
}

/** Removes the request for a replay. */
export async function endReplay(stateDir: string, id: string): Promise<void> {
  await durably('replay.end', () => rm(join(replaysDir(stateDir), id), { force: true }));
}

/** Removes the entry, if there is one, and its request for a replay. */
export async function removeEntry(stateDir: string, id: string): Promise<void> {
  const whole = join(deadLetterDir(stateDir), id);
  const going = join(deadLetterDir(stateDir), `.${id}.gone`);
  await rm(going, { recursive: true, force: true });
  try {
    // Renamed first, so that readers never see an incomplete entry.
    await durably('deadletter.remove', () => rename(whole, going));
    await syncFolder(deadLetterDir(stateDir));
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  }
  await rm(going, { recursive: true, force: true });
  await endReplay(stateDir, id);
}

/** An entry that cannot be read (a bad disk, for example) still names its film, by what is left of it. */
async function entryOf(stateDir: string, id: string): Promise<DeadLetterEntry | undefined> {
  const dir = join(deadLetterDir(stateDir), id);
  const replaying = await succeeds(stat(join(replaysDir(stateDir), id)));
  let film: string | undefined;
  try {
    film = (await readdir(dir)).find((name) => name !== 'reason.json');
    const kept = film === undefined ? null : join(dir, film);
    const text = await readFile(join(dir, 'reason.json'), 'utf8');
    const reason = reasonSchema.parse(JSON.parse(text)) as Partial<Reason>;
    return { ...damaged(id, film, 'its reason.json is incomplete'), ...reason, id, kept, replaying };
  } catch (error) {
    // It was removed meanwhile.
    if (isCode(error, 'ENOENT') && film === undefined) return undefined;
    const kept = film === undefined ? null : join(dir, film);
    const why = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    return { ...damaged(id, film, `its reason.json cannot be read: ${why}`), kept, replaying };
  }
}

function damaged(id: string, film: string | undefined, message: string): Reason {
  return {
    id,
    source: '',
    file: film ?? '(unknown)',
    sha256: '',
    code: 'DEADLETTER_DAMAGED',
    stage: null,
    message,
    cause: null,
    graph: '',
    at: '',
  };
}

async function namesIn(dir: string): Promise<string[]> {
  return readdir(dir).catch((error: unknown) => {
    if (isCode(error, 'ENOENT')) return [];
    const reason = isCode(error, 'ENOTDIR')
      ? 'expected a folder, but a part of the path is a file'
      : messageOf(error);
    throw new RxrayError('STATE_UNWRITABLE', `${dir} cannot be read: ${reason}`, { cause: error });
  });
}
