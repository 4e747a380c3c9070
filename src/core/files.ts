import { constants } from 'node:fs';
import { open, realpath, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Makes the creation, renaming or removal of files in `dir` durable, where the system can. */
export async function syncFolder(dir: string): Promise<void> {
  // Windows cannot open folders, and does not need it.
  if (process.platform === 'win32') return;
  const handle = await open(dir, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces `path` by a file with these bytes: a reader, or a crash, sees the old one or the new one. Which of
 * the two is sure only when the folder has been synced, too.
 */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const part = `${path}.part`;
  // Whoever may write here could have put a link in its place.
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

/** The same, durably. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeWhole(path, bytes);
  await syncFolder(dirname(path));
}

/** Whether a call of the system failed with this code: `ENOENT`. */
export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** The path without symbolic links, also of a file that does not exist yet; the path itself where it cannot be found out. */
export async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isCode(error, 'ENOENT') || dirname(path) === path) return path;
    return join(await realPathOf(dirname(path)), basename(path));
  }
}
