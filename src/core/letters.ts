import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { durably } from './durable.js';
import { RxrayError, messageOf } from './errors.js';
import { isCode, replaceFile, syncFolder } from './files.js';

/** What `reason.json` says of a file that failed. */
export interface Reason {
  readonly id: string;
  readonly source: string;
  readonly file: string;
  /** Where the file lay, absolute; missing in letters of early versions. */
  readonly path?: string;
  readonly size?: number;
  readonly mtimeMs?: number;
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

/** A film in the dead letter. */
export interface Letter extends Reason {
  /** The copy of the file, or null where only the reason is kept: the file stays where it is, at {@link path}. */
  readonly kept: string | null;
  /** Whether a replay has been asked for that has not come to its end. */
  readonly replaying: boolean;
}

const ID = /^[0-9a-f]{32}$/;

/** What {@link Reason} needs at least; a letter is read by hand and by scripts, and restored from backups. */
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
export const lettersDir = (stateDir: string): string => join(stateDir, 'deadletter');
/** The folder of the replays that were asked for: one empty file each. */
const replaysDir = (stateDir: string): string => join(stateDir, 'replays');

/** The ids of everything in the dead letter, once what a crash has left half done is mended. */
export async function letterIds(stateDir: string): Promise<string[]> {
  const dir = lettersDir(stateDir);
  const names = new Set(await namesIn(dir));
  for (const name of [...names]) {
    const [, id = '', what] = /^\.([0-9a-f]{32})\.(part|old|gone)$/.exec(name) ?? [];
    if (id === '') continue;
    names.delete(name);
    // The new letter had not come into the place of the old one.
    if (what === 'old' && !names.has(id)) {
      await rename(join(dir, name), join(dir, id));
      names.add(id);
    } else {
      await rm(join(dir, name), { recursive: true, force: true });
    }
  }
  return [...names].filter((name) => ID.test(name));
}

/** Everything in the dead letter, the latest first. */
export async function listLetters(stateDir: string): Promise<Letter[]> {
  const ids = (await namesIn(lettersDir(stateDir))).filter((name) => ID.test(name));
  const letters: Letter[] = [];
  for (const id of ids) {
    const letter = await letterOf(stateDir, id);
    if (letter !== undefined) letters.push(letter);
  }
  return letters.sort((a, b) => (a.at < b.at ? 1 : -1));
}

/** One of them, by its id or the beginning of it. Throws DEADLETTER_UNKNOWN. */
export async function readLetter(stateDir: string, id: string): Promise<Letter> {
  const found = (await namesIn(lettersDir(stateDir))).filter((name) => ID.test(name) && name.startsWith(id));
  const [only] = found;
  const letter = only === undefined || id === '' ? undefined : await letterOf(stateDir, only);
  if (letter === undefined || found.length > 1) {
    const many = `${String(found.length)} films have ids that begin with ${id}: expected more of it`;
    throw new RxrayError('DEADLETTER_UNKNOWN', found.length > 1 ? many : `no film ${id} in the dead letter`);
  }
  return letter;
}

/**
 * Has the film run through the graph once more: by the process that runs it, within a second, or by the next one.
 * The letter goes when the film is done, or is replaced by that of the new failure. Throws DEADLETTER_UNKNOWN.
 */
export async function requestReplay(stateDir: string, id: string): Promise<Letter> {
  const letter = await readLetter(stateDir, id);
  const dir = replaysDir(stateDir);
  await mkdir(dir, { recursive: true });
  await durably('replay.request', () => replaceFile(join(dir, letter.id), Buffer.alloc(0)));
  return { ...letter, replaying: true };
}

/** Throws the film away for good; the original stays where it is, and is not taken again. Throws DEADLETTER_UNKNOWN. */
export async function discardLetter(stateDir: string, id: string): Promise<Letter> {
  const letter = await readLetter(stateDir, id);
  await removeLetter(stateDir, letter.id);
  return letter;
}

/** The replays that were asked for. */
export async function requestedReplays(stateDir: string): Promise<Letter[]> {
  const letters: Letter[] = [];
  for (const id of await namesIn(replaysDir(stateDir))) {
    if (!ID.test(id)) continue;
    const letter = await letterOf(stateDir, id);
    if (letter === undefined) await endReplay(stateDir, id);
    else letters.push(letter);
  }
  return letters;
}

/** The replay has come to its end, whatever that was. */
export async function endReplay(stateDir: string, id: string): Promise<void> {
  await durably('replay.end', () => rm(join(replaysDir(stateDir), id), { force: true }));
}

/** Removes the letter, if there is one, and whatever was asked for it. */
export async function removeLetter(stateDir: string, id: string): Promise<void> {
  const whole = join(lettersDir(stateDir), id);
  const going = join(lettersDir(stateDir), `.${id}.gone`);
  await rm(going, { recursive: true, force: true });
  try {
    // Renamed first, so that half a letter is never seen.
    await durably('deadletter.remove', () => rename(whole, going));
    await syncFolder(lettersDir(stateDir));
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  }
  await rm(going, { recursive: true, force: true });
  await endReplay(stateDir, id);
}

/** One that cannot be read (torn by a bad disk, say) still names its film, by what is left of it. */
async function letterOf(stateDir: string, id: string): Promise<Letter | undefined> {
  const dir = join(lettersDir(stateDir), id);
  const replaying = await stat(join(replaysDir(stateDir), id)).then(
    () => true,
    () => false,
  );
  let film: string | undefined;
  try {
    film = (await readdir(dir)).find((name) => name !== 'reason.json');
    const kept = film === undefined ? null : join(dir, film);
    const text = await readFile(join(dir, 'reason.json'), 'utf8');
    const reason = reasonSchema.parse(JSON.parse(text)) as Partial<Reason>;
    return { ...damaged(id, film, 'its reason.json is incomplete'), ...reason, id, kept, replaying };
  } catch (error) {
    // It has gone meanwhile.
    if (isCode(error, 'ENOENT') && film === undefined) return undefined;
    const kept = film === undefined ? null : join(dir, film);
    return { ...damaged(id, film, `its reason.json cannot be read: ${messageOf(error)}`), kept, replaying };
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
    throw error;
  });
}
