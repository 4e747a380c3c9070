import Database from 'libsql';
import { isSkip, type ErrorCode } from '../errors.js';
import {
  ADMITTED,
  concluded,
  next,
  precautionAfter,
  type Delivery,
  type Fate,
  type Status,
} from '../fate.js';
import { partOf } from '../file-part.js';
import type { Interval } from '../history.js';
import type {
  AdmitOptions,
  Admittance,
  Conclusion,
  FilmFile,
  JournalRecord,
  Parked,
  Policy,
  Refusal,
} from './protocol.js';

/** The layout of the tables, stored in `PRAGMA user_version`. */
const VERSION = 4;

/**
 * `films`: one row per film, never deleted, with its fate; `at` is when it settled, `attempts` the number of attempts,
 * `begun` the number since it last settled. `discovered`: files that a source has offered and that wait for admission.
 * `deliveries`: the status at each sink of a film that is not done; for a film that is done, `sinks` has the times.
 * `history`: how many films settled in each minute since 1970.
 */
const SCHEMA = `
  CREATE TABLE films (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
    mtimeMs REAL NOT NULL, ino REAL, ctimeMs REAL, sha256 TEXT, status TEXT NOT NULL, code TEXT, message TEXT,
    graph TEXT NOT NULL, at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 1, begun INTEGER NOT NULL DEFAULT 0,
    discoveredAt INTEGER, admittedAt INTEGER, sinks TEXT
  ) STRICT;
  CREATE INDEX by_name ON films (source, name);
  CREATE INDEX by_bytes ON films (sha256);
  CREATE TABLE discovered (
    source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtimeMs REAL NOT NULL,
    at INTEGER NOT NULL, ino REAL, ctimeMs REAL, PRIMARY KEY (source, name)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE deliveries (
    row INTEGER PRIMARY KEY AUTOINCREMENT, film TEXT NOT NULL, sink TEXT NOT NULL, status TEXT NOT NULL, frame BLOB,
    at INTEGER NOT NULL, UNIQUE (film, sink)
  ) STRICT;
  CREATE INDEX parked ON deliveries (sink, row) WHERE status = 'parked';
  CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
`;
const HISTORY = `
  CREATE TABLE history (
    minute INTEGER PRIMARY KEY, done INTEGER NOT NULL, failed INTEGER NOT NULL, skipped INTEGER NOT NULL,
    suspicious INTEGER NOT NULL
  ) STRICT;
`;

/** The code at the start of a reason such as `FRAME_SINK: 413`, and the message after it. */
const CODE = "nullif(substr(reason, 1, instr(reason, ': ') - 1), '')";
const MESSAGE = "iif(instr(reason, ': ') > 0, substr(reason, instr(reason, ': ') + 2), reason)";

/** For each layout, the number of a later one and the statements that lead to it. */
const UPGRADES: Readonly<Record<number, readonly [number, string]>> = {
  // The first layout had no number and no deliveries.
  0: [
    3,
    `ALTER TABLE films RENAME TO old;
     DROP INDEX by_name;
     ${SCHEMA}
     INSERT INTO films (id, source, name, path, size, mtimeMs, sha256, status, code, message, graph, at, attempts)
       SELECT id, source, name, path, size, mtimeMs, sha256, outcome, ${CODE}, ${MESSAGE}, graph, at, attempts FROM old;
     DROP TABLE old;`,
  ],
  // Adds inode and change time, which are unknown for old rows.
  1: [
    2,
    `ALTER TABLE films ADD COLUMN ino REAL;
     ALTER TABLE films ADD COLUMN ctimeMs REAL;
     ALTER TABLE discovered ADD COLUMN ino REAL;
     ALTER TABLE discovered ADD COLUMN ctimeMs REAL;`,
  ],
  // Splits the reason into code and message, and gives deliveries a status: parked if they had a frame, refused if
  // their time was 0.
  2: [
    3,
    `ALTER TABLE films RENAME COLUMN outcome TO status;
     ALTER TABLE films ADD COLUMN code TEXT;
     ALTER TABLE films ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
     UPDATE films SET code = ${CODE}, reason = ${MESSAGE} WHERE reason IS NOT NULL;
     ALTER TABLE films RENAME COLUMN reason TO message;
     ALTER TABLE deliveries ADD COLUMN status TEXT NOT NULL DEFAULT 'confirmed';
     UPDATE deliveries SET status = iif(frame IS NOT NULL, 'parked', 'refused') WHERE frame IS NOT NULL OR at = 0;
     DROP INDEX parked;
     CREATE INDEX parked ON deliveries (sink, row) WHERE status = 'parked';`,
  ],
  // Counts the films of before, whose verdicts were not recorded.
  3: [
    4,
    `${HISTORY}
     INSERT INTO history SELECT at / 60000, sum(status = 'done'), sum(status = 'failed'), 0, 0
       FROM films WHERE status IN ('done', 'failed') GROUP BY 1;`,
  ],
};

