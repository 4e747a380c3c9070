import { constants } from 'node:fs';
import { open, realpath, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Makes the creation, renaming or removal of files in `dir` durable, where the system supports it. */
export async function syncFolder(dir: string): Promise<void> {
  // Windows cannot open folders, and needs no such sync.
  if (process.platform === 'win32') return;
  const handle = await open(dir, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
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

/** Whether a system call failed with this code, such as `ENOENT`. */
export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
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
