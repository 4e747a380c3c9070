import { createHmac, randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RxrayError } from '../core/errors.js';
import { isCode } from '../core/files.js';

/** The file in the state folder with the key by which UIDs are mapped. */
export const KEY_FILE = 'dicom-uids.key';

const KEY_BYTES = 32;

/**
 * Maps UIDs to others, the same to the same: `2.25.` and 128 bits of a keyed hash (PS3.5, B.2). Without the key it is impossible to
 * find out which UID was mapped. The key is made when the first UID comes, for its owner alone. Throws STATE_DAMAGED if
 * there is a key of another length.
 */
export function uidMap(stateDir: string): (uid: string) => string {
  let key = existingKey(join(stateDir, KEY_FILE));
  return (uid) => derivedUid((key ??= keyIn(stateDir)), uid);
}

/** A UID made of text by a keyed hash: the same for the same text. */
export function derivedUid(key: Uint8Array, text: string): string {
  const digest = createHmac('sha256', key).update(text).digest('hex').slice(0, 32);
  return `2.25.${BigInt(`0x${digest}`).toString()}`;
}

function keyIn(stateDir: string): Buffer {
  const file = join(stateDir, KEY_FILE);
  const part = `${file}.${randomBytes(6).toString('hex')}`;
  const existing = existingKey(file);
  if (existing !== undefined) return existing;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  // Several threads may come at once: the first link counts, and no one reads half a key.
  writeFileSync(part, randomBytes(KEY_BYTES), { mode: 0o600, flush: true });
  try {
    linkSync(part, file);
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error;
  } finally {
    rmSync(part, { force: true });
  }
  return readFileSync(file);
}

function existingKey(file: string): Buffer | undefined {
  let key: Buffer;
  try {
    key = readFileSync(file);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  if (key.byteLength === KEY_BYTES) return key;
  // A new key in its place would give the films of one study other UIDs than before.
  throw new RxrayError(
    'STATE_DAMAGED',
    `the key ${file} is damaged: it has ${String(key.byteLength)} bytes, expected ${String(KEY_BYTES)}. Put it back from a backup, or delete it: then UIDs are mapped to others than before`,
  );
}