/** Discovered files that were not admitted in this time are deleted from the table. */
const DISCOVERED_MS = 30 * 24 * 3600 * 1000;
/** How long the history goes back. */
const HISTORY_MS = 400 * 24 * 3600 * 1000;
const MINUTE_MS = 60_000;

/** Numbers of films that have settled. */
type Counts = Record<'done' | 'failed' | 'skipped' | 'suspicious', number>;

/** Values of a statement's parameters by their names. */
type Values = Readonly<Record<string, string | number | null | undefined | Uint8Array>>;

/** A row of `films`. */
interface Row extends FilmFile {
  readonly status: Status;
  readonly code: ErrorCode | null;
  readonly graph: string;
  readonly at: number;
  readonly admittedAt: number | null;
  readonly begun: number;
}

/** A film in the tables: its row, its fate, and when its sinks answered. */
interface StoredFilm {
  readonly row: Row | undefined;
  readonly fate: Fate;
  readonly times: Readonly<Record<string, number>>;
}

/**
 * The journal's tables: the methods of {@link Journal}, in its thread. Writes become durable together, with {@link commit}.
 */
export class Store {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  /** Films that this process has begun and that have not left the graph. */
  readonly #begun = new Set<string>();
  /** Films that have been admitted, and that no sink has answered or has parked since. */
  readonly #fresh = new Map<string, StoredFilm>();
  /** Settled films that are not in `history` yet, by minute. */
  readonly #counts = new Map<number, Counts>();
  #dirty = false;

  /** Opens or creates the database and locks it. Throws if another process has the lock. */
  constructor(path: string) {
    this.#db = new Database(path);
    this.#db.exec('PRAGMA locking_mode = EXCLUSIVE');
    this.#db.exec('PRAGMA auto_vacuum = INCREMENTAL');
    this.#db.exec('PRAGMA journal_mode = WAL');
    this.#db.exec('PRAGMA synchronous = FULL');
    this.#db.exec('BEGIN IMMEDIATE; COMMIT');
    this.#upgrade();
    this.#run('DELETE FROM discovered WHERE at < @at', { at: Date.now() - DISCOVERED_MS });
    this.#run('DELETE FROM history WHERE minute < @minute', { minute: minuteOf(Date.now() - HISTORY_MS) });
    this.commit();
  }

