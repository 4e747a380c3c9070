// Run by `npm test`, against a PostgreSQL of its own (Debian: apt-get install postgresql).
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import pg from 'pg';
import { Unavailable } from 'rxray';
import { makeFrame, sinkContract, testServices } from 'rxray/testing';
import sink from '../src/index.ts';
import { findPostgres, Postgres } from './postgres.ts';

const bin = findPostgres();
if (bin === undefined) void it('PostgreSQL is not installed', { skip: 'apt-get install postgresql' });
else suite(bin);

function suite(bin: string): void {
  let postgres: Postgres;
  let tables = 0;
  before(async () => (postgres = await Postgres.start(bin)));
  after(() => postgres.remove());

  const rows = async (table: string): Promise<{ id: string; file: string; results: object }[]> => {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    try {
      const { rows } = await client.query<{ id: string; file: string; results: object }>(
        `SELECT id, file, results FROM ${table} ORDER BY position`,
      );
      return rows;
    } catch (error) {
      // Nobody has written yet.
      if (error instanceof pg.DatabaseError && error.code === '42P01') return [];
      throw error;
    } finally {
      await client.end();
    }
  };

  // What every sink must do: resolve when the films are safe, and take a film twice without harm.
  sinkContract('postgres', () => {
    const table = `films_${(tables += 1)}`;
    return {
      plugin: sink,
      with: { url: postgres.url, table },
      refused: [{}, { url: 'mysql://localhost' }, { url: postgres.url, table: 'films; DROP TABLE films' }],
      delivered: () => rows(table),
    };
  });

  void it('keeps the results as JSON, the last ones of a film', async () => {
    const services = testServices();
    const written = await sink.create({ url: postgres.url, table: 'latest' }, services);
    for (const percentile of [12, 97]) {
      await written.write([makeFrame({ results: { anomaly: { kind: 'anomaly', percentile } } })]);
    }
    await written.dispose?.();
    services.cleanup();
    const results = (await rows('latest')).map((row) => row.results);
    assert.deepEqual(results, [{ anomaly: { kind: 'anomaly', percentile: 97 } }]);
  });

  void it('calls a server that is down an outage, and goes on when it is back', async () => {
    const services = testServices();
    const written = await sink.create({ url: postgres.url, table: 'patient' }, services);
    await written.write([makeFrame({ name: 'before.png' })]);
    await postgres.stop();
    await assert.rejects(
      Promise.resolve(written.write([makeFrame({ name: 'after.png' })])),
      (error) => error instanceof Unavailable,
    );
    await postgres.run();
    await written.write([makeFrame({ name: 'after.png' })]);
    await written.dispose?.();
    services.cleanup();
    assert.deepEqual(
      (await rows('patient')).map(({ file }) => file),
      ['before.png', 'after.png'],
    );
  });
}
