import { appendFile, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Worklist, WORKLIST_ROWS } from '../../src/control/worklist.js';
import type { StageResult } from '../../src/core/frame.js';
import { Monitor } from '../../src/core/monitor/monitor.js';
import type { Settled } from '../../src/core/flow/settled.js';
import { frame } from '../core/graph/support.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

describe('Worklist', () => {
  let dir: string;
  let monitor: Monitor;
  let worklist: Worklist;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-worklist-'));
    monitor = new Monitor();
    worklist = new Worklist(dir, monitor, silent);
  });
  afterEach(async () => {
    await worklist.close();
    await rm(dir, { recursive: true, force: true });
  });

  function settle(
    id: string,
    results: Record<string, StageResult> = {},
    meta = {},
    name = `${id}.png`,
  ): void {
    const it = { ...frame(id), results, meta };
    const film: Settled = {
      id,
      name,
      origin: { ...it.origin, name },
      outcome: 'done',
      frame: it,
      graph: 'g',
      spans: [],
    };
    monitor.settle(film);
  }

  const find = async (query: object = {}, list = worklist): Promise<string[]> =>
    (await list.find({ sort: 'newest', offset: 0, limit: 100, ...query })).films.map(({ id }) => id);

  it('leaves out lines that are incomplete or not rows', async () => {
    settle('a');
    await worklist.close();
    await appendFile(join(dir, 'worklist.jsonl'), 'null\n7\n{}\n\0\0\n{"id":"torn","fi');
    worklist = new Worklist(dir, monitor, silent);
    settle('b');
    expect(await find({ label: 'viral' })).to.deep.equal([]);
    expect(await find()).to.deep.equal(['b', 'a']);
  });

  it('sets a full file aside once, also when more rows come meanwhile', async () => {
    const warnings: string[] = [];
    await worklist.close();
    worklist = new Worklist(dir, monitor, { ...silent, warn: (_, message) => warnings.push(message) });
    for (const id of ['a', 'b', 'c']) settle(id, { large: { kind: 'test', text: 'x'.repeat(9e6) } });
    await worklist.close();
    expect(warnings).to.deep.equal([]);
    worklist = new Worklist(dir, monitor, silent);
    expect(await find()).to.deep.equal(['c', 'b', 'a']);
  });

  it('finds the films of a film’s patient: by the header, else by the folder', async () => {
    const study = { dicom: { StudyInstanceUID: '2.25.1' } };
    settle('a', {}, study, 'ward/x/a.dcm');
    settle('b', {}, study, 'ward/y/b.dcm');
    settle('c', {}, { dicom: { StudyInstanceUID: '2.25.2', PatientID: 'p' } }, 'ward/x/c.dcm');
    settle('d', {}, { dicom: { StudyInstanceUID: '2.25.3', PatientID: 'p' } }, 'ward/z/d.dcm');
    settle('e', {}, {}, 'ward/x/e.png');
    settle('f', {}, {}, 'ward/x/f.png');
    settle('g', {}, {}, 'g.png');
    expect(await find({ patient: 'a' })).to.deep.equal(['b', 'a']);
    expect(await find({ patient: 'c' })).to.deep.equal(['d', 'c']);
    expect(await find({ patient: 'e' })).to.deep.equal(['f', 'e']);
    // A film in no folder belongs to nobody that is known, and so does a film that there is none of.
    expect(await find({ patient: 'g' })).to.deep.equal([]);
    expect(await find({ patient: 'h' })).to.deep.equal([]);
  });

  it('has the newest first, or the most suspicious', async () => {
    settle('a', { m: { kind: 'any', abnormal: false, suspicion: 0.4 } });
    settle('b', { m: { kind: 'any', abnormal: true, suspicion: 0.9 } });
    settle('c');
    expect(await find()).to.deep.equal(['c', 'b', 'a']);
    expect(await find({ sort: 'suspicious' })).to.deep.equal(['b', 'a', 'c']);
    expect(await find({ suspicious: true })).to.deep.equal(['b']);
    settle('a');
    expect(await find()).to.deep.equal(['a', 'c', 'b']);
  });

  it('finds by label, and by name or id', async () => {
    settle('abc', { m: { kind: 'classification', label: 'viral' } });
    settle('xyz', { m: { kind: 'classification', label: 'normal' } });
    expect(await find({ label: 'viral' })).to.deep.equal(['abc']);
    expect(await find({ text: 'YZ.P' })).to.deep.equal(['xyz']);
    expect(await find({ text: 'ab' })).to.deep.equal(['abc']);
  });

  it('keeps no pixels, but lists the images of results', async () => {
    const residual = { width: 1, height: 1, channels: 1, data: new Uint8Array(1) };
    settle('a', { m: { kind: 'anomaly', anomalyScore: 1, residual } });
    const film = await worklist.get('a');
    expect(film!.results).to.deep.equal({ m: { kind: 'anomaly', anomalyScore: 1 } });
    expect(film!.images).to.deep.equal([{ stage: 'm', field: 'residual' }]);
  });

  it('is complete after a restart, except for an incomplete last line', async () => {
    settle('a');
    settle('b');
    await worklist.close();
    await writeFile(join(dir, 'worklist.jsonl'), '{"id":"torn', { flag: 'a' });
    const next = new Worklist(dir, new Monitor(), silent);
    expect(await find({}, next)).to.deep.equal(['b', 'a']);
    await next.close();
  });

  it('shows a film that settles while the list is being read', async () => {
    settle('a');
    const asked = find();
    settle('b');
    await asked;
    expect(await find()).to.deep.equal(['b', 'a']);
  });

  it('keeps the last ten thousand in files of bounded size', async function () {
    this.timeout(120_000);
    const meta = { remark: 'x'.repeat(3000) };
    for (let i = 0; i < WORKLIST_ROWS + 500; i++) {
      settle(`film-${i}`, {}, meta);
      if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const { total, films } = await worklist.find({ sort: 'newest', offset: 0, limit: 1 });
    expect([total <= WORKLIST_ROWS, films[0]!.id]).to.deep.equal([true, `film-${WORKLIST_ROWS + 499}`]);
    await worklist.close();
    const sizes = await Promise.all(
      (await readdir(dir)).map(async (name) => (await stat(join(dir, name))).size),
    );
    expect(sizes.length).to.be.within(1, 2);
    expect(Math.max(...sizes)).to.be.lessThan(24 * 1024 ** 2);
  });
});
