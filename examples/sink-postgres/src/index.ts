import pg from 'pg';
import { defineSink, Unavailable, z, type Frame } from 'rxray';

const options = z.strictObject({
  url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'expected postgresql://user@host:port/database')
    .describe('The database, `postgresql://user@host:port/database`. A password belongs into PGPASSWORD.'),
  table: z
    .string()
    .regex(/^[a-z_][a-z0-9_]*$/, 'expected lower-case letters, digits and _')
    .default('films')
    .describe('The table. It is made when it is missing.'),
});

export default defineSink({
  name: 'postgres',
  version: '0.1.0',
  rxray: '^0.1.0',
  summary: 'Keeps one row per film in a PostgreSQL table, the results as JSON.',
  options,
  examples: [{ title: 'On this machine', with: { url: 'postgresql://rxray@127.0.0.1/ward' } }],
  // A group costs one commit, however long it is.
  maxBatch: 256,
  create({ url, table }, { log }) {
    const pool = new pg.Pool({ connectionString: url, max: 1, connectionTimeoutMillis: 10_000 });
    // A server that restarts cuts idle connections; the next query opens another.
    pool.on('error', (error) => {
      log.warn({ message: error.message }, 'the connection to the database was cut');
    });
    let made: Promise<unknown> | undefined;
    let writing: Promise<unknown> = Promise.resolve();
    let disposed = false;

    async function write(frames: readonly Frame[]): Promise<void> {
      try {
        await (made ??= pool.query(tableOf(table)));
        await pool.query(upsertInto(table), [JSON.stringify(rowsOf(frames))]);
      } catch (error) {
        made = undefined;
        throw isOutage(error) ? new Unavailable(`the database takes nothing: ${error.code}`) : error;
      }
    }

    return {
      write(frames) {
        if (disposed) return Promise.reject(new Error('the sink is closed'));
        const written = writing.then(() => write(frames));
        writing = written.catch(() => undefined);
        return written;
      },
      async dispose() {
        if (disposed) return;
        disposed = true;
        await writing;
        await pool.end();
      },
    };
  },
});

const tableOf = (table: string): string => `CREATE TABLE IF NOT EXISTS ${table} (
  position bigint GENERATED ALWAYS AS IDENTITY,
  id text PRIMARY KEY,
  file text NOT NULL,
  received_at timestamptz NOT NULL,
  meta jsonb NOT NULL,
  results jsonb NOT NULL
)`;

/** After a crash films come again: the row of that id takes what came last. */
const upsertInto = (table: string): string => `INSERT INTO ${table} (id, file, received_at, meta, results)
  SELECT id, file, received_at, meta, results FROM jsonb_to_recordset($1)
    AS film (id text, file text, received_at timestamptz, meta jsonb, results jsonb)
  ON CONFLICT (id) DO UPDATE SET (file, received_at, meta, results)
    = (excluded.file, excluded.received_at, excluded.meta, excluded.results)`;

/** One row per id: PostgreSQL refuses to update a row twice in one statement. */
function rowsOf(frames: readonly Frame[]): object[] {
  const rows = new Map(
    frames.map(({ id, origin, meta, results }) => [
      id,
      { id, file: origin.name, received_at: origin.receivedAt, meta, results },
    ]),
  );
  return [...rows.values()];
}

/**
 * The server is away, starting, stopping or full: error codes of the operating system, and SQLSTATE classes 08
 * (connection), 53 (resources) and 57P (operator's intervention). Everything else is about the film or the table.
 */
function isOutage(error: unknown): error is Error & { code: string } {
  if (!(error instanceof Error)) return false;
  // What pg itself finds wrong with a connection has no code.
  if (/connection|timeout/i.test(error.message) && !('code' in error)) return true;
  return 'code' in error && /^(E[A-Z]+$|08|53|57P)/.test(String(error.code));
}
