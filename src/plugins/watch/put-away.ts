import { createHash, randomBytes } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import {
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rmdir,
  stat,
  symlink,
  unlink,
} from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isCode } from '../../core/files.js';
import type { Candidate } from '../../core/plugin.js';

/** Folders of another owner are taken for those of a process that crashed when they are older than this. */
const ABANDONED_MS = 3_600_000;

/** Folders that this process is using. */
const inUse = new Set<string>();

/** Files that are being moved or deleted are in folders of this name, beside the place that they had. */
const ASIDE = /^\.rxray-([0-9a-f]{8})-[0-9a-f]{12}$/;

/** Tells the folders of one source of one graph from those of others. */
export function ownerTag(stateDir: string, source: string): string {
  return createHash('sha256').update(`${stateDir}\0${source}`).digest('hex').slice(0, 8);
}

/**
 * Moves the film at `candidate.path` to `archived`, or deletes it, if its bytes have the hash `sha256`; a file of other
 * bytes stays. Never overwrites a file.
 *
 * A file may take the film's place at any moment, and no check of a path holds until the path is used. So whatever is
 * there is renamed first, into a folder in which nobody else writes, then hashed, and renamed back if it is another
 * film. A crash in between leaves that folder, which {@link restore} empties.
 */
export async function putAway(
  candidate: Candidate,
  { sha256, archived, tag }: { sha256: string; archived: string | undefined; tag: string },
): Promise<void> {
  const { path } = candidate;
  const found = await lstat(path).catch(() => undefined);
  const isLink = found?.isSymbolicLink() === true;
  const target = isLink ? await stat(path).catch(() => undefined) : found;
  // It is offered again, as the new film that it is.
  if (found === undefined || (target !== undefined && !isSameFile(target, candidate))) return;

  const aside = join(dirname(path), `.rxray-${tag}-${randomBytes(6).toString('hex')}`);
  inUse.add(aside);
  try {
    await mkdir(aside);
    const taken = join(aside, basename(path));
    try {
      await rename(path, taken);
      if (await goesAway(taken, path, sha256, archived)) await unlink(taken);
      else await putBack(taken, path);
    } catch (error) {
      await putBack(taken, path).catch(() => undefined);
      throw error;
    } finally {
      await rmdir(aside).catch(() => undefined);
    }
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  } finally {
    inUse.delete(aside);
  }
}

/** Whether the film that was at `path` and is now at `taken` may be deleted: it has these bytes, and a copy in the archive. */
async function goesAway(
  taken: string,
  path: string,
  sha256: string,
  archived: string | undefined,
): Promise<boolean> {
  const info = await lstat(taken);
  const isLink = info.isSymbolicLink();
  // Relative links are relative to the place that they had.
  const file = isLink ? await realpath(resolve(dirname(path), await readlink(taken))).catch(() => '') : taken;
  // The film that the link led to has been put away already.
  if (file === '') return true;
  if (!(await stat(file)).isFile() || (await sha256Of(file)) !== sha256) return false;
  if (archived === undefined) return true;
  const copy = await putAside(file, archived);
  // What a link leads to is not out of the way of others.
  return !isLink || (await sha256Of(copy)) === sha256;
}

/** Whether the folder is one that {@link putAway} makes, and no process is using it. */
export async function isAbandoned(dir: string, tag: string): Promise<boolean> {
  const owner = ASIDE.exec(basename(dir))?.[1];
  if (owner === undefined || inUse.has(dir)) return false;
  if (owner === tag) return true;
  const info = await stat(dir).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > ABANDONED_MS;
}

/** Puts back what a crash has left in a folder of {@link putAway}. Returns where the files are now. */
export async function restore(dir: string): Promise<string[]> {
  const restored: string[] = [];
  for (const name of await readdir(dir)) {
    restored.push(await putBack(join(dir, name), join(dirname(dir), name)));
  }
  await rmdir(dir);
  return restored;
}

/** Puts a file back to `path`, or where there is one by now, beside it. Returns where it is. */
async function putBack(taken: string, path: string): Promise<string> {
  const info = await lstat(taken);
  if (info.isDirectory()) {
    await rename(taken, path);
    return path;
  }
  const target = info.isSymbolicLink() ? await readlink(taken) : undefined;
  const place = await firstFree(
    path,
    (free) => (target === undefined ? linkOrCopy(taken, free) : symlink(target, free)),
    // Put there before a crash, which came before it was taken away from here.
    (there) => (target === undefined ? areSame(taken, there) : Promise.resolve(false)),
  );
  await unlink(taken);
  return place;
}

/**
 * Puts a file at `to` as well, also on another disk; where there is another one of that name, as `name-1`, `name-2`, …
 * Durable when it resolves with the place.
 */
async function putAside(from: string, to: string): Promise<string> {
  await mkdir(dirname(to), { recursive: true });
  return firstFree(
    to,
    (free) => linkOrCopy(from, free),
    // Put there before a crash, which came before it was taken away from here.
    (taken) => areSame(from, taken),
  );
}

/** The first of `name`, `name-1`, `name-2`, … at which `make` does not find a file, or finds one that `suits`. */
async function firstFree(
  path: string,
  make: (free: string) => Promise<void>,
  suits: (taken: string) => Promise<boolean> = () => Promise.resolve(false),
): Promise<string> {
  const ending = extname(path);
  for (let n = 0; ; n++) {
    const free = n === 0 ? path : `${path.slice(0, path.length - ending.length)}-${String(n)}${ending}`;
    try {
      await make(free);
      return free;
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      if (await suits(free)) return free;
    }
  }
}

/** Unlike a rename, neither ever overwrites. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (isCode(error, 'EEXIST')) throw error;
    // Another disk, or one without hard links.
    await copyFile(from, to, constants.COPYFILE_EXCL);
    await sync(to);
  }
  // Windows keeps the names in a folder without being asked, and cannot be asked.
  if (process.platform !== 'win32') await sync(dirname(to));
}

function isSameFile(found: { size: number; mtimeMs: number; ino: number }, candidate: Candidate): boolean {
  const { size, mtimeMs, ino = found.ino } = candidate;
  return found.size === size && found.mtimeMs === mtimeMs && found.ino === ino;
}

/** Whether the two are one file, or have the same bytes. */
async function areSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([stat(one), stat(other)]);
  if (a.dev === b.dev && a.ino === b.ino) return true;
  if (!b.isFile() || a.size !== b.size) return false;
  const [bytes, others] = await Promise.all([readFile(one), readFile(other)]);
  return bytes.equals(others);
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function sync(path: string): Promise<void> {
  // Windows flushes only what may be written; elsewhere the copy of a read-only film may not.
  const handle = await open(path, process.platform === 'win32' ? 'r+' : 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
