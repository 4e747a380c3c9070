import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { durably } from '../core/durable.js';
import { messageOf, RxrayError } from '../core/errors.js';
import { valueAt } from '../core/value-at.js';
import type { Frame } from '../core/frame.js';
import { defineSink, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { oneByOne } from './one-by-one.js';
import { isJudged, plain } from './plain.js';
import { writeError } from './trouble.js';

const options = z.strictObject({
  path: z.string().min(1).describe('The database. A missing file or folder is created.'),
  table: z
    .string()
    .regex(/^[A-Za-z_]\w*$/, 'expected letters, digits and _, not beginning with a digit')
    .refine((name) => !/^sqlite_/i.test(name), 'names that begin with sqlite_ belong to SQLite')
    .default('films')
    .describe('The table. It is created if it is missing; missing columns are added.'),
  includeFile: z
    .boolean()
    .default(true)
    .describe("Write the file name. File names may contain patients' names: `false` leaves them out."),
});
type SqliteOptions = z.output<typeof options>;

export default defineSink({
  name: 'sqlite',
  summary: 'Keeps one row per film in a SQLite table: results as JSON, and labels and scores in columns.',
  options,
  examples: [
    { title: 'All results', with: { path: './out/results.db' } },
    { title: 'Another table', with: { path: './out/results.db', table: 'ward3', includeFile: false } },
  ],
  // A group costs one sync, whatever its length.
  maxBatch: 256,
  ignoresCase: true,
  output: 'path',
  writes: ({ path }) => [path, `${path}-journal`],
  sharesFile: true,
  create: (settings, services) => sqliteSink(settings, services),
});

/** The part of `libsql/promise` that is used, whose own types are `any`. It runs `exec` on another thread. */
interface Database {
  exec(sql: string): Promise<void>;
  prepare(sql: string): Promise<Statement>;
  close(): void;
}
interface Statement {
  run(...values: unknown[]): Promise<unknown>;
  all(): Promise<unknown[]>;
}

interface Connection {
  readonly database: Database;
  readonly upsert: Statement;
  /** Identity of the file: a new file has the same path, and may have the same inode. */
  readonly identity: string;
}

const FIXED = ['id', 'file', 'receivedAt', 'completedAt', 'meta', 'results'];

/** How long SQLite waits for a lock of another program, in ms. */
const BUSY_MS = 10_000;

export async function sqliteSink(
  { path, table, includeFile }: SqliteOptions,
  services: SinkServices,
  busyMs = BUSY_MS,
): Promise<SinkInstance> {
  const { id: component, columns } = services;
  const offered = columns.filter(({ stage, column }) => !FIXED.includes(`${stage}.${column.name}`));
  const ofVerdict = isJudged(columns) ? ['suspicious', 'suspicion'] : [];
  const names = [...FIXED, ...ofVerdict, ...offered.map(({ stage, column }) => `${stage}.${column.name}`)];
  checkNames(names, component);

  const file = services.resolve(path);
  const upserting = `INSERT INTO ${quoted(table)} (${names.map(quoted).join(', ')})
    VALUES (${names.map(() => '?').join(', ')}) ON CONFLICT (id) DO UPDATE SET
    ${names
      .slice(1)
      .map((name) => `${quoted(name)} = excluded.${quoted(name)}`)
      .join(', ')}`;

  async function connect(): Promise<Connection> {
    let database: Database | undefined;
    try {
      database = await open(file, busyMs);
      await makeTable(database, table, names);
      return { database, upsert: await database.prepare(upserting), identity: await identityOf(file) };
    } catch (error) {
      database?.close();
      throw error;
    }
  }
  let connection: Connection | undefined;
  try {
    connection = await connect();
  } catch (cause) {
    if (!isLocked(cause)) {
      throw new RxrayError('OUTPUT_UNWRITABLE', `${path} cannot be written: ${messageOf(cause)}`, {
        component,
        cause,
      });
    }
    services.log.warn({ path }, 'another program has locked the database: films wait until it is free');
  }

  /** SQLite continues to write to a deleted database. */
  async function present(): Promise<Connection> {
    if (connection !== undefined && (await identityOf(file)) !== connection.identity) {
      services.log.warn({ path }, 'the database has been moved or deleted: a new one is started');
      connection.database.close();
      connection = undefined;
    }
    connection ??= await connect();
    return connection;
  }

  const rowOf = (frame: Frame): unknown[] => {
    const { id, file, receivedAt, completedAt, meta, results, verdict } = plain(frame, includeFile);
    return [
      ...[id, file ?? null, receivedAt, completedAt ?? null, JSON.stringify(meta), JSON.stringify(results)],
      ...(ofVerdict.length === 0 ? [] : [cell(verdict.abnormal), verdict.suspicion]),
      ...offered.map(({ stage, column }) => cell(valueAt(frame.results[stage], column.path))),
    ];
  };

  async function write(frames: readonly Frame[]): Promise<void> {
    if (frames.length === 0) return;
    const rows = frames.map(rowOf);
    try {
      const { database: db, upsert } = await present();
      await db.exec('BEGIN IMMEDIATE');
      try {
        for (const row of rows) await upsert.run(row);
        await durably('sqlite.commit', () => db.exec('COMMIT'));
      } catch (error) {
        // SQLite may have rolled back by itself.
        await db.exec('ROLLBACK').catch(() => undefined);
        throw error;
      }
    } catch (error) {
      throw writeError(path, component, error);
    }
  }

  return oneByOne('sqlite', write, () => {
    connection?.database.close();
  });
}

function isLocked(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && /^SQLITE_(?:BUSY|LOCKED)/.test(String(cause.code));
}

/** Empty if there is none. */
async function identityOf(file: string): Promise<string> {
  const info = await stat(file).catch(() => undefined);
  return info === undefined ? '' : [info.dev, info.ino, info.birthtimeMs].join();
}

/** SQLite ignores upper and lower case in names. */
function checkNames(names: readonly string[], component: string): void {
  const first = new Map<string, string>();
  for (const name of names) {
    const other = first.get(name.toLowerCase());
    if (other !== undefined) {
      const message = `the columns "${other}" and "${name}" are the same to SQLite: give the stage, or the label, another name`;
      throw new RxrayError('CONFIG_CREATE', message, { component });
    }
    first.set(name.toLowerCase(), name);
  }
}

async function open(path: string, busyMs: number): Promise<Database> {
  await mkdir(dirname(path), { recursive: true });
  const { default: Promised } = await import('libsql/promise');
  const database = new Promised(path, {}) as unknown as Database;
  // Waits for locks of other programs. No WAL: if the database is moved, its last rows would remain in another file.
  try {
    await database.exec(
      `PRAGMA busy_timeout = ${busyMs}; PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL`,
    );
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Columns have no declared type, so that values are not converted. */
async function makeTable(database: Database, table: string, names: readonly string[]): Promise<void> {
  const columns = names.map((name) => (name === 'id' ? 'id TEXT PRIMARY KEY NOT NULL' : quoted(name)));
  await database.exec(`CREATE TABLE IF NOT EXISTS ${quoted(table)} (${columns.join(', ')})`);
  const info = await database.prepare(`SELECT name, pk FROM pragma_table_info('${table}')`);
  const found = (await info.all()) as { name: string; pk: number }[];
  if (!found.some(({ name, pk }) => name === 'id' && pk === 1)) {
    throw new Error(
      `the table "${table}" is not rxray's: expected a primary key \`id\`. Choose another table`,
    );
  }
  // SQLite ignores upper and lower case in names.
  const present = new Set(found.map(({ name }) => name.toLowerCase()));
  for (const name of names) {
    if (present.has(name.toLowerCase())) continue;
    await database.exec(`ALTER TABLE ${quoted(table)} ADD COLUMN ${quoted(name)}`);
  }
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

function cell(value: unknown): string | number | null {
  if (typeof value === 'string' || typeof value === 'number') return value;
  if (value === undefined || value === null) return null;
  return typeof value === 'boolean' ? Number(value) : JSON.stringify(value);
}
