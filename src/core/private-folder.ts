import { chmod, mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from './plugin.js';

/** What rxray keeps in a state folder. */
const OWN =
  /^(?:journal\.db.*|deadletter|replays|cache|worklist.*\.jsonl|reviews\.jsonl|control\.sock|dicom-uids\.key|(?:csv|jsonl)-[0-9a-f]{16}\..*)$/;

/**
 * Makes the state folder, for its owner alone: names of files may name people. One that was made before, by an
 * administrator or as a volume, is closed to others if it holds nothing of theirs;
 * else what is new in it is closed, and a warning says so.
 */
export async function makePrivate(dir: string, log: Log): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (process.platform === 'win32') return;
  const { mode } = await stat(dir);
  if ((mode & 0o077) === 0) return;
  const others = (await readdir(dir)).filter((name) => !OWN.test(name));
  const closed = others.length === 0 && (await chmod(dir, 0o700).then(yes, no));
  if (closed) return;
  log.warn({ stateDir: dir }, 'others may list the state folder: `chmod 700` it');
  for (const name of ['deadletter', 'replays'])
    await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
  for (const name of ['journal.db', 'worklist.jsonl', 'reviews.jsonl']) {
    await (await open(join(dir, name), 'a', 0o600)).close();
  }
}

const yes = (): boolean => true;
const no = (): boolean => false;
