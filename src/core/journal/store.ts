import Database from 'libsql';
import type { Admittance, Entry, Film, Known, Parked, Policy, Standing } from './protocol.js';

/** The layout of the tables, as `PRAGMA user_version` says it. */
const VERSION = 2;

/**
 * `films`: one row per film for ever; `outcome` is `admitted` until it is settled, `at` when it was. `discovered`: files
 * that a source has offered and that wait for admission. `deliveries`: what each sink has, has waiting or has refused, of a film
 * that is not done; a film that is done keeps the times in `sinks`.
 */
const SCHEMA = `
  CREATE TABLE films (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
    mtimeMs REAL NOT NULL, sha256 TEXT, outcome TEXT NOT NULL, reason TEXT, graph TEXT NOT NULL, at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 1, discoveredAt INTEGER, admittedAt INTEGER, sinks TEXT, ino REAL, ctimeMs REAL
  ) STRICT;
  CREATE INDEX by_name ON films (source, name);
  CREATE INDEX by_bytes ON films (sha256);
  CREATE TABLE discovered (
    source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtimeMs REAL NOT NULL,
    at INTEGER NOT NULL, ino REAL, ctimeMs REAL, PRIMARY KEY (source, name)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE deliveries (
    row INTEGER PRIMARY KEY AUTOINCREMENT, film TEXT NOT NULL, sink TEXT NOT NULL, frame BLOB, at INTEGER NOT NULL,
    UNIQUE (film, sink)
  ) STRICT;
  CREATE INDEX parked ON deliveries (sink, row) WHERE frame IS NOT NULL;
  CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  PRAGMA user_version = ${String(VERSION)};
`;

/** From the layout of the first days, which had neither a number nor deliveries. */
const MIGRATION = `
  ALTER TABLE films RENAME TO old;
  DROP INDEX by_name;
  ${SCHEMA}
  INSERT INTO films (id, source, name, path, size, mtimeMs, sha256, outcome, reason, graph, at, attempts)
    SELECT id, source, name, path, size, mtimeMs, sha256, outcome, reason, graph, at, attempts FROM old;
  DROP TABLE old;
`;

/** From each layout to the next. Inode and change time are unknown of what was recorded before they were. */
const UPGRADES: Readonly<Record<number, string>> = {
  1: `
    ALTER TABLE films ADD COLUMN ino REAL;
    ALTER TABLE films ADD COLUMN ctimeMs REAL;
    ALTER TABLE discovered ADD COLUMN ino REAL;
    ALTER TABLE discovered ADD COLUMN ctimeMs REAL;
    PRAGMA user_version = 2;
  `,
};

/** The time of a delivery that was refused: the sink is not asked again. */
const REFUSED = 0;

/** Files that were offered so long ago and never taken are gone. */
const FORGET_AFTER_MS = 30 * 24 * 3600 * 1000;

/** A row of `films`. */
interface Row extends Film {
  readonly outcome: 'admitted' | Standing;
  readonly reason: string | null;
  readonly graph: string;
  readonly at: number;
  readonly admittedAt: number | null;
  readonly attempts: number;
}

/** The journal's tables. Whatever it writes becomes durable with {@link commit}, all together. */
export class Store {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  #dirty = false;

  /** Opens or makes the database, and takes its lock: throws when another process has it. */
  constructor(path: string) {
    this.#db = new Database(path);
    this.#db.exec('PRAGMA locking_mode = EXCLUSIVE');
    this.#db.exec('PRAGMA auto_vacuum = INCREMENTAL');
    this.#db.exec('PRAGMA journal_mode = WAL');
    this.#db.exec('PRAGMA synchronous = FULL');
    this.#db.exec('BEGIN IMMEDIATE; COMMIT');
    const { user_version: version } = this.#get('PRAGMA user_version') as { user_version: number };
    if (version > VERSION) {
      throw new Error(
        `it was written by a newer rxray (layout ${String(version)}, expected ${String(VERSION)})`,
      );
    }
    if (version === 0) {
      const films = this.#get("SELECT 1 FROM sqlite_schema WHERE name = 'films'") !== undefined;
      this.#db.exec(`BEGIN IMMEDIATE; ${films ? MIGRATION : SCHEMA} COMMIT`);
    }
    for (let from = version; from > 0 && from < VERSION; from++) {
      this.#db.exec(`BEGIN IMMEDIATE; ${UPGRADES[from] ?? ''} COMMIT`);
    }
    this.#run('DELETE FROM discovered WHERE at < ?', Date.now() - FORGET_AFTER_MS);
    this.commit();
  }

