import { rm } from 'node:fs/promises';

/** Held while a file is being written; let go with the process, however that ends. */
export interface FileLock {
  release(): Promise<void>;
}

/**
 * Takes the machine-wide lock at `path`, or returns undefined when another process or another part of
 * this one holds it. SQLite does the locking (an exclusive transaction on an empty database): unlike a
 * file with a process id in it, that cannot be left behind by a crash.
 */
export async function lockFile(path: string): Promise<FileLock | undefined> {
  const { default: Database } = await import('libsql');
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
      // Removed while still locked: whoever opened it before finds it locked, whoever comes later makes a new one.
      await rm(path, { force: true });
      database.close();
    },
  };
}
