import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  copyFile,
  link,
  lstat,
  mkdir,
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
import { isCode, sha256Of, syncFile, syncFolder } from '../../core/files.js';
import type { Candidate } from '../../core/plugin.js';

/** Older folders of another process are treated as left by a crash. */
const ABANDONED_MS = 3_600_000;

/** Folders in use by this process. */
const inUse = new Set<string>();

/** Prefix of folders for files that are being moved or deleted, beside their original place. */
const ASIDE = /^\.rxray-([0-9a-f]{8})-[0-9a-f]{12}$/;

/** Identifies the folders of one source of one graph. */
export function ownerTag(stateDir: string, source: string): string {
  return createHash('sha256').update(`${stateDir}\0${source}`).digest('hex').slice(0, 8);
}

/**
 * Moves the film at `candidate.path` to `archived`, or deletes it, if its bytes have the hash `sha256`; a file with
 * other bytes stays. Never overwrites a file. Another file may replace the film at any moment, so a check of the path
 * is not enough: the file is first renamed into a private folder, then hashed, and renamed back if it is another film.
 * After a crash {@link restore} empties that folder.
 */
export async function putAway(
  candidate: Candidate,
  { sha256, archived, tag }: { sha256: string; archived: string | undefined; tag: string },
): Promise<void> {
  const { path } = candidate;
  const found = await lstat(path).catch(() => undefined);
  const isLink = found?.isSymbolicLink() === true;
  const target = isLink ? await stat(path).catch(() => undefined) : found;
  // It is offered again, as a new film.
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

/** Whether the film from `path`, now at `taken`, may be deleted: it has these bytes, and the archive has a copy. */
async function goesAway(
  taken: string,
  path: string,
  sha256: string,
  archived: string | undefined,
): Promise<boolean> {
  const info = await lstat(taken);
  const isLink = info.isSymbolicLink();
  // Relative links are relative to their original place.
  const file = isLink ? await realpath(resolve(dirname(path), await readlink(taken))).catch(() => '') : taken;
  // The link's target has been moved already.
  if (file === '') return true;
  if (!(await stat(file)).isFile() || (await sha256Of(file)) !== sha256) return false;
  if (archived === undefined) return true;
  const copy = await putAside(file, archived);
  // The target of a link is not in the private folder.
  return !isLink || (await sha256Of(copy)) === sha256;
}

/** Whether the folder was made by {@link putAway} and is not in use. */
export async function isAbandoned(dir: string, tag: string): Promise<boolean> {
  const owner = ASIDE.exec(basename(dir))?.[1];
  if (owner === undefined || inUse.has(dir)) return false;
  if (owner === tag) return true;
  const info = await stat(dir).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > ABANDONED_MS;
}

/** Moves back files that a crash has left in a folder of {@link putAway}. Returns their new paths. */
export async function restore(dir: string): Promise<string[]> {
  const restored: string[] = [];
  for (const name of await readdir(dir)) {
    restored.push(await putBack(join(dir, name), join(dirname(dir), name)));
  }
  await rmdir(dir);
  return restored;
}

/** Moves a file back to `path`; if there is another file, beside it. Returns the new path. */
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
    // Copied before a crash, but not yet removed here.
    (there) => (target === undefined ? areSame(taken, there) : Promise.resolve(false)),
  );
  await unlink(taken);
  return place;
}

/**
 * Links or copies a file to `to`, also on another disk; if there is another file, to `name-1`, `name-2`, … Resolves
 * with the path when it is durable.
 */
async function putAside(from: string, to: string): Promise<string> {
  await mkdir(dirname(to), { recursive: true });
  return firstFree(
    to,
    (free) => linkOrCopy(from, free),
    // Copied before a crash, but not yet removed here.
    (taken) => areSame(from, taken),
  );
}

/** The first of `name`, `name-1`, `name-2`, … that is free for `make`, or has a file that `suits`. */
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
    await syncFile(to);
  }
  await syncFolder(dirname(to));
}

function isSameFile(found: { size: number; mtimeMs: number; ino: number }, candidate: Candidate): boolean {
  const { size, mtimeMs, ino = found.ino } = candidate;
  return found.size === size && found.mtimeMs === mtimeMs && found.ino === ino;
}

/** Whether the two are the same file, or have the same bytes. */
async function areSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([stat(one), stat(other)]);
  if (a.dev === b.dev && a.ino === b.ino) return true;
  if (!b.isFile() || a.size !== b.size) return false;
  const [bytes, others] = await Promise.all([readFile(one), readFile(other)]);
  return bytes.equals(others);
}