  #upgrade(): void {
    let { user_version: version } = this.#get('PRAGMA user_version') as { user_version: number };
    if (version > VERSION) {
      throw new Error(
        `it was written by a newer rxray (layout ${String(version)}, expected ${String(VERSION)})`,
      );
    }
    const isNew = this.#get("SELECT 1 FROM sqlite_schema WHERE name = 'films'") === undefined;
    while (version < VERSION) {
      const [to, statements] = (isNew ? undefined : UPGRADES[version]) ?? [VERSION, SCHEMA + HISTORY];
      this.#db.exec(`BEGIN IMMEDIATE; ${statements} PRAGMA user_version = ${String(to)}; COMMIT`);
      version = to;
    }
  }

  /**
   * The records of files with the same path, size, mtime, inode and ctime; new files are added to `discovered`. A row
   * without inode and ctime (from an earlier layout) matches by size and mtime, once. A file with several films has a
   * record when all of them have one.
   */
  lookUp(
    source: string,
    files: readonly Omit<FilmFile, 'id' | 'source' | 'sha256'>[],
    policy: Policy,
    at: number,
  ): (JournalRecord | null)[] {
    const [rows, parts] = this.#named(source, files);
    return files.map(({ ino = null, ctimeMs = null, ...rest }) => {
      const file = { source, ...rest, ino, ctimeMs };
      const [row] = rowsOf(rows, file);
      if (row?.ino === null && ino !== null) {
        this.#run('UPDATE films SET ino = @ino, ctimeMs = @ctimeMs WHERE id = @id', { ...file, id: row.id });
        // The next file may have the same name.
        Object.assign(row, { ino, ctimeMs });
      }
      // A file that could not be read may be readable next time.
      const known =
        row === undefined
          ? recordOfParts(file.name, rowsOf(parts, file), policy)
          : row.code === 'FRAME_UNREADABLE'
            ? null
            : recordIn(row, policy);
      if (known === null && row?.status !== 'admitted') {
        this.#run(
          `INSERT INTO discovered (source, name, path, size, mtimeMs, at, ino, ctimeMs)
           VALUES (@source, @name, @path, @size, @mtimeMs, @at, @ino, @ctimeMs)
           ON CONFLICT DO UPDATE SET path = excluded.path, size = excluded.size, mtimeMs = excluded.mtimeMs,
             at = excluded.at, ino = excluded.ino, ctimeMs = excluded.ctimeMs
           WHERE (size, mtimeMs, ino, ctimeMs) IS NOT (excluded.size, excluded.mtimeMs, excluded.ino, excluded.ctimeMs)`,
          { ...file, at },
        );
      }
      return known;
    });
  }

  /** The films with the names of files, and the films of files with several, by the name of the file. */
  #named(source: string, files: readonly Pick<FilmFile, 'name'>[]): [Map<string, Row[]>, Map<string, Row[]>] {
    const names = JSON.stringify([...new Set(files.map(({ name }) => name))]);
    const found = (condition: string): Map<string, Row[]> => {
      const rows = this.#all(
        `SELECT file.value AS file, films.* FROM json_each(@names) AS file CROSS JOIN films
         WHERE source = @source AND ${condition} ORDER BY ino IS NULL, films.at DESC`,
        { names, source },
      ) as (Row & { file: string })[];
      const byFile = new Map<string, Row[]>();
      for (const row of rows) byFile.set(row.file, [...(byFile.get(row.file) ?? []), row]);
      return byFile;
    };
    return [found('name = file.value'), found("name > file.value || '#' AND name < file.value || '$'")];
  }

  /**
   * Counts an attempt at a film. If it is settled, its row is updated with the present path, mtime, inode and ctime
   * instead. An attempt that needs a precaution is counted only with `alone`; a `harmless` one is not counted.
   */
  admit(
    film: FilmFile,
    policy: Policy,
    { findDuplicate, alone, harmless }: AdmitOptions,
    at: number,
  ): Admittance {
    const { id } = film;
    const values = fileOf(film);
    this.#begin();
    const discovered = this.#get(
      'DELETE FROM discovered WHERE source = @source AND name = @name RETURNING at',
      values,
    ) as { at: number } | undefined;
    const { row, fate: before } = this.#stored(id);
    const none = { delivered: [], duplicateOf: null, interrupted: 0, unread: [] };
    const known = recordIn(row, policy);
    if (known !== null) {
      this.#run(
        `UPDATE films SET path = @path, mtimeMs = @mtimeMs, ino = ifnull(@ino, ino), ctimeMs = ifnull(@ctimeMs, ctimeMs)
         WHERE id = @id`,
        values,
      );
      return { ...none, known };
    }
    const interrupted = row?.status === 'admitted' && !harmless ? row.begun - Number(this.#begun.has(id)) : 0;
    const precaution = precautionAfter(interrupted);
    if (precaution === 'putAside' || (precaution === 'alone' && !alone)) {
      return { ...none, known: null, interrupted };
    }
    // With `again`, earlier deliveries do not count.
    const anew = row !== undefined && Math.max(row.at, row.admittedAt ?? 0) < policy.since;
    const fate = next(before, { kind: 'admit', anew });
    this.#run(
      `INSERT INTO films (id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256, status, code, graph, at,
         begun, discoveredAt, admittedAt)
       VALUES (@id, @source, @name, @path, @size, @mtimeMs, @ino, @ctimeMs, @sha256, 'admitted', @code, '', 0,
         @begun, @discoveredAt, @at)
       ON CONFLICT DO UPDATE SET path = excluded.path, mtimeMs = excluded.mtimeMs, status = 'admitted',
         code = excluded.code, message = iif(excluded.code IS NULL, NULL, message),
         ino = ifnull(excluded.ino, ino), ctimeMs = ifnull(excluded.ctimeMs, ctimeMs), attempts = attempts + 1,
         begun = excluded.begun, admittedAt = excluded.admittedAt`,
      {
        ...{ ...values, code: fate.code, at },
        begun: harmless ? 0 : interrupted + 1,
        discoveredAt: discovered?.at ?? at,
      },
    );
    this.#begun.add(id);
    if (Object.keys(fate.sinks).length === 0) this.#fresh.set(id, { row: undefined, fate, times: {} });
    for (const sink of Object.keys(before.sinks)) {
      if (fate.sinks[sink] === undefined) {
        this.#run('DELETE FROM deliveries WHERE film = @id AND sink = @sink', { id, sink });
      }
    }
    const unread = this.#all(
      'SELECT id FROM films WHERE source = @source AND name = @name AND sha256 IS NULL AND id <> @id',
      values,
    ) as { id: string }[];
    return {
      known: null,
      delivered: Object.keys(fate.sinks),
      duplicateOf: findDuplicate ? this.#earlier(film) : null,
      interrupted,
      unread: unread.map((each) => each.id),
    };
  }

  passed(id: string): void {
    this.#begun.delete(id);
    this.#run('UPDATE films SET begun = 0 WHERE id = @id', { id });
  }

  /** The first film with the same bytes that was admitted before this one and is done or waiting. */
  #earlier({ id, sha256 }: FilmFile): Admittance['duplicateOf'] {
    const found = this.#get(
      `SELECT id, name FROM films WHERE sha256 = @sha256 AND status IN ('done', 'waiting')
       AND rowid < (SELECT rowid FROM films WHERE id = @id) ORDER BY rowid LIMIT 1`,
      { id, sha256 },
    );
    return (found as { id: string; name: string } | undefined) ?? null;
  }

  park(id: string, sink: string, frame: Uint8Array, at: number): void {
    this.#fresh.delete(id);
    this.#run(
      `INSERT INTO deliveries (film, sink, status, frame, at) VALUES (@id, @sink, 'parked', @frame, @at)
       ON CONFLICT DO NOTHING`,
      { id, sink, frame: Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), at },
    );
  }

  confirm(id: string, sink: string, abnormal: boolean, at: number): FilmFile | null {
    const known = this.#stored(id);
    const fate = next(known.fate, { kind: 'confirm', sink });
    this.#save(id, known, fate, at);
    const isLast = known.fate.status === 'waiting' && fate.status === 'done';
    if (isLast) this.#count('done', abnormal, at);
    return isLast && known.row !== undefined ? fileOf(known.row) : null;
  }

  /**
   * A sink has refused a parked film. While the film is in the graph, or was when the process ended, it does not fail
   * yet: other sinks still have to get it. Returns its status before.
   */
  refuse({ id, sink, code, message, graph, at }: Refusal): Status {
    const known = this.#stored(id);
    const fate = next(known.fate, { kind: 'refuse', sink, code });
    if (known.fate.code === null)
      this.#run('UPDATE films SET message = @message WHERE id = @id', { message, id });
    if (fate.status !== known.fate.status) {
      this.#run('UPDATE films SET graph = @graph, at = @at WHERE id = @id', { graph, at, id });
      if (fate.status === 'failed') this.#count('failed', false, at);
    }
    this.#save(id, known, fate, at);
    return known.fate.status;
  }

  /** The film leaves the graph with this fate: it is done, unless it waits for a sink, or has failed meanwhile. */
  record({ fate: attempt, message, graph, at, abnormal = false, ...film }: Conclusion): Status {
    const { id, source, name, sha256 } = film;
    const known = this.#fresh.get(id) ?? this.#stored(id);
    this.#fresh.delete(id);
    const fate = concluded(known.fate, attempt);
    this.#begun.delete(id);
    this.#run(
      `INSERT INTO films (id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256, status, code, graph, at, sinks,
         message)
       VALUES (@id, @source, @name, @path, @size, @mtimeMs, @ino, @ctimeMs, @sha256, @status, @code, @graph, @at,
         @sinks, @message)
       ON CONFLICT DO UPDATE SET path = excluded.path, size = excluded.size, mtimeMs = excluded.mtimeMs,
         ino = ifnull(excluded.ino, ino), ctimeMs = ifnull(excluded.ctimeMs, ctimeMs), status = excluded.status,
         code = excluded.code, graph = excluded.graph, at = excluded.at, sinks = ifnull(excluded.sinks, sinks),
         begun = 0, message = iif(@isFirst, excluded.message, message)`,
      {
        ...{ ...fileOf(film), status: fate.status, code: fate.code, graph, at, message },
        sinks: sinksOf(known, fate, at),
        isFirst: Number(known.fate.code === null),
      },
    );
    // An unreadable file was never admitted, and neither is a file with several films.
    const { file } = partOf(film) ?? {};
    for (const discovered of [...(sha256 === null ? [name] : []), ...(file === undefined ? [] : [file])]) {
      this.#run('DELETE FROM discovered WHERE source = @source AND name = @discovered', {
        source,
        discovered,
      });
    }
    this.#saveDeliveries(id, known, fate, at);
    if (fate.status === 'done') this.#count('done', abnormal, at);
    if (fate.status === 'failed') this.#count(isSkip(fate.code) ? 'skipped' : 'failed', false, at);
    return fate.status;
  }

  /** A film has settled. */
  #count(outcome: 'done' | 'failed' | 'skipped', abnormal: boolean, at: number): void {
    const minute = minuteOf(at);
    const counts = this.#counts.get(minute) ?? { done: 0, failed: 0, skipped: 0, suspicious: 0 };
    counts[outcome] += 1;
    counts.suspicious += Number(abnormal);
    this.#counts.set(minute, counts);
  }

  /** Writes the counts into `history`: once per commit. */
  #saveCounts(): void {
    for (const [minute, counts] of this.#counts) {
      this.#run(
        `INSERT INTO history (minute, done, failed, skipped, suspicious)
         VALUES (@minute, @done, @failed, @skipped, @suspicious)
         ON CONFLICT DO UPDATE SET done = done + excluded.done, failed = failed + excluded.failed,
           skipped = skipped + excluded.skipped, suspicious = suspicious + excluded.suspicious`,
        { minute, ...counts },
      );
    }
    this.#counts.clear();
  }

  history(since: number, minutes: number): Interval[] {
    this.#saveCounts();
    return this.#all(
      `SELECT (minute - minute % @minutes) * ${String(MINUTE_MS)} AS at, sum(done) AS done, sum(failed) AS failed,
         sum(skipped) AS skipped, sum(suspicious) AS suspicious
       FROM history WHERE minute >= @first GROUP BY 1 ORDER BY 1`,
      { minutes, first: minuteOf(since) },
    ) as Interval[];
  }

  #stored(id: string): StoredFilm {
    const row = this.#get('SELECT * FROM films WHERE id = @id', { id }) as Row | undefined;
    // A file that could not be read is never admitted: each failure is its first.
    if (row === undefined || (row.status === 'failed' && row.sha256 === null)) {
      return { row, fate: ADMITTED, times: {} };
    }
    const { status, code } = row;
    // A film that is done has no rows in `deliveries`.
    const deliveries = (
      status === 'done' ? [] : this.#all('SELECT sink, status, at FROM deliveries WHERE film = @id', { id })
    ) as { sink: string; status: Delivery; at: number }[];
    const sinks = Object.fromEntries(deliveries.map((each) => [each.sink, each.status]));
    const times = Object.fromEntries(deliveries.map((each) => [each.sink, each.at]));
    return { row, fate: { status, code, sinks }, times };
  }

  /** Writes the changes from the stored fate to the new one. */
  #save(id: string, known: StoredFilm, fate: Fate, at: number): void {
    this.#fresh.delete(id);
    const { fate: before } = known;
    const sinks = sinksOf(known, fate, at);
    if (sinks !== null) {
      this.#run("UPDATE films SET status = 'done', code = NULL, at = @at, sinks = @sinks WHERE id = @id", {
        id,
        at,
        sinks,
      });
    } else if (fate.status !== before.status || fate.code !== before.code) {
      const { status, code } = fate;
      this.#run('UPDATE films SET status = @status, code = @code WHERE id = @id', { id, status, code });
    }
    this.#saveDeliveries(id, known, fate, at);
  }

  #saveDeliveries(id: string, known: StoredFilm, fate: Fate, at: number): void {
    if (sinksOf(known, fate, at) !== null) {
      if (Object.keys(known.times).length > 0) this.#run('DELETE FROM deliveries WHERE film = @id', { id });
      return;
    }
    for (const [sink, delivery] of changedSinks(known, fate)) {
      this.#run(
        `INSERT INTO deliveries (film, sink, status, at) VALUES (@id, @sink, @delivery, @at)
         ON CONFLICT DO UPDATE SET status = excluded.status, frame = NULL, at = excluded.at`,
        { id, sink, delivery, at },
      );
    }
  }

  parked(sink: string, after: number, limit: number): Parked[] {
    const rows = this.#all(
      `SELECT row, frame, films.* FROM deliveries JOIN films ON films.id = film
       WHERE sink = @sink AND row > @after AND deliveries.status = 'parked' ORDER BY row LIMIT @limit`,
      { sink, after, limit },
    ) as (Row & { row: number; frame: ArrayBuffer })[];
    return rows.map((found) => ({ row: found.row, frame: new Uint8Array(found.frame), film: fileOf(found) }));
  }

  parkedCounts(): Record<string, number> {
    const rows = this.#all(
      "SELECT sink, count(*) AS count FROM deliveries INDEXED BY parked WHERE status = 'parked' GROUP BY sink",
    ) as { sink: string; count: number }[];
    return Object.fromEntries(rows.map(({ sink, count }) => [sink, count]));
  }

  note(key: string, value: string | null): void {
    if (value === null) this.#run('DELETE FROM notes WHERE key = @key', { key });
    else this.#run('INSERT OR REPLACE INTO notes (key, value) VALUES (@key, @value)', { key, value });
  }

  noted(key: string): string | null {
    const row = this.#get('SELECT value FROM notes WHERE key = @key', { key }) as
      { value: string } | undefined;
    return row?.value ?? null;
  }

  obsolete(ids: readonly string[]): string[] {
    return ids.filter(
      (id) =>
        this.#get(
          `SELECT 1 FROM films AS film WHERE id = @id AND (status = 'done' OR (sha256 IS NULL AND EXISTS (
             SELECT 1 FROM films AS later WHERE later.source = film.source AND later.name = film.name
               AND later.sha256 IS NOT NULL AND later.status <> 'admitted')))`,
          { id },
        ) !== undefined,
    );
  }

  /** Whether there are uncommitted writes. */
  get dirty(): boolean {
    return this.#dirty;
  }

  commit(): void {
    if (!this.#dirty) return;
    try {
      this.#saveCounts();
      this.#dirty = false;
      this.#db.exec('COMMIT');
    } catch (error) {
      // A full disk, for example. The writes have been reported as failed, so the next commit must not include them.
      this.#dirty = false;
      this.#counts.clear();
      this.#fresh.clear();
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  /**
   * Commits `act` so that it survives a crash of this process, but perhaps not a power failure: it does not wait for
   * the disk. Inside an open transaction, `act` becomes durable with that.
   */
  surviving<T>(act: () => T): T {
    if (this.#dirty) return act();
    this.#db.exec('PRAGMA synchronous = NORMAL');
    try {
      const result = act();
      this.commit();
      return result;
    } catch (error) {
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
      this.#dirty = false;
      this.#fresh.clear();
      throw error;
    } finally {
      this.#db.exec('PRAGMA synchronous = FULL');
    }
  }

  /** Commits, frees unused pages, and closes. */
  close(): void {
    // A regular end of the process: no film in flight has caused it.
    for (const id of this.#begun)
      this.#run('UPDATE films SET begun = max(0, begun - 1) WHERE id = @id', { id });
    this.commit();
    this.#db.exec('PRAGMA incremental_vacuum');
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    this.#db.close();
  }

  /** Closes a damaged database without committing. */
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

  #get(sql: string, values: Values = {}): unknown {
    return this.#prepare(sql).get(values);
  }

  #all(sql: string, values: Values = {}): unknown[] {
    return this.#prepare(sql).all(values);
  }

  #run(sql: string, values: Values): void {
    this.#begin();
    this.#prepare(sql).run(values);
  }

  #begin(): void {
    if (this.#dirty) return;
    this.#db.exec('BEGIN IMMEDIATE');
    this.#dirty = true;
  }
}

/** Those of a file with the same path, size, mtime, inode and ctime; the last two may be unknown. */
function rowsOf(
  rows: ReadonlyMap<string, readonly Row[]>,
  { name, path, size, mtimeMs, ino, ctimeMs }: Omit<FilmFile, 'id' | 'source' | 'sha256'>,
): readonly Row[] {
  const isSame = (a: number | null | undefined, b: number | null | undefined): boolean =>
    a == null || b == null || a === b;
  return (rows.get(name) ?? []).filter(
    (row) =>
      row.path === path &&
      row.size === size &&
      row.mtimeMs === mtimeMs &&
      isSame(row.ino, ino) &&
      isSame(row.ctimeMs, ctimeMs),
  );
}

function minuteOf(at: number): number {
  return Math.floor(at / MINUTE_MS);
}

function changedSinks({ fate: before }: StoredFilm, fate: Fate): [string, Delivery][] {
  return Object.entries(fate.sinks).filter(([sink, delivery]) => delivery !== before.sinks[sink]);
}

/** For a film that is done now: when each sink answered, as JSON. Null for any other. */
function sinksOf(known: StoredFilm, fate: Fate, at: number): string | null {
  if (fate.status !== 'done' || known.fate.status === 'done') return null;
  const now = changedSinks(known, fate).map(([sink]) => [sink, at] as const);
  return JSON.stringify({ ...known.times, ...Object.fromEntries(now) });
}

function recordIn(row: Row | undefined, { since, failedSince }: Policy): JournalRecord | null {
  if (row === undefined || row.status === 'admitted' || row.at < since) return null;
  if (row.status === 'failed' && row.at < failedSince) return null;
  return { status: row.status, code: row.code, graph: row.graph, sha256: row.sha256 };
}

/** The record of a file with several films, if all of them are settled or wait for sinks. */
function recordOfParts(file: string, rows: readonly Row[], policy: Policy): JournalRecord | null {
  const known = new Map<number, JournalRecord>();
  let count = Infinity;
  for (const row of rows) {
    const part = partOf(row);
    if (part?.file !== file) continue;
    const record = row.code === 'FRAME_UNREADABLE' ? null : recordIn(row, policy);
    if (record === null) return null;
    count = part.of;
    known.set(part.number, record);
  }
  if (known.size < count) return null;
  const records = [...known.values()];
  const of = (status: Status) => records.find((record) => record.status === status);
  return of('waiting') ?? of('failed') ?? of('done') ?? null;
}

/** The file of a film, as stored. */
function fileOf(film: FilmFile): FilmFile & Values {
  const { id, source, name, path, size, mtimeMs, ino = null, ctimeMs = null, sha256 } = film;
  return { id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256 };
}
