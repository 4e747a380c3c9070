import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import type { Frame } from '../../../src/core/frame.js';
import { WorkerPool } from '../../../src/core/workers/pool.js';
import { Segment } from '../../../src/core/workers/segment.js';
import { clahe, resize } from '../../../src/imaging/kernels.js';
import { phantomFilm } from '../../../src/imaging/phantom.js';
import { makeFrame } from '../../../src/testing.js';
import { counting } from '../support/counting.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

describe('a segment in a worker thread', () => {
  let dir: string;
  let pool: WorkerPool;
  let segment: Awaited<ReturnType<typeof counting>>;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-chain-'));
    segment = await counting(dir);
    pool = new WorkerPool(silent, 1);
  });
  after(async () => {
    await pool.dispose();
    await rm(dir, { recursive: true });
  });

  const frame = makeFrame({ image: null });
  const { name } = frame.origin;
  const named = (film: string): Frame => ({ ...frame, id: film, origin: { ...frame.origin, name: film } });
  const calls = (count: number): object => ({ kind: 'count', calls: count });

  it('is done in one task, with a report of each stage', async () => {
    const before = performance.now();
    const { frame: made, reports, started, stopped } = await pool.process(segment('abc'), frame);
    expect(made.results).to.deep.equal({ a: calls(1), b: calls(1), c: calls(1) });
    expect(stopped).to.equal(undefined);
    expect(reports).to.have.length(3);
    for (const { ms } of reports) expect(ms).to.be.greaterThan(4);
    const worked = reports.reduce((sum, { ms }) => sum + ms, 0);
    expect(started).to.be.within(before, performance.now() - worked);
  });

  it('returns the pixels of its last stage, or of the one where the task ends', async () => {
    const given = makeFrame({ width: 4, height: 3 });
    const plus = (steps: number): unknown => given.image?.data.map((value) => value + steps);
    const own = { a: { changes: true }, b: { changes: true } };
    const stages = segment('abc', own);
    const all = await pool.process(stages, given);
    expect(all.frame.image?.data).to.deep.equal(plus(2));
    expect(all.reports.map(({ bytes }) => bytes)).to.deep.equal([12, 12, 12]);

    const first = await pool.process(stages, given, 0, 1);
    expect(first.frame.image?.data).to.deep.equal(plus(1));
    const rest = await pool.process(stages, first.frame, 1);
    expect(rest.frame.image?.data).to.deep.equal(plus(2));
    expect(Object.keys(rest.frame.results)).to.deep.equal(['a', 'b', 'c']);
    expect((await pool.make(segment('ab'), given)).image, 'what it was given').to.equal(given.image);
  });

  it('gives each film its own pixels where it uses the memory of images again', async () => {
    const settings = {
      decode: { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 },
      clahe: { clipLimit: 2, tileGridSize: 8 },
      resize: { width: 300, height: 250, fit: 'stretch', interpolation: 'area' },
    };
    const stages = new Segment(
      Object.entries(settings).map(([id, own]) => {
        const url = import.meta.resolve(`../../../src/plugins/${id}.js`);
        const key = `memory:${id}`;
        return { key, id, url, settings: own, baseDir: dir, stateDir: dir, retainsNothing: true };
      }),
    );
    const films = await Promise.all(
      [320, 400, 310, 400, 333, 320].map(async (size, i) => {
        const { image } = phantomFilm({ seed: i, size, opacities: i % 2 });
        const encoded = await sharp(image.data, { raw: image }).toColourspace('b-w').png().toBuffer();
        return { image, frame: { ...frame, id: String(i), encoded: new Uint8Array(encoded) } };
      }),
    );
    const made = await Promise.all(films.map(async (film) => (await pool.make(stages, film.frame)).image));
    const decoded = await pool.process(stages, films[0]?.frame as Frame, 0, 1);
    expect(decoded.frame.image?.data).to.deep.equal(films[0]?.image.data);
    for (const [i, { image }] of films.entries()) {
      const expected = resize(clahe(image, 2, 8), 300, 250, 'area');
      expect(made[i]?.data, `film ${i}`).to.deep.equal(expected.data);
    }
  });

  it('has its time limit by a clock that nobody sets', async () => {
    const now = Date.now;
    try {
      Date.now = () => now() + 3_600_000;
      const worked = await pool.process(segment('a', { a: { waitMs: 600, timeoutMs: 600_000 } }), frame);
      expect(worked.stopped).to.equal(undefined);
    } finally {
      Date.now = now;
    }
  });

  it('stops at the stage that fails, with the frame as it was before it', async () => {
    const given = makeFrame({ width: 4, height: 3 });
    const stages = segment('abc', { a: { changes: true }, b: { refuses: given.origin.name } });
    const { frame: before, reports, stopped } = await pool.process(stages, given);
    expect(reports).to.have.length(1);
    expect(before.image?.data).to.deep.equal(given.image?.data.map((value) => value + 1));
    expect(stopped).to.have.property('kind', 'failed');
    expect(stopped).to.have.nested.property('error.message', 'b does not like it');
    expect(stopped).to.have.property('ms').that.is.greaterThan(4);
    const again = await pool.process(stages, before, 1);
    expect([again.frame, again.reports, again.stopped?.kind]).to.deep.equal([before, [], 'failed']);
    const thrown = await pool.make(stages, given).catch((error: unknown) => error);
    expect(thrown).to.be.instanceOf(Error).with.property('message', 'b does not like it');
    expect((await pool.process(stages, before, 2)).frame.results).to.have.property('c');
  });

  it('tests the conditions of its stages, and marks results of shadow stages', async () => {
    const stages = segment('abc', { a: { shadow: true }, b: { when: 'results.a.calls < 2' } });
    const first = await pool.process(stages, frame);
    expect(first.frame.results).to.deep.equal({ a: { ...calls(1), shadow: true }, b: calls(1), c: calls(1) });
    const { frame: second, reports, stopped } = await pool.process(stages, frame);
    expect(second.results).to.deep.equal({ a: { ...calls(2), shadow: true } });
    expect([reports.length, stopped]).to.deep.equal([1, { kind: 'excluded' }]);
    const undecided = await pool.process(segment('ab', { b: { when: 'results.z.calls < 2' } }), frame);
    expect(undecided.reports).to.have.length(1);
    expect(undecided.stopped?.kind).to.equal('undecided');
    expect(undecided.stopped).to.have.nested.property('error.code', 'FRAME_EXPRESSION');
  });

  it('shows which stage ended the thread', async () => {
    const stages = segment('abcd', { c: { endsAt: name } });
    const { frame: before, reports, stopped } = await pool.process(stages, frame);
    expect(Object.keys(before.results)).to.deep.equal(['a', 'b']);
    expect([reports.length, stopped?.kind]).to.deep.equal([2, 'failed']);
  });

  it('fails at the stage that takes too long, and goes on in another thread', async () => {
    // The others may take long on a busy machine.
    const stages = segment('abc', {
      a: { timeoutMs: 30_000 },
      b: { timeoutMs: 300, hangsAt: 'slow' },
      c: { timeoutMs: 30_000 },
    });
    const others = [1, 2, 3].map((id) => pool.make(stages, named(`film-${id}`)));
    const { frame: before, reports, stopped } = await pool.process(stages, named('slow'));
    expect(Object.keys(before.results)).to.deep.equal(['a']);
    expect(reports).to.have.length(1);
    expect(stopped).to.have.property('error').that.includes({ code: 'FRAME_STAGE', component: 'b' });
    expect(stopped).to.have.property('ms').that.is.at.least(300);
    for (const made of await Promise.all(others))
      expect(Object.keys(made.results)).to.deep.equal(['a', 'b', 'c']);
  });

  it('releases its thread when it is disposed of during work', async () => {
    const stages = segment('ac', { c: { hangsAt: 'hanging' } });
    await pool.make(stages, frame);
    const left = pool.process(stages, named('hanging'));
    const waiting = pool.make(segment('c'), frame);
    // Each stage, as a graph does.
    await Promise.all(stages.stages.map(({ key }) => pool.disposeStage(key)));
    expect((await left).stopped?.kind).to.equal('failed');
    expect(Object.keys((await waiting).results)).to.deep.equal(['c']);
  });

  it('shares messages when it is quick, and a film that ends the thread fails no other', async () => {
    const log = join(dir, 'quick.log');
    const stages = segment('c', { c: { endsAt: 'guilty', waitMs: 0, log } });
    const process = (film: string): Promise<Frame> => pool.make(stages, named(film));
    const films = Array.from({ length: 20 }, (_, i) => (i === 15 ? 'guilty' : `film-${i}`));
    let together = false;
    for (let round = 1; !together; round += 1) {
      expect(round, 'they never travelled together').to.be.lessThan(20);
      await rm(log, { force: true });
      // The pool comes to know that the stage is quick, unless the machine is busy just now.
      for (let i = 0; i < 100; i += 1) await process('early');
      const fates = await Promise.allSettled(films.map(process));
      expect(films.filter((_, i) => fates[i]?.status === 'rejected')).to.deep.equal(['guilty']);
      const worked = (await readFile(log, 'utf8')).split(' ').filter((name) => name.startsWith('film'));
      // Those that were in one message with the guilty one were worked on once more.
      together = worked.length > 19;
    }
  });
});
