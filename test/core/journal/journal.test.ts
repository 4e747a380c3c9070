import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Journal } from '../../../src/core/journal/journal.js';
import type { Entry } from '../../../src/core/journal/store.js';

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

  function entry(name: string, fields: Partial<Entry> = {}): Entry {
    const at = 1000;
    return {
      id: `id of ${name}`,
      source: 'watch',
      name,
      path: `/inbox/${name}`,
      size: 5,
      mtimeMs: 1.5,
      sha256: 'x',
      outcome: 'done',
      reason: null,
      graph: 'g',
      at,
      ...fields,
    };
  }
  const file = (name: string, mtimeMs = 1.5) => ({ path: `/inbox/${name}`, name, size: 5, mtimeMs });

  it('remembers what is settled over a restart, by name, size and mtime', async () => {
    const first = await Journal.open(dir, log);
    await Promise.all([
      first.record(entry('a')),
      first.record(entry('b', { outcome: 'failed', reason: 'no' })),
    ]);
    await first.close();
    const second = await Journal.open(dir, log);
    const files = [file('a'), file('a', 2), file('b'), file('c'), { ...file('a'), path: '/elsewhere/a' }];
    expect(await second.outcomes('watch', files)).to.deep.equal(['done', null, 'failed', null, null]);
    expect(await second.outcomes('other', [file('a')])).to.deep.equal([null]);
    expect(await second.outcomes('watch', [file('a')], 1001)).to.deep.equal([null]);
    await second.close();
  });

  it('recognises the bytes of a file that was touched, and knows its new time from then on', async () => {
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a'));
    expect(await journal.recognise('id of a', file('a', 9), 1001)).to.equal(null);
    expect(await journal.recognise('id of a', file('a', 9))).to.equal('done');
    expect(await journal.recognise('id of b', file('b', 9))).to.equal(null);
    expect(await journal.outcomes('watch', [file('a', 9)])).to.deep.equal(['done']);
    await journal.close();
  });

  it('tries a file again that could not be read', async () => {
    const journal = await Journal.open(dir, log);
    const reason = 'FRAME_UNREADABLE: the file cannot be opened';
    await journal.record(entry('a', { sha256: null, outcome: 'failed', reason }));
    expect(await journal.outcomes('watch', [file('a')])).to.deep.equal([null]);
    await journal.close();
  });

  it('takes an unreadable file, and one that is repeated', async () => {
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a', { sha256: null, outcome: 'failed', reason: 'unreadable' }));
    await journal.record(entry('a', { at: 2000 }));
    expect(await journal.outcomes('watch', [file('a')], 2000)).to.deep.equal(['done']);
    await journal.close();
  });

  it('has on the disk what it has acknowledged, when it is killed', async function () {
    this.timeout(60_000);
    const program = `
      const { Journal } = await import(${JSON.stringify(new URL('../../../src/core/journal/journal.ts', import.meta.url).href)});
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const journal = await Journal.open(${JSON.stringify(dir)}, log);
      for (let i = 0; ; i++) {
        await Promise.all([...Array(20).keys()].map((k) => journal.record({ ...${JSON.stringify(entry(''))}, id: 'i' + (i * 20 + k), name: 'n' + (i * 20 + k), path: '/inbox/n' + (i * 20 + k) })));
        console.log(i * 20 + 20);
      }`;
    const script = join(dir, 'writer.mts');
    await writeFile(script, program);
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--import', './test/support/tsx-threads.mjs', script],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
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
    expect(new Set(await journal.outcomes('watch', files))).to.deep.equal(new Set(['done']));
    await journal.close();
  });

  it('is refused to a second process', async () => {
    const journal = await Journal.open(dir, log);
    const error = await Journal.open(dir, log).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'STATE_LOCKED' });
    await journal.close();
  });

  it('is set aside when it is damaged, and said so', async () => {
    await writeFile(join(dir, 'journal.db'), 'this is no database, '.repeat(1000));
    const journal = await Journal.open(dir, log);
    await journal.record(entry('a'));
    await journal.close();
    expect(warnings.join()).to.match(/the journal was damaged: it is kept as .*journal\.db\.damaged-/);
    expect((await readdir(dir)).some((name) => name.startsWith('journal.db.damaged-'))).to.equal(true);
  });

  it('says when its folder cannot be made', async () => {
    await writeFile(join(dir, 'file'), '');
    const error = await Journal.open(join(dir, 'file', 'state'), log).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'STATE_UNWRITABLE' });
  });

  it('refuses questions when it is closed, and may be closed twice', async () => {
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
