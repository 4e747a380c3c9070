import { constants } from 'node:fs';
import { access, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

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
  const { default: Database } = await import('libsql');
  // SQLite says only that it cannot open a database.
  await access(dirname(path), constants.W_OK);
  const database = new Database(path);
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (error instanceof Error && 'code' in error && error.code === 'SQLITE_BUSY') return undefined;
    throw error;
  }
  return {
    async release() {
      // Removed while still locked: a process that opened it before finds it locked, a later one creates a new file.
      await rm(path, { force: true });
      database.close();
    },
  };
}
