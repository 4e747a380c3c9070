import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { open, realpath, rename, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** Makes the creation, renaming or removal of files in `dir` durable, where the system supports it. */
export async function syncFolder(dir: string): Promise<void> {
  // Windows cannot open folders, and needs no such sync.
  if (process.platform === 'win32') return;
  await sync(dir, 'r');
}

/**
 * Replaces `path` atomically: after a crash it is the old file or the new one. It is the new one for certain once the
 * folder is synced.
 */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const part = `${path}.part`;
  // Another user with write access could have put a link there.
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const handle = await open(
    part,
    O_WRONLY | O_CREAT | O_TRUNC | (process.platform === 'win32' ? 0 : O_NOFOLLOW),
  );
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(part, path);
}

/** Replaces `path` atomically and durably. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeWhole(path, bytes);
  await syncFolder(dirname(path));
}

/** The bytes of a file, pipe or device. Throws if there are more than `most`, of which it reads no more. */
export async function readAtMost(path: string, most: number): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    if (size > most) throw new Error(`it has ${size} bytes, expected at most ${most}`);
    // Pipes and devices have no size.
    const bytes = await buffer(handle.createReadStream({ end: most, autoClose: false }));
    if (bytes.length > most) throw new Error(`it has more than ${most} bytes`);
    return bytes;
  } finally {
    await handle.close();
  }
}

/** SHA-256 of a file's bytes, in hexadecimal. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Makes the contents of a file durable. */
export async function syncFile(path: string): Promise<void> {
  // Windows flushes only writable files; on other systems the copy of a read-only film is not writable.
  await sync(path, process.platform === 'win32' ? 'r+' : 'r');
}

async function sync(path: string, flags: string): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Whether an action succeeds: for those whose failure is an answer, such as `stat` of a missing file. */
export async function succeeds(act: Promise<unknown>): Promise<boolean> {
  return act.then(
    () => true,
    () => false,
  );
}

/** The code of a failed system call, such as `ENOENT`; undefined for other errors. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

export function isCode(error: unknown, code: string): boolean {
  return codeOf(error) === code;
}

/** The characters of a name that fit into so many bytes: file systems take 255. */
export function shortened(name: string, bytes: number): string {
  let short = '';
  for (const character of name) {
    if (Buffer.byteLength(short + character) > bytes) break;
    short += character;
  }
  return short;
}

/** The path with symbolic links resolved, also for a file that does not exist yet; the path itself if that fails. */
export async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isCode(error, 'ENOENT') || dirname(path) === path) return path;
    return join(await realPathOf(dirname(path)), basename(path));
  }
}

/**
 * The path of a file that a list names, relative to `base`: as it is spelled, else in the other Unicode form (macOS), with other
 * slashes (Windows), or without the blanks around it. As it is spelled if there is none.
 */
export async function existingPath(name: string, base = ''): Promise<string> {
  const bare = name.trim();
  const spellings = [name, bare, bare.replaceAll('\\', '/')].flatMap((each) => [
    each,
    each.normalize('NFC'),
    each.normalize('NFD'),
  ]);
  for (const each of new Set(spellings)) {
    const path = resolve(base, each);
    if (await succeeds(stat(path))) return path;
  }
  return resolve(base, name);
}
