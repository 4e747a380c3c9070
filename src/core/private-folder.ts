import { chmod, mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isCode, succeeds } from './files.js';
import type { Log } from './plugin.js';

/** Names of rxray's files, and of its folders, in a state folder. */
const FILES =
  /^(?:journal\.db.*|worklist.*\.jsonl|reviews\.jsonl|control\.sock|dicom-uids\.key|(?:csv|jsonl)-[0-9a-f]{16}\..*)$/;
const FOLDERS = /^(?:deadletter|replays|cache)$/;

/**
 * Creates the state folder, accessible only to its owner, since file names may name people. An existing folder (made by
 * an administrator, or a volume) is closed to others if it has no files of theirs. Otherwise only new files in it are
 * closed, with a warning. Throws if a file is where a folder should be, or the other way round.
 */
export async function makePrivate(dir: string, log: Log): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    const isFile = isCode(cause, 'EEXIST') || isCode(cause, 'ENOTDIR');
    throw isFile ? new Error('expected a folder, but a part of the path is a file', { cause }) : cause;
  });
  const entries = await readdir(dir, { withFileTypes: true });
  for (const entry of entries) {
    const isWrong = entry.isDirectory() ? FILES.test(entry.name) : entry.isFile() && FOLDERS.test(entry.name);
    if (!isWrong) continue;
    const [wanted, found] = entry.isFile() ? ['folder', 'file'] : ['file', 'folder'];
    throw new Error(`${entry.name} in it is a ${found}; expected a ${wanted}: move it away`);
  }
  if (process.platform === 'win32') return;
  const { mode } = await stat(dir);
  if ((mode & 0o077) === 0) return;
  const others = entries.filter(({ name }) => !FILES.test(name) && !FOLDERS.test(name));
  const closed = others.length === 0 && (await succeeds(chmod(dir, 0o700)));
  if (closed) return;
  log.warn({ stateDir: dir }, 'other users can list the state folder: run `chmod 700` on it');
  for (const name of ['deadletter', 'replays'])
    await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
  for (const name of ['journal.db', 'worklist.jsonl', 'reviews.jsonl']) {
    await (await open(join(dir, name), 'a', 0o600)).close();
  }
}
