import { execFileSync, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import {
  appendFile,
  cp,
  mkdir,
  mkdtemp,
  open as openFile,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import sinon from 'sinon';
import type { DurableStep } from '../../src/core/durable.js';
import { RxrayError } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import csv from '../../src/sinks/csv.js';
import { makeFrame, testServices, type TestServicesOptions } from '../../src/testing.js';

const RESULTS = {
  classes: {
    kind: 'classification',
    label: 'normal',
    probability: 0.75,
    probabilities: { normal: 0.75, 'p.b': 0.25 },
    topK: [],
  },
  anomaly: { kind: 'anomaly', anomalyScore: 0.1 + 0.2, rawSum: -1061, percentile: null },
} as const;

const COLUMNS = [
  { stage: 'classes', column: { name: 'label', path: ['label'] } },
  { stage: 'classes', column: { name: 'p.p.b', path: ['probabilities', 'p.b'] } },
  { stage: 'anomaly', column: { name: 'anomalyScore', path: ['anomalyScore'] } },
  { stage: 'anomaly', column: { name: 'rawSum', path: ['rawSum'] } },
  { stage: 'anomaly', column: { name: 'percentile', path: ['percentile'] } },
];

describe('the csv sink', () => {
  let folder: string;
  let path: string;
  const cleanups: (() => void)[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-csv-'));
    path = join(folder, 'out', 'results.csv');
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0)) cleanup();
    await rm(folder, { recursive: true });
  });

  async function open(settings: object = {}, services: TestServicesOptions = {}): Promise<SinkInstance> {
    const all = testServices({ baseDir: folder, stateDir: join(folder, '.rxray'), ...services });
    cleanups.push(() => all.cleanup());
    return csv.create(csv.options.parse({ path: 'out/results.csv', ...settings }), all);
  }
  const film = (name: string, extra: Partial<Frame> = {}): Frame => ({
    ...makeFrame({ name, image: null }),
    ...extra,
  });
  const text = () => readFile(path, 'utf8');
  const records = async () => parse(await readFile(path), { bom: true, record_delimiter: '\r\n' });
  const names = async () => (await records()).slice(1).map(([name]) => name);
  /** The file that was put aside. */
  const kept = async (): Promise<string> => {
    const [name = ''] = (await readdir(join(folder, 'out'))).filter((each) =>
      /^results\..+\.csv$/.test(each),
    );
    return readFile(join(folder, 'out', name), 'utf8');
  };
  async function refusal(attempt: Promise<unknown>): Promise<RxrayError> {
    const error: unknown = await attempt.then(
      () => expect.fail('expected a refusal'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(RxrayError);
    return error as RxrayError;
  }

  it('writes what every stage found, by default', async () => {
    const sink = await open({}, { columns: COLUMNS });
    const frame = film('ward/a.png', { results: RESULTS, completedAt: '2026-01-01T08:00:01.000Z' });
    await sink.write([frame]);
    expect(await text()).to.equal(
      'file,id,receivedAt,completedAt,classes.label,classes.p.p.b,anomaly.anomalyScore,anomaly.rawSum,anomaly.percentile\r\n' +
        `ward/a.png,${frame.id},2026-01-01T08:00:00.000Z,2026-01-01T08:00:01.000Z,normal,0.25,0.3,-1061,\r\n`,
    );
    await sink.dispose?.();
  });

  it('has the verdict in front if a stage judges, and leaves out columns on request', async () => {
    const offered = ['score', 'abnormal', 'suspicion'].map((name) => ({
      stage: 'any',
      column: { name, path: [name], onRequest: name === 'suspicion' },
    }));
    const sink = await open({}, { columns: offered });
    const any = { kind: 'mine', abnormal: true, suspicion: 0.912345, score: 2 / 3, threshold: 0.5 };
    await sink.write([film('a.png', { results: { any } })]);
    await sink.dispose?.();
    const [header, row] = await records();
    expect(header?.slice(4)).to.deep.equal(['suspicious', 'suspicion', 'any.score', 'any.abnormal']);
    expect(row?.slice(4)).to.deep.equal(['true', '0.9123', '0.6667', 'true']);
  });

  it('writes columns by name, by path and by expression', async () => {
    const sink = await open(
      {
        columns: [
          'file',
          'anomaly.rawSum',
          'meta.modality',
          'meta.missing.deeper',
          'results.classes.label',
          'results.classes.probabilities',
          { name: 'sure', value: 'results.classes.probability > 0.5' },
        ],
        delimiter: ';',
        bom: true,
      },
      { columns: COLUMNS },
    );
    await sink.write([film('a.png', { results: RESULTS, meta: { modality: 'DX' } })]);
    await sink.dispose?.();
    expect(await text()).to.equal(
      '\uFEFFfile;anomaly.rawSum;meta.modality;meta.missing.deeper;results.classes.label;results.classes.probabilities;sure\r\n' +
        'a.png;-1061;DX;;normal;"{""normal"":0.75,""p.b"":0.25}";true\r\n',
    );
  });

  it('refuses an unknown column, and lists the known ones', async () => {
    const error = await refusal(open({ columns: ['file', 'classes.lable'] }, { columns: COLUMNS }));
    expect(error.code).to.equal('CONFIG_CREATE');
    expect(error.message).to.contain('"classes.lable"').and.contain('classes.label');
  });

  it('lints columns as a run would check them', async () => {
    const settings = csv.options.parse({
      path: 'a.csv',
      columns: ['file', 'classes.lable', 'mine.x', 'nobody.x'],
    });
    const stages = [
      { stage: 'classes', columns: [{ name: 'label', path: ['label'] }] },
      { stage: 'mine', columns: undefined },
    ];
    const context = { baseDir: folder, preceding: [], columns: () => Promise.resolve(stages) };
    const found = (await csv.lint?.(settings, context)) ?? [];
    expect(found.map(({ option }) => option.join('.'))).to.deep.equal(['columns.1', 'columns.3']);
    expect(found[0]?.message).to.contain('classes.label');
  });

  it('keeps a cell from being taken for a formula, and leaves numbers alone', async () => {
    const sink = await open({ columns: ['file', 'meta.shift', 'meta.note'] });
    await sink.write([film('=1+1.png', { meta: { shift: -1.5, note: '-1.5' } })]);
    await sink.dispose?.();
    expect((await records())[1]).to.deep.equal(["'=1+1.png", '-1.5', "'-1.5"]);
  });

  it('quotes every kind of line end', async () => {
    const sink = await open({ columns: ['file'] });
    await sink.write(['lf\n.png', 'cr\r.png', 'crlf\r\n.png'].map((name) => film(name)));
    await sink.dispose?.();
    const text = await readFile(join(folder, 'out', 'results.csv'), 'utf8');
    expect(text).to.equal('file\r\n"lf\n.png"\r\n"cr\r.png"\r\n"crlf\r\n.png"\r\n');
  });

  it('writes the header once, and goes on where it stopped', async () => {
    for (const name of ['a.png', 'b.png']) {
      const sink = await open();
      await sink.write([film(name)]);
      await sink.dispose?.();
    }
    expect(await names()).to.deep.equal(['a.png', 'b.png']);
    expect((await readdir(join(folder, 'out'))).sort()).to.deep.equal([
      '.results.csv.commits',
      'results.csv',
    ]);
  });

  it('recognises written rows by the file, even without the state folder', async () => {
    const sink = await open();
    await sink.write([film('a.png'), film('b.png')]);
    await sink.dispose?.();
    await rm(join(folder, '.rxray'), { recursive: true });
    const again = await open();
    await again.write([film('a.png'), film('c.png')]);
    await again.dispose?.();
    expect(await names()).to.deep.equal(['a.png', 'b.png', 'c.png']);
  });

  it('recognises written rows if the ids are not among the columns', async () => {
    for (let run = 0; run < 3; run++) {
      const sink = await open({ columns: ['file'] });
      await sink.write([film('a.png'), film(`${run}.png`)]);
      await sink.dispose?.();
    }
    expect(await names()).to.deep.equal(['a.png', '0.png', '1.png', '2.png']);
  });

  it('starts a new file when the old one was moved away', async () => {
    const sink = await open({ columns: ['file'] });
    await sink.write([film('a.png')]);
    await sink.dispose?.();
    await rm(path);
    const again = await open({ columns: ['file'] });
    await again.write([film('a.png')]);
    await again.dispose?.();
    expect(await names()).to.deep.equal(['a.png']);
  });

  it('begins a new file when films are processed again, and keeps the old one', async () => {
    for (const again of [false, true]) {
      const sink = await open({ columns: ['file', 'meta.run'] }, { again });
      await sink.write([film('a.png', { meta: { run: again ? 'second' : 'first' } })]);
      await sink.dispose?.();
    }
    expect(await text()).to.equal('file,meta.run\r\na.png,second\r\n');
    const [old, ...others] = (await readdir(join(folder, 'out'))).filter((name) =>
      /^results\..+\.csv$/.test(name),
    );
    expect(others).to.be.empty;
    expect(old).to.match(/^results\.\d{4}-\d\d-\d\dT[-\d]+Z\.csv$/);
    expect(await readFile(join(folder, 'out', old!), 'utf8')).to.equal('file,meta.run\r\na.png,first\r\n');
  });

  it('writes numbers with a decimal comma, separated by semicolons', async () => {
    const columns = ['file', 'meta.shift', 'meta.tiny', 'meta.note', 'meta.whole', 'meta.list'];
    const sink = await open({ columns, decimal: ',' });
    const meta = { shift: -1.5, tiny: 1.5e-7, note: '1.5', whole: 12345, list: [0.5] };
    await sink.write([film('a.png', { meta })]);
    await sink.dispose?.();
    expect(await text()).to.equal(`${columns.join(';')}\r\na.png;-1,5;1,5e-7;1.5;12345;[0.5]\r\n`);
  });

  it('refuses a delimiter that is the decimal sign, also in lint', () => {
    const parsed = csv.options.safeParse({ path: 'r.csv', decimal: ',', delimiter: ',' });
    expect(parsed.error?.issues).to.have.nested.property('[0].path').that.deep.equals(['delimiter']);
    expect(csv.options.safeParse({ path: 'r.csv', delimiter: '.' }).success).to.equal(false);
  });

  describe('goes on in a new file, and keeps the old one as it is, when between two runs it', () => {
    const changes: Readonly<Record<string, (text: string) => string>> = {
      'was edited': (text) => text.replace('a.png', 'A.PNG'),
      'was edited and is longer': (text) => text.replace('a.png', 'a.png (seen by a doctor)'),
      'was saved by a spreadsheet': (text) => text.replaceAll(',', ';').replaceAll('\r\n', '\n'),
      'has become shorter': (text) => text.slice(0, -3),
      'was made empty but for the header': (text) => text.slice(0, text.indexOf('\r\n') + 2),
    };
    for (const [what, change] of Object.entries(changes)) {
      it(what, async () => {
        for (const [run, columns] of [['file', 'id'], ['file']].entries()) {
          await rm(join(folder, 'out'), { recursive: true, force: true });
          const first = await open({ columns });
          await first.write([film('a.png'), film('b.png')]);
          await first.dispose?.();
          const edited = change(await text());
          await writeFile(path, edited);
          const services = testServices({ baseDir: folder, stateDir: join(folder, '.rxray') });
          cleanups.push(() => services.cleanup());
          const again = await csv.create(csv.options.parse({ path: 'out/results.csv', columns }), services);
          // A film that was on its way when the process ended is known where its id can still be found.
          const isKnown = run === 1 || what.startsWith('was edited');
          await again.write([...(isKnown ? [film('a.png'), film('b.png')] : []), film('c.png')]);
          await again.dispose?.();
          expect(await kept()).to.equal(edited);
          expect(await names()).to.deep.equal(['c.png']);
          expect(services.logged.join()).to.contain('new rows go into a new file').and.contain('results.2');
        }
      });
    }

    it('was edited, also when the process ends before the new file is there', async () => {
      const first = await open({ columns: ['file'] });
      await first.write([film('a.png'), film('b.png')]);
      await first.dispose?.();
      await writeFile(path, (await text()).replace('a.png', 'A.PNG'));
      const snapshot = join(folder, 'snapshot');
      const copying = (event: unknown): void => {
        const { step, phase } = event as { step: string; phase: string };
        if (step !== 'csv.create' || phase !== 'before') return;
        for (const name of ['out', '.rxray'])
          cpSync(join(folder, name), join(snapshot, name), { recursive: true });
      };
      subscribe('rxray:durable', copying);
      const ended = await open({ columns: ['file'] });
      unsubscribe('rxray:durable', copying);
      await ended.dispose?.();
      for (const name of ['out', '.rxray']) {
        await rm(join(folder, name), { recursive: true });
        await rename(join(snapshot, name), join(folder, name));
      }
      await rm(join(folder, 'out', '.results.csv.lock'), { force: true });
      const again = await open({ columns: ['file'] });
      await again.write([film('a.png'), film('c.png')]);
      await again.dispose?.();
      expect(await names()).to.deep.equal(['c.png']);
    });
  });

  describe('keeps its rows under another name and begins anew when its columns have changed', () => {
    const changes: Readonly<Record<string, readonly [object, object]>> = {
      'to more of them': [{}, { columns: ['file', 'id', 'meta.run'] }],
      'to ones without ids': [{}, { columns: ['file'] }],
      'from ones without ids': [{ columns: ['file'] }, { columns: ['file', 'id'] }],
      'to others, without ids': [{ columns: ['file'] }, { columns: ['file', 'meta.run'] }],
      'in what separates them': [{ columns: ['file', 'id'] }, { columns: ['file', 'id'], decimal: ',' }],
      'back from a semicolon': [{ columns: ['id', 'file'], delimiter: ';' }, { columns: ['file', 'id'] }],
    };
    for (const [what, [before, after]] of Object.entries(changes)) {
      it(what, async () => {
        const first = await open(before);
        await first.write([film('a.png'), film('b.png')]);
        await first.dispose?.();
        const rows = await text();
        // A group that was written and never confirmed: its film comes again.
        await appendFile(path, rows.slice(rows.indexOf('\r\n') + 2).replaceAll(/[ab]\.png/g, 'c.png'));
        const services = testServices({ baseDir: folder, stateDir: join(folder, '.rxray') });
        cleanups.push(() => services.cleanup());
        const again = await csv.create(csv.options.parse({ path: 'out/results.csv', ...after }), services);
        // The journal may not have confirmed what the file has.
        await again.write([film('b.png'), film('c.png'), film('d.png')]);
        await again.dispose?.();
        expect(await kept()).to.equal(rows);
        expect((await text()).match(/[abcd]\.png/g)).to.deep.equal(['c.png', 'd.png']);
        expect(services.logged.join()).to.match(/columns of results\.csv have changed.*results\.\d.*csv/);
        const third = await open(after);
        await third.write([film('a.png'), film('d.png')]);
        await third.dispose?.();
        expect((await text()).match(/[abcd]\.png/g)).to.deep.equal(['c.png', 'd.png']);
      });
    }

    it('but not in a part of a backfill, whose rows belong into one file', async () => {
      const settings = { path: '.rxray/output/csv.csv', columns: ['file'] };
      const first = await open(settings);
      await first.write([film('a.png')]);
      await first.dispose?.();
      const error = await refusal(open({ ...settings, columns: ['file', 'id'] }));
      expect(error.message).to.contain('its columns are file; expected file, id');
      await (await open({ ...settings, columns: ['file', 'id'] }, { again: true })).dispose?.();
    });
  });

  describe('refuses', () => {
    it('a file with other columns', async () => {
      await mkdir(join(folder, 'out'));
      await writeFile(path, 'patient,age\r\nx,3\r\n');
      const error = await refusal(open());
      expect(error.code).to.equal('OUTPUT_UNWRITABLE');
      expect(error.message).to.contain('patient, age').and.contain('file, id, receivedAt, completedAt');
      expect(await text()).to.equal('patient,age\r\nx,3\r\n');
    });

    it('a file that is not CSV', async () => {
      await mkdir(join(folder, 'out'));
      await writeFile(path, 'file,id,receivedAt,completedAt\r\n"never closed');
      expect((await refusal(open())).code).to.equal('OUTPUT_UNWRITABLE');
    });

    it('a folder, a pipe, and a place below a file', async () => {
      await mkdir(path, { recursive: true });
      expect((await refusal(open())).message).to.contain('it is a folder, a pipe or a device');
      await rmdir(path);
      // Opening a pipe waits for somebody at its other end.
      execFileSync('mkfifo', [path]);
      expect((await refusal(open())).message).to.contain('it is a folder, a pipe or a device');
      await writeFile(join(folder, 'file'), '');
      const error = await refusal(open({ path: 'file/results.csv' }));
      expect(error.code).to.equal('OUTPUT_UNWRITABLE');
    });

    it('a file that another sink or process is writing', async () => {
      const sink = await open();
      const error = await refusal(open({}, { stateDir: join(folder, 'other-state') }));
      expect(error.message).to.contain('another rxray');
      await sink.dispose?.();
      await (await open()).dispose?.();
    });
  });

  it('takes over the lock of a process that was killed', async () => {
    const script = `
      const { lockFile } = await import(${url('../../src/sinks/file-lock.js')});
      console.log(await lockFile(${JSON.stringify(join(folder, 'out', '.results.csv.lock'))}) !== undefined);
      setInterval(() => {}, 1000);`;
    await mkdir(join(folder, 'out'));
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    expect(said.toString().trim()).to.equal('true');
    expect((await refusal(open())).message).to.contain('another rxray');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await (await open()).dispose?.();
  });

  it('has every confirmed row once after it was killed in the middle of writing', async () => {
    const script = `
      const { default: csv } = await import(${url('../../src/sinks/csv.js')});
      const { makeFrame, testServices } = await import(${url('../../src/testing.js')});
      const baseDir = ${JSON.stringify(folder)};
      const services = testServices({ baseDir, stateDir: baseDir + '/.rxray' });
      services.cleanup();
      const sink = await csv.create(csv.options.parse({ path: 'out/results.csv' }), services);
      for (let i = 0; ; i += 8) {
        const names = Array.from({ length: 8 }, (_, j) => 'line\\n' + (i + j) + '.png');
        await sink.write(names.map((name) => makeFrame({ name, image: null })));
        console.log(i + 8);
      }`;
    let confirmed = 0;
    for (let kill = 0; kill < 3; kill++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.length > 100 + 50 * kill) child.kill('SIGKILL');
      });
      await once(child, 'exit');
      confirmed = Math.max(confirmed, Number(said.trimEnd().split('\n').at(-1)));
    }
    await (await open()).dispose?.();
    const written = await names();
    expect(written).to.deep.equal(written.map((_, i) => `line\n${i}.png`));
    expect(written.length).to.be.at.least(confirmed);
  });

  it('writes nothing of a group of which one frame fails', async () => {
    const sink = await open({
      columns: ['file', 'id', { name: 'score', value: 'results.anomaly.anomalyScore' }],
    });
    const error = await refusal(sink.write([film('a.png', { results: RESULTS }), film('b.png')]));
    expect(error.code).to.equal('FRAME_EXPRESSION');
    expect(await names()).to.deep.equal([]);
    await sink.write([film('a.png', { results: RESULTS })]);
    await sink.dispose?.();
    expect(await names()).to.deep.equal(['a.png']);
  });

  it('loses and repeats nothing when it is cut at any byte of an unconfirmed group', async () => {
    const films = ['a.png', 'b "x"\r\n,y.png', 'ü\n.png', 'd.png'].map((name) => film(name));
    const columns = ['file', 'id'];
    const sink = await open({ columns });
    await sink.write(films.slice(0, 2));
    const [journal] = (await readdir(join(folder, '.rxray'))).map((name) => join(folder, '.rxray', name));
    const committed = { csv: await readFile(path), journal: await readFile(journal!) };
    await sink.write(films.slice(2));
    await sink.dispose?.();
    const whole = { csv: await readFile(path), journal: await readFile(journal!) };

    async function crashAt(rows: Buffer, commits: Buffer): Promise<void> {
      await writeFile(path, rows);
      await writeFile(journal!, commits);
      const restarted = await open({ columns });
      await restarted.write(films);
      await restarted.dispose?.();
      expect(await names(), `after ${rows.length} and ${commits.length} bytes`).to.deep.equal(
        films.map(({ origin }) => origin.name),
      );
    }
    for (let end = committed.csv.length; end <= whole.csv.length; end++) {
      await crashAt(whole.csv.subarray(0, end), committed.journal);
    }
    for (let end = committed.journal.length; end <= whole.journal.length; end++) {
      await crashAt(whole.csv, whole.journal.subarray(0, end));
    }
  });

  const torn = async (): Promise<string[]> => {
    const names = (await readdir(join(folder, '.rxray'))).filter((name) => name.endsWith('.torn'));
    return Promise.all(names.sort().map((name) => readFile(join(folder, '.rxray', name), 'utf8')));
  };

  it('keeps rows that it cuts off, in the state folder, each time', async () => {
    for (const rest of ['torn', 'by,hand,,\r\n']) {
      await (await open()).dispose?.();
      await appendFile(path, rest);
    }
    await (await open()).dispose?.();
    expect(await torn()).to.deep.equal(['torn', 'by,hand,,\r\n']);
    expect(await names()).to.deep.equal([]);
  });

  describe('goes on when its list of confirmed rows is damaged, and keeps the list:', () => {
    const tears: Readonly<Record<string, (list: string) => string>> = {
      'the last line is cut': (list) => list.slice(0, -3),
      'the last line is garbage': (list) => `${list.trimEnd().split('\n').slice(0, -1).join('\n')}\n\0\0{\n`,
      'all is garbage': (list) => '\0'.repeat(list.length),
      'one line is of something else': () => 'null\n',
    };
    for (const [what, tear] of Object.entries(tears)) {
      for (const columns of [undefined, ['file']]) {
        it(`${what} (${columns === undefined ? 'with' : 'without'} ids)`, async () => {
          const sink = await open({ columns });
          await sink.write([film('a.png'), film('b "x"\r\n,y.png')]);
          await sink.write([film('c.png')]);
          await sink.dispose?.();
          const [list = ''] = await readdir(join(folder, '.rxray'));
          const torn = tear(await readFile(join(folder, '.rxray', list), 'utf8'));
          await writeFile(join(folder, '.rxray', list), torn);
          // A group that was never confirmed.
          await appendFile(path, '"d.p\r\nn');
          const restarted = await open({ columns });
          await restarted.write([film('c.png'), film('d.png')]);
          await restarted.dispose?.();
          expect(await names()).to.deep.equal(['a.png', 'b "x"\r\n,y.png', 'c.png', 'd.png']);
          await (await open({ columns })).dispose?.();
          const kept = (await readdir(join(folder, '.rxray'))).filter((name) => name.includes('.damaged-'));
          // A last line without its end is as a crash leaves it; the file's copy has what it said.
          expect(kept).to.have.lengthOf(what === 'the last line is cut' ? 0 : 1);
          for (const name of kept)
            expect(await readFile(join(folder, '.rxray', name), 'utf8')).to.equal(torn);
        });
      }
    }

    it('all is garbage, and the copy is gone or behind', async () => {
      for (const behind of [false, true]) {
        const sink = await open();
        await sink.write([film('a.png')]);
        const copy = join(folder, 'out', '.results.csv.commits');
        const before = await readFile(copy);
        await sink.write([film('b.png')]);
        await sink.dispose?.();
        if (behind) await writeFile(copy, before);
        else await rm(copy);
        const [list = ''] = (await readdir(join(folder, '.rxray'))).filter((name) => name.endsWith('.jsonl'));
        await writeFile(join(folder, '.rxray', list), '\0\0\0\0');
        await appendFile(path, 'c.p');
        const restarted = await open();
        await restarted.write([film('b.png'), film('c.png')]);
        await restarted.dispose?.();
        expect(await names()).to.deep.equal(['a.png', 'b.png', 'c.png']);
        await Promise.all(['out', '.rxray'].map((each) => rm(join(folder, each), { recursive: true })));
      }
    });
  });

  describe('while it runs', () => {
    it('keeps rows that another program appends, and does not overwrite them', async () => {
      const sink = await open();
      await sink.write([film('a.png')]);
      await appendFile(path, 'by,hand,,\r\n');
      await sink.write([film('b.png')]);
      await sink.dispose?.();
      expect(await names()).to.deep.equal(['a.png', 'b.png']);
      expect(await torn()).to.deep.equal(['by,hand,,\r\n']);
    });

    it('waits while its folder is away, and goes on', async () => {
      const away = `${folder}-away`;
      const sink = await open();
      await sink.write([film('a.png')]);
      await rename(folder, away);
      for (let attempt = 0; attempt < 2; attempt++) {
        const error = await sink.write([film('b.png')]).catch((thrown: unknown) => thrown);
        expect(error).to.include({ code: 'SINK_UNAVAILABLE' });
      }
      await rename(away, folder);
      await sink.write([film('b.png')]);
      await sink.dispose?.();
      expect(await names()).to.deep.equal(['a.png', 'b.png']);
    });

    it('begins a new file when its own is moved away, and says so', async () => {
      const logged: string[] = [];
      const log = {
        debug() {},
        info() {},
        error() {},
        warn: (_: object, text: string) => void logged.push(text),
      };
      const sink = await open({}, { log });
      await sink.write([film('a.png')]);
      await rename(path, join(folder, 'moved.csv'));
      await sink.write([film('b.png')]);
      await sink.dispose?.();
      expect(await names()).to.deep.equal(['b.png']);
      expect(logged).to.deep.equal(['the file has been moved or deleted: a new one is started']);
      await (await open()).dispose?.();
      expect(await names()).to.deep.equal(['b.png']);
    });

    it('continues in an identical copy of its file, and leaves a different one alone', async () => {
      const sink = await open();
      await sink.write([film('a.png')]);
      const rows = await text();
      await writeFile(join(folder, 'copy'), rows);
      await rename(join(folder, 'copy'), path);
      await sink.write([film('b.png')]);
      expect(await names()).to.deep.equal(['a.png', 'b.png']);
      await writeFile(join(folder, 'copy'), (await text()).replace('a.png', 'A.PNG'));
      await rename(join(folder, 'copy'), path);
      await sink.write([film('b.png'), film('c.png')]);
      await sink.dispose?.();
      expect(await names()).to.deep.equal(['c.png']);
      expect(await kept()).to.match(/^A\.PNG,.*\r\nb\.png,.*\r\n$/m);
    });

    for (const [how, edit] of [
      ['longer', (rows: string) => rows.replace('a.png', 'a.png (seen: Dr. Meier)')],
      ['shorter', (rows: string) => rows.replace('a.png', 'a')],
      ['other', (rows: string) => rows.replace('a.png', 'A.PNG')],
    ] as const) {
      it(`leaves a file alone that was edited in place, and begins a new one (${how})`, async () => {
        const sink = await open();
        await sink.write([film('a.png'), film('b.png')]);
        // The clock of a file system ticks every few milliseconds.
        const { ctimeMs } = await stat(path);
        const edited = edit(await text());
        do await writeFile(path, edited);
        while ((await stat(path)).ctimeMs === ctimeMs);
        await sink.write([film('b.png'), film('c.png')]);
        await sink.write([film('d.png')]);
        await sink.dispose?.();
        expect(await names()).to.deep.equal(['c.png', 'd.png']);
        expect(await kept()).to.equal(edited);
      });
    }

    for (const phase of ['before', 'after'] as const) {
      it(`writes into no row of a file that is edited at the moment of a write (${phase} it)`, async () => {
        const sink = await open();
        await sink.write([film('a.png')]);
        const edit = (message: unknown): void => {
          const step = message as DurableStep;
          if (step.step !== 'csv.append' || step.phase !== phase) return;
          unsubscribe('rxray:durable', edit);
          writeFileSync(path, readFileSync(path, 'utf8').replace('a.png', 'a.png (seen: Dr. Meier)'));
        };
        subscribe('rxray:durable', edit);
        await sink.write([film('b.png')]);
        await sink.write([film('c.png')]);
        await sink.dispose?.();
        expect(await names()).to.deep.equal(['c.png']);
        expect(await kept()).to.match(/^a\.png \(seen: Dr\. Meier\),.*\r\nb\.png,.*\r\n$/m);
      });
    }

    it('begins a new file when its own is emptied, and keeps what an editor then writes', async () => {
      const sink = await open();
      await sink.write([film('a.png')]);
      const rows = await text();
      const editor = await openFile(path, 'w');
      await sink.write([film('b.png')]);
      await editor.writeFile(rows);
      await editor.close();
      await sink.dispose?.();
      expect(await names()).to.deep.equal(['b.png']);
      expect(await kept()).to.equal(rows);
    });
  });

  describe('with a state folder that was restored from a backup', () => {
    for (const columns of [undefined, ['file']]) {
      it(`keeps the rows that were confirmed since (${columns === undefined ? 'with' : 'without'} ids)`, async () => {
        const settings = columns === undefined ? {} : { columns };
        const state = join(folder, '.rxray');
        const write = async (...films: string[]): Promise<void> => {
          const sink = await open(settings);
          for (const name of films) await sink.write([film(name)]);
          await sink.dispose?.();
        };
        await write('a.png');
        await cp(state, join(folder, 'backup'), { recursive: true });
        await write('b.png', 'c.png');
        await appendFile(path, 'torn');
        await rm(state, { recursive: true });
        await rename(join(folder, 'backup'), state);
        await write('b.png', 'd.png');
        expect(await names()).to.deep.equal(['a.png', 'b.png', 'c.png', 'd.png']);
        expect(await torn()).to.deep.equal(['torn']);
      });
    }
  });

  it('goes on with the file that was begun after the backup of a state folder that is put back', async () => {
    const state = join(folder, '.rxray');
    const first = await open();
    for (const name of ['a.png', 'b.png', 'c.png']) await first.write([film(name)]);
    await cp(state, join(folder, 'backup'), { recursive: true });
    await writeFile(path, (await text()).replace('a.png', 'a'));
    await first.write([film('d.png')]);
    await first.dispose?.();
    await rm(state, { recursive: true });
    await rename(join(folder, 'backup'), state);
    const second = await open();
    await second.write([film('a.png'), film('d.png'), film('e.png')]);
    await second.dispose?.();
    expect(await names()).to.deep.equal(['d.png', 'e.png']);
  });

  it('goes on in a new file when the output folder was restored from a backup, and says that rows are missing', async () => {
    const first = await open();
    await first.write([film('a.png')]);
    await cp(join(folder, 'out'), join(folder, 'backup'), { recursive: true });
    await first.write([film('b.png')]);
    await first.dispose?.();
    await rm(join(folder, 'out'), { recursive: true });
    await rename(join(folder, 'backup'), join(folder, 'out'));
    const services = testServices({ baseDir: folder, stateDir: join(folder, '.rxray') });
    cleanups.push(() => services.cleanup());
    const second = await csv.create(csv.options.parse({ path: 'out/results.csv' }), services);
    await second.write([film('c.png')]);
    await second.dispose?.();
    expect(services.logged.join()).to.contain('so rows are missing').and.contain('--again');
    expect([await names(), (await kept()).includes('a.png')]).to.deep.equal([['c.png'], true]);
  });

  describe('rotates', () => {
    const old = async (): Promise<string[]> =>
      (await readdir(join(folder, 'out'))).filter((name) => !/^(\.|results\.csv)/.test(name)).sort();
    afterEach(() => {
      sinon.restore();
    });

    it('before the file would grow beyond its size, never inside a group, each file with a header', async () => {
      const settings = { columns: ['file'], rotate: { bytes: 30 } };
      const sink = await open(settings);
      for (const group of [['1.png', '2.png'], ['3.png'], ['4.png', '5.png']]) {
        await sink.write(group.map((name) => film(name)));
      }
      await sink.dispose?.();
      const [first, ...others] = await old();
      expect(others).to.be.empty;
      expect(first).to.match(/^results\.\d{4}-\d\d-\d\dT[-\d]+Z\.csv$/);
      expect(await readFile(join(folder, 'out', first!), 'utf8')).to.equal(
        'file\r\n1.png\r\n2.png\r\n3.png\r\n',
      );
      expect(await text()).to.equal('file\r\n4.png\r\n5.png\r\n');
    });

    it('with the first row of a day, over a restart, and not when the clock is set back', async () => {
      const settings = { columns: ['file'], rotate: { every: 'day' } };
      const clock = sinon.useFakeTimers({ now: new Date('2026-01-01T23:59:00Z'), toFake: ['Date'] });
      const sink = await open(settings);
      await sink.write([film('1.png')]);
      clock.setSystemTime(new Date('2025-12-31T12:00:00Z'));
      await sink.write([film('2.png')]);
      await sink.dispose?.();
      clock.setSystemTime(new Date('2026-01-02T00:00:00Z'));
      const restarted = await open(settings);
      await restarted.write([film('3.png')]);
      await restarted.dispose?.();
      expect(await old()).to.deep.equal(['results.2025-12-31.csv']);
      expect(await text()).to.equal('file\r\n3.png\r\n');
    });

    for (const columns of [['file', 'id'], ['file']]) {
      it(`and recognises the films of the previous file (columns ${columns.join()})`, async () => {
        const settings = { columns, rotate: { bytes: 12 } };
        const sink = await open(settings);
        await sink.write([film('1.png')]);
        await sink.write([film('2.png')]);
        await sink.write([film('1.png')]);
        await sink.dispose?.();
        const restarted = await open(settings);
        await restarted.write([film('1.png'), film('2.png')]);
        await restarted.dispose?.();
        expect(await names()).to.deep.equal(['2.png']);
        expect(await old()).to.have.lengthOf(1);
      });
    }

    it('and loses and repeats nothing when it is interrupted at any step', async () => {
      const settings = { columns: ['file'], rotate: { bytes: 12 } };
      for (let crash = 1; ; crash++) {
        const sink = await open(settings);
        await sink.write([film('1.png')]);
        let step = 0;
        // The copy is what a crash at this step would leave.
        const snapshot = join(folder, 'snapshot');
        const copying = (): void => {
          step += 1;
          if (step !== crash) return;
          cpSync(join(folder, 'out'), join(snapshot, 'out'), { recursive: true });
          cpSync(join(folder, '.rxray'), join(snapshot, '.rxray'), { recursive: true });
        };
        subscribe('rxray:durable', copying);
        await sink.write([film('2.png')]);
        unsubscribe('rxray:durable', copying);
        await sink.dispose?.();
        if (step < crash) break;
        await rm(join(folder, 'out'), { recursive: true });
        await rm(join(folder, '.rxray'), { recursive: true });
        await rename(join(snapshot, 'out'), join(folder, 'out'));
        await rename(join(snapshot, '.rxray'), join(folder, '.rxray'));
        await rm(join(folder, 'out', '.results.csv.lock'), { force: true });
        const restarted = await open(settings);
        await restarted.write([film('1.png'), film('2.png')]);
        await restarted.dispose?.();
        const rows = await Promise.all(
          ['results.csv', ...(await old())].map((name) => readFile(join(folder, 'out', name), 'utf8')),
        );
        const films = rows.flatMap((each) => each.split('\r\n').slice(1, -1)).sort();
        expect(films, `after step ${crash}`).to.deep.equal(['1.png', '2.png']);
        await rm(join(folder, 'out'), { recursive: true });
        await rm(join(folder, '.rxray'), { recursive: true });
      }
    });
  });

  it('is read by any CSV reader as it was written, for all names and values', async () => {
    // fast-check's own `binary` takes half a minute to set up
    const character = fc
      .oneof(fc.integer({ min: 0, max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }), fc.nat(0x7f))
      .map((code) => String.fromCodePoint(code));
    const value = fc.oneof(fc.string({ unit: 'grapheme' }), fc.double(), fc.boolean(), fc.constant(null));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.string({ unit: character }), value), { minLength: 1, maxLength: 20 }),
        fc.constantFrom(',', ';', '\t', '|', ' '),
        async (rows, delimiter) => {
          await rm(join(folder, 'out'), { recursive: true, force: true });
          const sink = await open({ columns: ['id', 'file', 'meta.value'], delimiter });
          const frames = rows.map(([name, value], i) => film(name, { id: `frame${i}`, meta: { value } }));
          await sink.write(frames);
          await sink.dispose?.();
          const read = parse(await readFile(path), { delimiter, record_delimiter: '\r\n' });
          expect(read.slice(1)).to.deep.equal(
            rows.map(([name, value], i) => [
              `frame${i}`,
              unformula(name),
              typeof value === 'string' ? unformula(value) : value === null ? '' : String(value),
            ]),
          );
        },
      ),
      { numRuns: 40 },
    );
  });
});

const unformula = (text: string): string =>
  /^[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]/.test(text) ? `'${text}` : text;

const url = (path: string): string => JSON.stringify(import.meta.resolve(path));
