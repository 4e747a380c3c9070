import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { deserialize } from 'node:v8';
import { expect } from 'chai';
import type { Candidate } from '../../../src/core/plugin.js';
import { Journal } from '../../../src/core/journal/journal.js';
import { messageOf } from '../../../src/core/errors.js';
import { ADMITTED, after, type Fate } from '../../../src/core/fate.js';
import type { Conclusion, FilmFile } from '../../../src/core/journal/protocol.js';

describe('Journal', () => {
  let dir: string;
  let warnings: string[];
  const log = {
    debug() {},
    info() {},
    warn: (_: object, message: string) => warnings.push(message),
    error() {},
  };

  beforeEach(async () => {
    warnings = [];
    dir = await mkdtemp(join(tmpdir(), 'rxray-journal-'));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const done = (...confirmed: string[]): Fate =>
    after(ADMITTED, [...confirmed.map((sink) => ({ kind: 'confirm', sink }) as const), { kind: 'leave' }]);
  const failed: Fate = after(ADMITTED, [{ kind: 'fail', code: 'FRAME_STAGE' }]);
  const refused = (sink: string): Fate =>
    after(ADMITTED, [{ kind: 'refuse', sink, code: 'FRAME_SINK' }, { kind: 'leave' }]);
  function entry(name: string, fields: Partial<Conclusion> = {}): Conclusion {
    return {
      id: `id of ${name}`,
      source: 'watch',
      name,
      path: `/inbox/${name}`,
      size: 5,
      mtimeMs: 1.5,
      sha256: 'x',
      fate: done(),
      message: null,
      graph: 'g',
      at: 1000,
      ...fields,
    };
  }
  const all = { since: 0, failedSince: 0 };
  /** What the journal says of files, in short. */
  async function outcomes(journal: Journal, files: Candidate[], policy = all, source = 'watch') {
    return (await journal.lookUp(source, files, policy)).map((known) => known?.status ?? null);
  }
  const film = (name: string, fields: Partial<FilmFile> = {}): FilmFile => {
    const { id, source, path, size, mtimeMs, sha256 } = entry(name);
    return { id, source, name, path, size, mtimeMs, sha256, ...fields };
  };
  const file = (name: string, mtimeMs = 1.5) => ({ path: `/inbox/${name}`, name, size: 5, mtimeMs });

  it('has a record of a file with several films when all of them are settled', async () => {
    const journal = await Journal.open(dir, log);
    const [whole] = [file('ct.dcm')];
    const part = (number: number, fields: Partial<Conclusion> = {}): Conclusion => ({
      ...entry(`ct.dcm#${number}of3`, fields),
      path: whole.path,
    });
    await journal.record(part(1));
    await journal.record(part(3, { fate: failed, message: 'why' }));
    await journal.record({ ...entry('ct.dcm#2of3'), id: 'of a file with this name' });
    expect(await outcomes(journal, [whole])).to.deep.equal([null]);
    await journal.admit(film('ct.dcm#2of3', { path: whole.path }), all);
    await journal.park('id of ct.dcm#2of3', 'csv', Buffer.from('frame'));
    await journal.record(
      part(2, { fate: after(ADMITTED, [{ kind: 'park', sink: 'csv' }, { kind: 'leave' }]) }),
    );
    expect(await outcomes(journal, [whole, file('ct.dcm', 2), file('ct')])).to.deep.equal([
      'waiting',
      null,
      null,
    ]);
    await journal.confirm('id of ct.dcm#2of3', 'csv');
    expect(await outcomes(journal, [whole])).to.deep.equal(['failed']);
    expect(await outcomes(journal, [whole], { since: 0, failedSince: 2000 })).to.deep.equal([null]);
    await journal.admit(film('ct.dcm#3of3', { path: whole.path }), { since: 0, failedSince: 2000 });
    await journal.record(part(3));
    expect(await outcomes(journal, [whole])).to.deep.equal(['done']);
    await journal.close();
  });

  it('keeps what is settled over a restart, by name, size and mtime', async () => {
    const first = await Journal.open(dir, log);
    await Promise.all([first.record(entry('a')), first.record(entry('b', { fate: failed, message: 'no' }))]);
    await first.close();
    const second = await Journal.open(dir, log);
    const files = [file('a'), file('a', 2), file('b'), file('c'), { ...file('a'), path: '/elsewhere/a' }];
    expect(await outcomes(second, files)).to.deep.equal(['done', null, 'failed', null, null]);
    expect(await outcomes(second, [file('a')], all, 'other')).to.deep.equal([null]);
    expect(await outcomes(second, [file('a')], { since: 1001, failedSince: 0 })).to.deep.equal([null]);
    await second.close();
  });

  it('recognises the bytes of a file that was touched, and records its new time', async () => {
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a'));
    const touched = film('a', { mtimeMs: 9 });
    expect((await journal.admit(touched, all)).known).to.include({ status: 'done', graph: 'g' });
    expect((await journal.admit(film('b'), all)).known).to.equal(null);
    expect(await outcomes(journal, [file('a', 9)])).to.deep.equal(['done']);
    expect((await journal.admit(touched, { since: 1001, failedSince: 0 })).known).to.equal(null);
    await journal.close();
  });

  it('identifies a file by its inode and ctime, too, if both it and the source have them', async () => {
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a', { ino: 7, ctimeMs: 3 }));
    await journal.record(entry('b'));
    const identities = [{ ino: 7, ctimeMs: 3 }, { ino: 8, ctimeMs: 3 }, { ino: 7, ctimeMs: 4 }, {}];
    const files = identities.map((identity) => ({ ...file('a'), ...identity }));
    expect(await outcomes(journal, files)).to.deep.equal(['done', null, null, 'done']);
    expect((await journal.admit(film('a', { ino: 8, ctimeMs: 4 }), all)).known?.status).to.equal('done');
    expect(await outcomes(journal, [{ ...file('a'), ino: 8, ctimeMs: 4 }])).to.deep.equal(['done']);
    // A row of an earlier layout takes the identity of the file that is there.
    const old = [7, 8].map((ino) => ({ ...file('b'), ino, ctimeMs: 3 }));
    expect(await outcomes(journal, old)).to.deep.equal(['done', null]);
    await journal.close();
  });

  it('tries a file again that could not be read', async () => {
    const journal = await Journal.open(dir, log);
    const fate = after(ADMITTED, [{ kind: 'fail', code: 'FRAME_UNREADABLE' }]);
    await journal.record(entry('a', { sha256: null, fate, message: 'the file cannot be opened' }));
    expect(await outcomes(journal, [file('a')])).to.deep.equal([null]);
    await journal.close();
  });

  it('records an unreadable file, and one that is repeated', async () => {
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a', { sha256: null, fate: failed, message: 'unreadable' }));
    await journal.admit(film('a'), { since: 2000, failedSince: 0 });
    await journal.record(entry('a', { at: 2000 }));
    expect(await outcomes(journal, [file('a')], { since: 2000, failedSince: 0 })).to.deep.equal(['done']);
    await journal.close();
  });

  it('counts what settled in each interval, with the verdicts, also of a film that waited for a sink', async () => {
    const journal = await Journal.open(dir, log);
    const now = 60_000 * Math.floor(Date.now() / 60_000);
    const skipped = after(ADMITTED, [{ kind: 'fail', code: 'FRAME_NO_PIXELS' }]);
    const minute = (n: number): number => now - n * 60_000;
    await Promise.all([
      journal.record(entry('a', { at: minute(5), abnormal: true })),
      journal.record(entry('b', { at: minute(4) })),
      journal.record(entry('c', { at: minute(4), fate: failed })),
      journal.record(entry('d', { at: minute(1), fate: skipped })),
    ]);
    // Its only sink is down: it settles when that has it.
    await journal.admit(film('late'), all);
    await journal.park('id of late', 'csv', new Uint8Array(1));
    await journal.record(entry('late', { fate: after(ADMITTED, [{ kind: 'leave' }]), at: minute(3) }));
    const empty = { done: 0, failed: 0, skipped: 0, suspicious: 0 };
    expect(await journal.history(minute(5), 1)).to.deep.equal([
      { ...empty, at: minute(5), done: 1, suspicious: 1 },
      { ...empty, at: minute(4), done: 1, failed: 1 },
      { ...empty, at: minute(1), skipped: 1 },
    ]);
    await journal.confirm('id of late', 'csv', true);
    await journal.close();
    const again = await Journal.open(dir, log);
    const whole = await again.history(minute(5), 1_000_000);
    expect(whole.map(({ at: _, ...counts }) => counts)).to.deep.equal([
      { done: 3, failed: 1, skipped: 1, suspicious: 2 },
    ]);
    await again.close();
  });

  it('has everything that it has acknowledged on the disk, when it is killed', async function () {
    this.timeout(60_000);
    const program = `
      const { Journal } = await import(${JSON.stringify(import.meta.resolve('../../../src/core/journal/journal.js'))});
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const journal = await Journal.open(${JSON.stringify(dir)}, log);
      for (let i = 0; ; i++) {
        await Promise.all([...Array(20).keys()].map((k) => journal.record({ ...${JSON.stringify(entry(''))}, id: 'i' + (i * 20 + k), name: 'n' + (i * 20 + k), path: '/inbox/n' + (i * 20 + k) })));
        console.log(i * 20 + 20);
      }`;
    const script = join(dir, 'writer.mjs');
    await writeFile(script, program);
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let acknowledged = 0;
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      acknowledged = Number(text.trimEnd().split('\n').at(-1));
      if (acknowledged >= 200) child.kill('SIGKILL');
    });
    await ended;
    const journal = await Journal.open(dir, log);
    const files = Array.from({ length: acknowledged }, (_, i) => file(`n${String(i)}`));
    expect(acknowledged).to.be.at.least(200);
    expect(new Set(await outcomes(journal, files))).to.deep.equal(new Set(['done']));
    await journal.close();
  });

  it('parks a frame until its sink has it; only then the film is done', async () => {
    let journal = await Journal.open(dir, log);
    await journal.admit(film('a'), all);
    await journal.park('id of a', 'webhook', Buffer.from('frame'));
    expect(await journal.record(entry('a', { fate: done('csv') }))).to.equal('waiting');
    await journal.close();
    journal = await Journal.open(dir, log);
    expect(await journal.parkedCounts()).to.deep.equal({ webhook: 1 });
    expect(await outcomes(journal, [file('a')])).to.deep.equal(['waiting']);
    const [parked] = await journal.parked('webhook', 0, 10);
    expect(parked?.film).to.deep.include(film('a'));
    expect(Buffer.from(parked?.frame ?? []).toString()).to.equal('frame');
    expect(await journal.parked('webhook', parked?.row ?? 0, 10)).to.deep.equal([]);
    expect(await journal.confirm('id of a', 'webhook')).to.deep.include(film('a'));
    expect(await journal.parkedCounts()).to.deep.equal({});
    expect(await outcomes(journal, [file('a')])).to.deep.equal(['done']);
    await journal.close();
  });

  it('reports after a crash which sinks have a film that is not done', async () => {
    const journal = await Journal.open(dir, log);
    expect(await journal.admit(film('a'), all)).to.deep.equal({
      known: null,
      delivered: [],
      duplicateOf: null,
      interrupted: 0,
      unread: [],
    });
    await journal.confirm('id of a', 'csv');
    await journal.park('id of a', 'webhook', Buffer.from('frame'));
    const begun = await journal.admit(film('a'), all);
    expect(begun.delivered).to.have.members(['csv', 'webhook']);
    expect(await journal.record(entry('a', { fate: refused('webhook') }))).to.equal('failed');
    const retried = await journal.admit(film('a'), { since: 0, failedSince: 1001 });
    expect(retried)
      .to.include({ known: null })
      .and.deep.include({ delivered: ['csv'] });
    const again = Date.now() + 1;
    expect((await journal.admit(film('a'), { since: again, failedSince: 0 })).delivered).to.deep.equal([]);
    await journal.close();
  });

  it('keeps a failure that came from the journal while the film was still in the graph', async () => {
    const journal = await Journal.open(dir, log);
    await journal.admit(film('a'), all);
    await journal.record(entry('a', { fate: failed, message: 'no' }));
    expect(await journal.record(entry('a'))).to.equal('failed');
    await journal.admit(film('a'), { since: 0, failedSince: 1001 });
    expect(await journal.record(entry('a'))).to.equal('done');
    await journal.close();
  });

  it('delivers a film to other sinks although one refuses it before it has passed the graph again', async () => {
    let journal = await Journal.open(dir, log);
    await journal.admit(film('a'), all);
    await journal.park('id of a', 'webhook', Buffer.from('frame'));
    await journal.close();
    // After a crash the webhook gets it from the journal, before the file is found again.
    journal = await Journal.open(dir, log);
    await journal.refuse({
      id: 'id of a',
      sink: 'webhook',
      code: 'FRAME_SINK',
      message: 'no',
      graph: 'g',
      at: 1000,
    });
    await journal.close();
    journal = await Journal.open(dir, log);
    expect(await outcomes(journal, [file('a')])).to.deep.equal([null]);
    expect((await journal.admit(film('a'), all)).delivered).to.deep.equal(['webhook']);
    expect(await journal.record(entry('a', { fate: done('csv') }))).to.equal('failed');
    expect(await outcomes(journal, [file('a')])).to.deep.equal(['failed']);
    // When what failed is tried again, the webhook is asked again, and the other is not.
    const { delivered } = await journal.admit(film('a'), { since: 0, failedSince: 1001 });
    expect(delivered).to.deep.equal(['csv']);
    expect(await journal.record(entry('a', { fate: done('webhook') }))).to.equal('done');
    await journal.close();
  });

  it('finds the film that had these bytes first, and no failed one', async () => {
    const journal = await Journal.open(dir, log);
    const duplicateOf = async (name: string): Promise<string | undefined> =>
      (await journal.admit(film(name), all, { findDuplicate: true })).duplicateOf?.name;
    expect(await duplicateOf('a')).to.equal(undefined);
    // It may still fail: nobody can say yet that these bytes have been looked at.
    expect(await duplicateOf('b')).to.equal(undefined);
    await journal.record(entry('a'));
    expect([await duplicateOf('b'), await duplicateOf('c')]).to.deep.equal(['a', 'a']);
    await journal.admit(film('a'), { since: 2000, failedSince: 0 });
    await journal.record(entry('a', { fate: failed }));
    expect(await duplicateOf('b')).to.equal(undefined);
    await journal.record(entry('b'));
    expect(await duplicateOf('c')).to.equal('b');
    await journal.close();
  });

  it('counts the attempts that end with the process, and none after a regular end', async function () {
    this.timeout(60_000);
    const attempts = async (alone = false): Promise<number> => {
      const program = `
        const { Journal } = await import(${JSON.stringify(import.meta.resolve('../../../src/core/journal/journal.js'))});
        const log = { debug() {}, info() {}, warn() {}, error() {} };
        const journal = await Journal.open(${JSON.stringify(dir)}, log);
        const { interrupted } = await journal.admit(${JSON.stringify(film('a'))}, { since: 0, failedSince: 0 }, { alone: ${String(alone)} });
        console.log(interrupted);
        process.kill(process.pid, 'SIGKILL');`;
      const script = join(dir, 'attempt.mjs');
      await writeFile(script, program);
      const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
      const [said] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
      await once(child, 'exit');
      return Number(said);
    };
    expect([await attempts(), await attempts()]).to.deep.equal([0, 1]);
    let journal = await Journal.open(dir, log);
    // What needs a precaution is counted with it alone.
    expect((await journal.admit(film('a'), all)).interrupted).to.equal(2);
    expect((await journal.admit(film('a'), all, { alone: true })).interrupted).to.equal(2);
    await journal.close();
    expect([await attempts(), await attempts(true), await attempts(true)]).to.deep.equal([2, 2, 3]);
    journal = await Journal.open(dir, log);
    await journal.record(entry('a', { fate: failed }));
    expect((await journal.admit(film('a'), { since: 0, failedSince: 2000 })).interrupted).to.equal(0);
    await journal.passed('id of a');
    await journal.close();
  });

  it('lists obsolete dead-letter entries', async () => {
    const journal = await Journal.open(dir, log);
    const unread = entry('a', { id: 'unread a', sha256: null, fate: failed });
    await journal.record(unread);
    await journal.record(entry('b', { fate: failed }));
    expect(await journal.obsolete(['unread a', 'id of b', 'unknown'])).to.deep.equal([]);
    expect((await journal.admit(film('a'), all)).unread).to.deep.equal(['unread a']);
    expect(await journal.obsolete(['unread a'])).to.deep.equal([]);
    await journal.record(entry('a'));
    expect(await journal.obsolete(['unread a', 'id of a', 'id of b'])).to.deep.equal(['unread a', 'id of a']);
    await journal.close();
  });

  it('upgrades the journal of version 0.1.0 and continues with it', async () => {
    await copyFile(new URL('../../../fixtures/journal/v1.db', import.meta.url), join(dir, 'journal.db'));
    const name = (n: number): string => `film-${String(n)}.png`;
    const old = (n: number): FilmFile => ({
      id: String(n).repeat(32),
      source: 'watch',
      name: name(n),
      path: `/films/${name(n)}`,
      size: 1000 + n,
      mtimeMs: 1_700_000_000_000.5 + n,
      sha256: String(n).repeat(64),
    });
    const statuses = async (journal: Journal): Promise<(string | null)[]> =>
      (
        await journal.lookUp(
          'watch',
          [1, 2, 3, 4, 5, 6, 7, 8].map((n) => ({ ...old(n), ino: undefined, ctimeMs: undefined })),
          all,
        )
      ).map((known) => known?.status ?? null);
    let journal = await Journal.open(dir, log);
    expect(await statuses(journal)).to.deep.equal([
      'done',
      'failed',
      'waiting',
      null,
      null,
      null,
      'failed',
      null,
    ]);
    expect(await journal.parkedCounts()).to.deep.equal({ webhook: 2 });
    expect(await journal.noted('again')).to.be.a('string');
    const [parked] = await journal.parked('webhook', 0, 1);
    expect((deserialize(parked?.frame ?? Buffer.of()) as { id: string }).id).to.equal(old(3).id);
    expect(await journal.confirm(old(3).id, 'webhook')).to.deep.include({ id: old(3).id });
    expect((await journal.admit(old(4), all)).delivered).to.deep.equal(['csv']);
    expect(await journal.record({ ...entry(''), ...old(4), fate: done('webhook') })).to.equal('done');
    // The webhook has refused it, and is not asked again; csv gets it, and it stays failed.
    expect((await journal.admit(old(5), all)).delivered).to.deep.equal(['webhook']);
    expect(await journal.record({ ...entry(''), ...old(5), fate: done('csv') })).to.equal('failed');
    expect(await journal.obsolete([old(6).id, old(7).id])).to.deep.equal([]);
    await journal.close();
    journal = await Journal.open(dir, log);
    const now = ['done', 'failed', 'done', 'done', 'failed', null, 'failed', null];
    expect(await statuses(journal)).to.deep.equal(now);
    await journal.close();
    const { default: Database } = await import('libsql');
    const db = new Database(join(dir, 'journal.db'));
    expect(db.prepare('SELECT status, code, message FROM films ORDER BY name').raw().all()).to.deep.equal([
      ['done', null, null],
      ['failed', 'FRAME_DAMAGED', 'the image is cut off'],
      ['done', null, null],
      ['done', null, null],
      ['failed', 'FRAME_SINK', '413'],
      ['failed', 'FRAME_UNREADABLE', 'permission denied'],
      ['failed', 'FRAME_SINK', 'no: not this one'],
    ]);
    db.close();
  });

  it('upgrades the journal of the first layout', async () => {
    const { default: Database } = await import('libsql');
    const old = new Database(join(dir, 'journal.db'));
    old.exec(`CREATE TABLE films (
      id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtimeMs REAL NOT NULL,
      sha256 TEXT, outcome TEXT NOT NULL, reason TEXT, graph TEXT NOT NULL, at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 1
    ) STRICT; CREATE INDEX by_name ON films (source, name);
    INSERT INTO films VALUES ('id of a', 'watch', 'a', '/inbox/a', 5, 1.5, 'x', 'done', NULL, 'g', 1000, 1)`);
    old.close();
    const journal = await Journal.open(dir, log);
    expect(await outcomes(journal, [file('a')])).to.deep.equal(['done']);
    await journal.close();
  });

  it('is set aside when damage shows while it is used, and the next start begins anew', async () => {
    let journal = await Journal.open(dir, log);
    await Promise.all(Array.from({ length: 2000 }, (_, i) => journal.record(entry(`n${String(i)}`))));
    await journal.close();
    const handle = await open(join(dir, 'journal.db'), 'r+');
    const { size } = await handle.stat();
    // Behind the roots of the tables, which are read when it is opened.
    const from = 14 * 4096;
    await handle.write(Buffer.alloc(size - from, 0x5a), 0, size - from, from);
    await handle.close();
    journal = await Journal.open(dir, log);
    const error = await outcomes(journal, [file('n1')]).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'STATE_DAMAGED' });
    await journal.close().catch(() => undefined);
    journal = await Journal.open(dir, log);
    expect(await outcomes(journal, [file('n1')])).to.deep.equal([null]);
    await journal.close();
  });

  it('is refused to a second process', async () => {
    const journal = await Journal.open(dir, log);
    const error = await Journal.open(dir, log).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'STATE_LOCKED' });
    expect(String(error)).to.include(`pid ${String(process.pid)} on ${hostname()}, since 20`);
    await journal.close();
  });

  it('is set aside when it is damaged, with a warning', async () => {
    await writeFile(join(dir, 'journal.db'), 'this is no database, '.repeat(1000));
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a'));
    await journal.close();
    expect(warnings.join()).to.match(/the journal was damaged: it is kept as .*journal\.db\.damaged-/);
    expect((await readdir(dir)).some((name) => name.startsWith('journal.db.damaged-'))).to.equal(true);
  });

  it('reports why it cannot be opened', async () => {
    await writeFile(join(dir, 'file'), '');
    const wrong = async (state: string): Promise<string> => {
      const [outcome] = await Promise.allSettled([Journal.open(join(dir, state), log)]);
      expect(outcome).to.have.nested.property('reason.code', 'STATE_UNWRITABLE');
      return messageOf((outcome as PromiseRejectedResult).reason);
    };
    for (const state of ['file', 'file/state']) {
      expect(await wrong(state)).to.equal(
        `the state folder ${join(dir, state)} cannot be used: expected a folder, but a part of the path is a file`,
      );
    }
    for (const [index, name] of [
      ...['journal.db', 'journal.db-wal', 'journal.db.owner', 'worklist.jsonl', 'reviews.jsonl'],
      ...['dicom-uids.key', 'csv-0123456789abcdef.jsonl', 'control.sock'],
    ].entries()) {
      await mkdir(join(dir, `state-${index}`, name), { recursive: true });
      expect(await wrong(`state-${index}`)).to.contain(`${name} in it is a folder; expected a file`);
    }
    for (const name of ['deadletter', 'replays', 'cache']) {
      await mkdir(join(dir, `state-${name}`));
      await writeFile(join(dir, `state-${name}`, name), '');
      expect(await wrong(`state-${name}`)).to.contain(`${name} in it is a file; expected a folder`);
    }
  });

  it('refuses requests when it is closed, and may be closed twice', async () => {
    const journal = await Journal.open(dir, log);
    await journal.close();
    await journal.close();
    const error = await journal.record(entry('a')).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(String(error)).to.match(/closed/);
  });
});
