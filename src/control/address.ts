import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The path length that `sockaddr_un` allows on all systems, with the terminating byte. */
const MAX_PATH = 103;

/**
 * The local address of the process that runs the graph of this state folder: `control.sock` in the folder; if that path
 * is too long for a socket, a socket in the user's folder under the system's temporary folder; on Windows a named pipe.
 */
export function controlAddress(stateDir: string): string {
  const name = createHash('sha256').update(stateDir).digest('hex').slice(0, 16);
  if (process.platform === 'win32') return `\\\\.\\pipe\\rxray-${name}`;
  const path = join(stateDir, 'control.sock');
  if (Buffer.byteLength(path) <= MAX_PATH) return path;
  return join(tmpdir(), `rxray-${statSync(stateDir).uid}`, `${name}.sock`);
}

/** Creates the folder of the address if it is not the state folder. Throws if it belongs to another user. */
export function prepareAddress(address: string, stateDir: string): void {
  const dir = dirname(address);
  if (process.platform === 'win32' || dir === stateDir) return;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const info = lstatSync(dir);
  if (!info.isDirectory() || info.uid !== process.getuid?.() || (info.mode & 0o077) !== 0) {
    throw new Error(`${dir} is not a folder of this user alone`);
  }
}