  /**
   * What became of files, each in its place, size, mtime, inode and ctime; what is new to the journal is noted as
   * discovered. Of a row without inode and ctime (from an earlier layout) size and mtime have to do, once.
   */
  outcomes(
    source: string,
    files: readonly Omit<Film, 'id' | 'source' | 'sha256'>[],
    policy: Policy,
    at: number,
  ): (Known | null)[] {
    return files.map(({ path, name, size, mtimeMs, ino = null, ctimeMs = null }) => {
      const row = this.#get(
        `SELECT id, sha256, outcome, reason, graph, at, ino, ctimeMs FROM films
         WHERE source = ? AND name = ? AND path = ? AND size = ? AND mtimeMs = ?
           AND ifnull(ino = ?, TRUE) AND ifnull(ctimeMs = ?, TRUE)
         ORDER BY ino IS NULL, at DESC LIMIT 1`,
        source,
        name,
        path,
        size,
        mtimeMs,
        ino,
        ctimeMs,
      ) as Row | undefined;
      if (row?.ino === null && ino !== null) {
        this.#run('UPDATE films SET ino = ?, ctimeMs = ? WHERE id = ?', ino, ctimeMs, row.id);
      }
      // A file that could not be read may be readable next time.
      const known = row?.reason?.startsWith('FRAME_UNREADABLE:') === true ? null : knownBy(row, policy);
      if (known === null) {
        this.#run(
          `INSERT INTO discovered (source, name, path, size, mtimeMs, at, ino, ctimeMs) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET path = excluded.path, size = excluded.size, mtimeMs = excluded.mtimeMs,
             at = excluded.at, ino = excluded.ino, ctimeMs = excluded.ctimeMs
           WHERE (size, mtimeMs, ino, ctimeMs) IS NOT (excluded.size, excluded.mtimeMs, excluded.ino, excluded.ctimeMs)`,
          source,
          name,
          path,
          size,
          mtimeMs,
          at,
          ino,
          ctimeMs,
        );
      }
      return known;
    });
  }

  /** Counts an attempt at a film, unless it is settled: then it is known by its present place and identity from now on. */
  admit(film: Film, policy: Policy, findDuplicate: boolean, at: number): Admittance {
    const { id, source, name, path, size, mtimeMs, ino = null, ctimeMs = null, sha256 } = film;
    const discovered = this.#get(
      'DELETE FROM discovered WHERE source = ? AND name = ? RETURNING at',
      source,
      name,
    ) as { at: number } | undefined;
    this.#dirty = true;
    const row = this.#get('SELECT * FROM films WHERE id = ?', id) as Row | undefined;
    const known = knownBy(row, policy);
    if (known !== null) {
      this.#run(
        `UPDATE films SET path = ?, mtimeMs = ?, ino = ifnull(?, ino), ctimeMs = ifnull(?, ctimeMs) WHERE id = ?`,
        path,
        mtimeMs,
        ino,
        ctimeMs,
        id,
      );
      return { known, delivered: [], duplicateOf: null, interrupted: 0 };
    }
    // What was delivered before the user asked for everything anew counts no more.
    if (row !== undefined && Math.max(row.at, row.admittedAt ?? 0) < policy.since) {
      this.#run('DELETE FROM deliveries WHERE film = ?', id);
      this.#run('UPDATE films SET reason = NULL WHERE id = ?', id);
    }
    this.#run(
      `INSERT INTO films
         (id, source, name, path, size, mtimeMs, sha256, outcome, graph, at, discoveredAt, admittedAt, ino, ctimeMs)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'admitted', '', 0, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET path = excluded.path, mtimeMs = excluded.mtimeMs, outcome = 'admitted',
         ino = ifnull(excluded.ino, ino), ctimeMs = ifnull(excluded.ctimeMs, ctimeMs),
         reason = iif(outcome = 'admitted', reason, NULL), attempts = attempts + 1, admittedAt = excluded.admittedAt`,
      id,
      source,
      name,
      path,
      size,
      mtimeMs,
      sha256,
      discovered?.at ?? at,
      at,
      ino,
      ctimeMs,
    );
    const delivered = this.#all('SELECT sink FROM deliveries WHERE film = ?', id) as { sink: string }[];
    return {
      known: null,
      delivered: delivered.map(({ sink }) => sink),
      duplicateOf: findDuplicate ? this.#earlier(film) : null,
      interrupted: row?.outcome === 'admitted' ? row.attempts : 0,
    };
  }

  /** The earliest other film with these bytes that came before this one and has not failed. */
  #earlier({ id, sha256 }: Film): Admittance['duplicateOf'] {
    const found = this.#get(
      `SELECT id, name FROM films WHERE sha256 = ? AND outcome <> 'failed'
       AND rowid < (SELECT rowid FROM films WHERE id = ?) ORDER BY rowid LIMIT 1`,
      sha256,
      id,
    );
    return (found as { id: string; name: string } | undefined) ?? null;
  }

  /** Keeps a frame until its sink has it. */
  park(id: string, sink: string, frame: Uint8Array, at: number): void {
    this.#run(
      'INSERT INTO deliveries (film, sink, frame, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
      id,
      sink,
      Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength),
      at,
    );
  }

  /** The sink has the frame. Returns the film when it waited for nothing else. */
  confirm(id: string, sink: string, at: number): Film | null {
    this.#deliver(id, sink, at);
    const row = this.#get("SELECT * FROM films WHERE id = ? AND outcome = 'waiting'", id) as Row | undefined;
    if (row === undefined || this.#waits(id)) return null;
    this.#finish(id, at);
    return filmIn(row);
  }

  /** The film has left the graph: it is done, unless it waits for a sink, or has failed meanwhile. */
  record(entry: Entry): Standing {
    const {
      id,
      source,
      name,
      path,
      size,
      mtimeMs,
      ino = null,
      ctimeMs = null,
      sha256,
      reason,
      graph,
      at,
    } = entry;
    for (const sink of entry.confirmed) this.#deliver(id, sink, at);
    for (const sink of entry.refused)
      this.#run('DELETE FROM deliveries WHERE film = ? AND sink = ?', id, sink);
    // Since it was admitted, a sink has refused it that got it from the journal.
    const before = this.#get('SELECT outcome, reason FROM films WHERE id = ?', id) as Row | undefined;
    if (entry.outcome === 'done' && before?.outcome === 'failed') return 'failed';
    if (entry.outcome === 'done' && before?.outcome === 'admitted' && before.reason !== null) {
      return this.record({ ...entry, outcome: 'failed', reason: before.reason });
    }
    if (entry.outcome === 'failed') {
      this.#run('DELETE FROM deliveries WHERE film = ? AND at = ?', id, REFUSED);
    }
    const waiting = entry.outcome === 'done' && this.#waits(id);
    const outcome = waiting ? 'waiting' : entry.outcome;
    this.#run(
      `INSERT INTO films (id, source, name, path, size, mtimeMs, sha256, outcome, reason, graph, at, ino, ctimeMs)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET path = excluded.path, size = excluded.size, mtimeMs = excluded.mtimeMs,
         ino = ifnull(excluded.ino, ino), ctimeMs = ifnull(excluded.ctimeMs, ctimeMs),
         reason = excluded.reason, graph = excluded.graph, at = excluded.at,
         attempts = attempts + (outcome <> 'admitted'), outcome = excluded.outcome`,
      id,
      source,
      name,
      path,
      size,
      mtimeMs,
      sha256,
      outcome,
      reason,
      graph,
      at,
      ino,
      ctimeMs,
    );
    // What could not even be read was never admitted.
    this.#run('DELETE FROM discovered WHERE source = ? AND name = ?', source, name);
    if (outcome === 'done') this.#finish(id, at);
    return outcome;
  }

  /**
   * A sink has refused what was parked for it: the film has failed. When it has not come through the graph yet, or not
   * since a crash, that is only noted: other sinks are still to get it.
   */
  refuse(entry: Entry): void {
    const { id, refused, reason } = entry;
    const admitted = this.#get("SELECT 1 FROM films WHERE id = ? AND outcome = 'admitted'", id);
    if (admitted === undefined) {
      this.record(entry);
      return;
    }
    for (const sink of refused) this.#deliver(id, sink, REFUSED);
    this.#run('UPDATE films SET reason = ? WHERE id = ?', reason, id);
  }

  #deliver(id: string, sink: string, at: number): void {
    this.#run(
      `INSERT INTO deliveries (film, sink, at) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET frame = NULL, at = excluded.at`,
      id,
      sink,
      at,
    );
  }

  #waits(id: string): boolean {
    return this.#get('SELECT 1 FROM deliveries WHERE film = ? AND frame IS NOT NULL', id) !== undefined;
  }

  #finish(id: string, at: number): void {
    this.#run(
      `UPDATE films SET outcome = 'done', at = ?,
         sinks = (SELECT json_group_object(sink, at) FROM deliveries WHERE film = ?) WHERE id = ?`,
      at,
      id,
      id,
    );
    this.#run('DELETE FROM deliveries WHERE film = ?', id);
  }

  /** What waits for the sink, oldest first, behind the row `after`. */
  parked(sink: string, after: number, limit: number): Parked[] {
    const rows = this.#all(
      `SELECT row, frame, films.* FROM deliveries JOIN films ON films.id = film
       WHERE sink = ? AND row > ? AND frame IS NOT NULL ORDER BY row LIMIT ?`,
      sink,
      after,
      limit,
    ) as (Row & { row: number; frame: ArrayBuffer })[];
    return rows.map((found) => ({ row: found.row, frame: new Uint8Array(found.frame), film: filmIn(found) }));
  }

  /** How many deliveries wait, by sink. */
  parkedCounts(): Record<string, number> {
    const rows = this.#all(
      'SELECT sink, count(*) AS count FROM deliveries INDEXED BY parked WHERE frame IS NOT NULL GROUP BY sink',
    ) as { sink: string; count: number }[];
    return Object.fromEntries(rows.map(({ sink, count }) => [sink, count]));
  }

  note(key: string, value: string | null): void {
    if (value === null) this.#run('DELETE FROM notes WHERE key = ?', key);
    else this.#run('INSERT OR REPLACE INTO notes (key, value) VALUES (?, ?)', key, value);
  }

  noted(key: string): string | null {
    return (
      (this.#get('SELECT value FROM notes WHERE key = ?', key) as { value: string } | undefined)?.value ??
      null
    );
  }

  /** Those of the films that are done. */
  doneAmong(ids: readonly string[]): string[] {
    return ids.filter(
      (id) => this.#get("SELECT 1 FROM films WHERE id = ? AND outcome = 'done'", id) !== undefined,
    );
  }

  /** Whether something is written that is not durable yet. */
  get dirty(): boolean {
    return this.#dirty;
  }

  commit(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    try {
      this.#db.exec('COMMIT');
    } catch (error) {
      // A full disk: what could not be committed must not come with the next group, after it was said to have failed.
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  /** Commits, gives back what deliveries have left behind, and closes. */
  close(): void {
    this.commit();
    this.#db.exec('PRAGMA incremental_vacuum');
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    this.#db.close();
  }

  /** Lets go of the files, whatever state they are in. */
  abandon(): void {
    this.#db.close();
  }

  #prepare(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #get(sql: string, ...values: unknown[]): unknown {
    if (/^(?:DELETE|UPDATE|INSERT)/.test(sql)) this.#begin();
    return this.#prepare(sql).get(...values);
  }

  #all(sql: string, ...values: unknown[]): unknown[] {
    return this.#prepare(sql).all(...values);
  }

  #run(sql: string, ...values: unknown[]): void {
    this.#begin();
    this.#prepare(sql).run(...values);
  }

  #begin(): void {
    if (this.#dirty) return;
    this.#db.exec('BEGIN IMMEDIATE');
    this.#dirty = true;
  }
}

function knownBy(row: Row | undefined, { since, failedSince }: Policy): Known | null {
  if (row === undefined || row.outcome === 'admitted' || row.at < since) return null;
  if (row.outcome === 'failed' && row.at < failedSince) return null;
  return { outcome: row.outcome, graph: row.graph, sha256: row.sha256 };
}

function filmIn({ id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256 }: Row): Film {
  return { id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256 };
}
