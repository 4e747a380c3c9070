import { constants } from 'node:fs';
import { access, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type Database from 'libsql';
import { messageOf } from '../core/errors.js';
import { isCode } from '../core/files.js';

/** A lock on a file; released when the process ends, even by a crash. */
export interface FileLock {
  release(): Promise<void>;
}

/**
 * Takes the machine-wide lock at `path`, or returns undefined when another process or another part of this one holds
 * it. It is an exclusive SQLite transaction on an empty database: unlike a file with a process id, it cannot remain
 * after a crash.
 */
export async function lockFile(path: string): Promise<FileLock | undefined> {
  const { default: Libsql } = await import('libsql');
  // SQLite says only that it cannot open a database.
  await access(dirname(path), constants.W_OK);
  let database: Database.Database | undefined;
  try {
    database = new Libsql(path);
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (isCode(error, 'SQLITE_BUSY')) return undefined;
    throw new Error(`the file ${path}, which locks it, cannot be used: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return {
    async release() {
      // Removed while still locked: a process that opened it before finds it locked, a later one creates a new file.
      // Windows and SMB remove no open file: it stays there, unlocked.
      await rm(path, { force: true }).catch(() => undefined);
      database.close();
    },
  };
}
