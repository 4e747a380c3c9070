import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import Database from 'libsql';
import { RxrayError, Unavailable } from '../../src/core/errors.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import sqlite, { sqliteSink } from '../../src/sinks/sqlite.js';
import { makeFrame, testServices, type TestServices, type TestServicesOptions } from '../../src/testing.js';

const COLUMNS = [
  { stage: 'classes', column: { name: 'label', path: ['label'] } },
  { stage: 'anomaly', column: { name: 'percentile', path: ['percentile'] } },
];
const RESULTS = {
  classes: { kind: 'classification', label: 'normal', probability: 0.75, probabilities: {}, topK: [] },
  anomaly: {
    kind: 'anomaly',
    anomalyScore: 0.25,
    rawSum: 3,
    percentile: 41,
    residual: { width: 1, height: 1, channels: 1, data: new Uint8Array(1) },
  },
} as const;

describe('the sqlite sink', () => {
  let folder: string;
  let services: TestServices;
  let sinks: SinkInstance[];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-sqlite-'));
    sinks = [];
  });
  afterEach(async () => {
    for (const sink of sinks) await sink.dispose?.();
    services.cleanup();
    await rm(folder, { recursive: true });
  });

  async function open(
    settings: object = {},
    more: TestServicesOptions = {},
    busyMs?: number,
  ): Promise<SinkInstance> {
    services = testServices({ baseDir: folder, columns: COLUMNS, ...more });
    const options = sqlite.options.parse({ path: 'out/results.db', ...settings }) as Parameters<
      typeof sqliteSink
    >[0];
    const sink = await (busyMs === undefined
      ? sqlite.create(options, services)
      : sqliteSink(options, services, busyMs));
    sinks.push(sink);
    return sink;
  }
  function rows(sql = 'SELECT * FROM films'): Record<string, unknown>[] {
    const database = new Database(join(folder, 'out/results.db'), { readonly: true });
    try {
      return database.prepare(sql).all() as Record<string, unknown>[];
    } finally {
      database.close();
    }
  }
  const film = makeFrame({ name: 'ward/a.png', image: null, meta: { modality: 'DX' }, results: RESULTS });

  it('stores results as JSON without pixels, and the columns of stages with their types', async () => {
    await (await open()).write([film]);
    const [{ meta, results, ...row } = {}] = rows();
    expect(row).to.deep.equal({
      id: film.id,
      file: 'ward/a.png',
      receivedAt: '2026-01-01T08:00:00.000Z',
      completedAt: null,
      'classes.label': 'normal',
      'anomaly.percentile': 41,
    });
    expect(JSON.parse(String(meta))).to.deep.equal({ modality: 'DX' });
    expect(JSON.parse(String(results))).to.have.nested.property('anomaly.anomalyScore', 0.25);
    expect(results).not.to.contain('residual');
    expect(rows(`SELECT json_extract(results, '$.classes.label') AS label FROM films`)).to.deep.equal([
      { label: 'normal' },
    ]);
  });

  it('leaves out the file name by option', async () => {
    await (await open({ includeFile: false })).write([film]);
    expect(rows('SELECT file FROM films')).to.deep.equal([{ file: null }]);
  });

  it('replaces the row of a film that is delivered again', async () => {
    const sink = await open();
    await sink.write([film]);
    await sink.write([{ ...film, results: { classes: { ...RESULTS.classes, label: 'viral' } } }]);
    expect(rows('SELECT "classes.label" AS label FROM films')).to.deep.equal([{ label: 'viral' }]);
  });

  it('adds the columns of new stages to a table that is there, and keeps its rows', async () => {
    const before = await open({}, { columns: [] });
    await before.write([film]);
    await before.dispose?.();
    await (await open()).write([makeFrame({ name: 'b.png', image: null, results: RESULTS })]);
    expect(rows('SELECT file, "classes.label" AS label FROM films ORDER BY file')).to.deep.equal([
      { file: 'b.png', label: 'normal' },
      { file: 'ward/a.png', label: null },
    ]);
  });

  it('writes nothing of a group that fails in the middle', async () => {
    const sink = await open();
    const database = new Database(join(folder, 'out/results.db'));
    database.exec(
      `CREATE TRIGGER refuse BEFORE INSERT ON films WHEN NEW.file = 'b.png' BEGIN SELECT RAISE(FAIL, 'no'); END`,
    );
    database.close();
    const group = ['a.png', 'b.png'].map((name) => makeFrame({ name, image: null }));
    const [outcome] = await Promise.allSettled([sink.write(group)]);
    expect(outcome).to.have.nested.property('reason.code', 'OUTPUT_UNWRITABLE');
    expect(rows()).to.deep.equal([]);
    await sink.write(group.slice(0, 1));
    expect(rows()).to.have.lengthOf(1);
  });

  it('begins a new database when its own is deleted, and says so', async () => {
    const sink = await open();
    await sink.write([film]);
    for (const name of await readdir(join(folder, 'out'))) await rm(join(folder, 'out', name));
    await sink.write([film]);
    expect(rows('SELECT id FROM films')).to.deep.equal([{ id: film.id }]);
    expect(services.logged.join()).to.contain('a new one is started');
  });

  it('leaves every row that was confirmed in a database that is moved away', async () => {
    const sink = await open();
    await sink.write([film]);
    await rename(join(folder, 'out/results.db'), join(folder, 'out/january.db'));
    await sink.write([makeFrame({ name: 'b.png', image: null })]);
    expect(rows('SELECT file FROM films')).to.deep.equal([{ file: 'b.png' }]);
    await rename(join(folder, 'out/january.db'), join(folder, 'out/results.db'));
    expect(rows('SELECT file FROM films')).to.deep.equal([{ file: 'ward/a.png' }]);
  });

  it('is down while another program has locked the database, also at the start, and takes films afterwards', async () => {
    const first = await open({}, {}, 100);
    const other = new Database(join(folder, 'out/results.db'));
    other.exec('BEGIN EXCLUSIVE');
    const second = await open({}, {}, 100);
    for (const sink of [first, second]) {
      const [outcome] = await Promise.allSettled([sink.write([film])]);
      expect((outcome as PromiseRejectedResult).reason).to.be.instanceOf(Unavailable);
    }
    other.exec('COMMIT');
    other.close();
    await second.write([film]);
    expect(rows()).to.have.lengthOf(1);
  });

  it('is down while another program reads at the commit, or writes at the beginning of a group', async () => {
    const sink = await open({}, {}, 100);
    const other = new Database(join(folder, 'out/results.db'));
    for (const [index, lock] of ['BEGIN', 'BEGIN IMMEDIATE'].entries()) {
      other.exec(lock);
      other.prepare('SELECT count(*) FROM films').get();
      const group = [film, makeFrame({ name: `${index}.png`, image: null, results: RESULTS })];
      const [outcome] = await Promise.allSettled([sink.write(group)]);
      expect((outcome as PromiseRejectedResult).reason).to.be.instanceOf(Unavailable);
      expect(rows(), 'nothing of the group').to.have.lengthOf(index === 0 ? 0 : 2);
      other.exec('COMMIT');
      await sink.write(group);
      expect(rows()).to.have.lengthOf(2 + index);
    }
    other.close();
  });

  it('refuses columns that differ in case only, which SQLite cannot tell apart', async () => {
    const columns = ['Normal', 'normal'].map((name) => ({
      stage: 'classes',
      column: { name, path: [name] },
    }));
    const [outcome] = await Promise.allSettled([open({}, { columns })]);
    expect(outcome).to.have.nested.property('reason.code', 'CONFIG_CREATE');
    expect(outcome).to.have.nested.property('reason.message').that.contains('"classes.normal"');
  });

  it('refuses a table of another program, and a file that is not a database', async () => {
    const refusal = async (settings: object): Promise<string> => {
      const [outcome] = await Promise.allSettled([open(settings)]);
      const reason: unknown = (outcome as PromiseRejectedResult).reason;
      expect(reason).to.be.instanceOf(RxrayError).and.include({ code: 'OUTPUT_UNWRITABLE' });
      return (reason as Error).message;
    };
    const database = new Database(join(folder, 'other.db'));
    database.exec('CREATE TABLE films (name TEXT)');
    database.close();
    expect(await refusal({ path: 'other.db' })).to.contain('expected a primary key `id`');
    await writeFile(
      join(folder, 'text.db'),
      'no database at all, but long enough to look like one'.repeat(99),
    );
    expect(await refusal({ path: 'text.db' })).to.contain('not a database');
  });
});
