import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import sharp from 'sharp';
import type { Frame } from '../../../src/core/frame.js';
import { WorkerPool } from '../../../src/core/workers/pool.js';
import type { StageSpec } from '../../../src/core/workers/protocol.js';
import { clahe, resize } from '../../../src/imaging/kernels.js';
import { phantomFilm } from '../../../src/imaging/phantom.js';
import { makeFrame } from '../../../src/testing.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Counts its calls; fails, or ends its thread, at the films that it is told to. */
const COUNT = `
import { appendFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'count', summary: 'Counts its calls.',
  options: z.strictObject({
    id: z.string(), refuses: z.string(), endsAt: z.string(), hangsAt: z.string(), waitMs: z.number(), log: z.string(), changes: z.boolean(),
  }),
  create({ id, refuses, endsAt, hangsAt, waitMs = 5, log, changes }) {
    let calls = 0;
    return {
      async process(frame) {
        calls += 1;
        if (log !== undefined && frame.origin.name !== 'early') appendFileSync(log, frame.origin.name + ' ');
        if (waitMs > 0) await setTimeout(waitMs);
        if (frame.origin.name === refuses) throw new Error(id + ' does not like it');
        if (frame.origin.name === endsAt) process.exit(1);
        if (frame.origin.name === hangsAt) for (;;) await new Promise(() => {});
        const image = changes ? { ...frame.image, data: frame.image.data.map((value) => value + 1) } : frame.image;
        return { ...frame, image, results: { ...frame.results, [id]: { kind: 'count', calls } } };
      },
    };
  },
});`;

describe('stages behind each other in worker threads', () => {
  let dir: string;
  let pool: WorkerPool;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-chain-'));
    await writeFile(join(dir, 'count.ts'), COUNT);
    pool = new WorkerPool(silent, 1);
  });
  after(async () => {
    await pool.dispose();
    await rm(dir, { recursive: true });
  });

  /** a → b → c. */
  function chain(key: string, settings: Readonly<Record<string, object>> = {}): readonly StageSpec[] {
    const url = pathToFileURL(join(dir, 'count.ts')).href;
    return ['c', 'b', 'a'].reduce<readonly StageSpec[]>(
      (behind, id) => [
        {
          ...{ key: key + id, id, url, settings: { id, ...settings[id] }, baseDir: dir, stateDir: dir },
          next: behind[0],
        },
        ...behind,
      ],
      [],
    );
  }
  const frame = makeFrame({ image: null });
  const { name } = frame.origin;

  it('are done in one go, and each is asked for its own part', async () => {
    const [a, b, c] = chain('go') as [StageSpec, StageSpec, StageSpec];
    const first = await pool.process(a, frame);
    expect(Object.keys(first.results)).to.deep.equal(['a']);
    const answered = performance.now();
    const third = await pool.process(c, await pool.process(b, first));
    expect(third.results).to.deep.equal({
      a: { kind: 'count', calls: 1 },
      b: { kind: 'count', calls: 1 },
      c: { kind: 'count', calls: 1 },
    });
    const [worked, later] = [pool.workOf(first), pool.workOf(third)];
    expect(worked?.ms).to.be.greaterThan(4);
    expect(later?.started, 'before anybody asked').to.be.lessThan(answered);
    expect(later?.started).to.be.at.least((worked?.started ?? Infinity) + (worked?.ms ?? Infinity));
  });

  it('hand over the pixels of the last one alone, and of one before it when that fails', async () => {
    const given = makeFrame({ width: 4, height: 3 });
    const specs = chain('pixels', { a: { changes: true }, b: { changes: true } });
    const [one, two, three] = specs as [StageSpec, StageSpec, StageSpec];
    const first = await pool.process(one, given);
    expect(first.image, 'they stayed in the thread').to.equal(undefined);
    expect(pool.workOf(first)?.bytes).to.equal(12);
    const last = await pool.process(three, await pool.process(two, first));
    expect(last.image?.data).to.deep.equal(given.image?.data.map((value) => value + 2));

    // Somebody begins to look at the second stage, which the thread has done already.
    const again = await pool.process(one, given);
    const watched = await pool.process({ ...two, next: undefined }, again);
    expect((await pool.process(three, watched)).image?.data).to.deep.equal(last.image?.data);
    expect([pool.workOf(again)?.aheadBytes, pool.workOf(last)?.aheadBytes]).to.deep.equal([12, 0]);

    const [a, b] = chain('kept', { a: { changes: true }, b: { refuses: given.origin.name } }) as [
      StageSpec,
      StageSpec,
    ];
    const before = await pool.process(a, given);
    expect(before.image?.data).to.deep.equal(given.image?.data.map((value) => value + 1));
    expect(await pool.process(b, before).catch((error: unknown) => error)).to.be.instanceOf(Error);

    const [same, , end] = chain('same') as [StageSpec, StageSpec, StageSpec];
    expect((await pool.process(same, given)).image, 'what it was given').to.equal(given.image);
    expect((await pool.process(end, given)).image).to.equal(given.image);
  });

  it('give each film its own pixels where they use the memory of images again', async () => {
    const settings = {
      decode: { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 },
      clahe: { clipLimit: 2, tileGridSize: 8 },
      resize: { width: 300, height: 250, fit: 'stretch', interpolation: 'area' },
    };
    const specs = Object.entries(settings).reduceRight<readonly StageSpec[]>((behind, [id, own]) => {
      const url = new URL(`../../../src/plugins/${id}.ts`, import.meta.url).href;
      const spec = { key: `memory:${id}`, id, url, settings: own, baseDir: dir, stateDir: dir };
      return [{ ...spec, retainsNothing: true, next: behind[0] }, ...behind];
    }, []);
    const films = await Promise.all(
      [320, 400, 310, 400, 333, 320].map(async (size, i) => {
        const { image } = phantomFilm({ seed: i, size, opacities: i % 2 });
        const encoded = await sharp(image.data, { raw: image }).toColourspace('b-w').png().toBuffer();
        return { image, frame: { ...frame, id: String(i), encoded: new Uint8Array(encoded) } };
      }),
    );
    const made = await Promise.all(
      films.map(async (film) => {
        let out: Frame = film.frame;
        for (const spec of specs) out = await pool.process(spec, out);
        return out.image;
      }),
    );
    const alone = await pool.process(
      { ...(specs[0] as StageSpec), next: undefined },
      films[0]?.frame as Frame,
    );
    expect(alone.image?.data).to.deep.equal(films[0]?.image.data);
    for (const [i, { image }] of films.entries()) {
      const expected = resize(clahe(image, 2, 8), 300, 250, 'area');
      expect(made[i]?.data, `film ${i}`).to.deep.equal(expected.data);
    }
  });

  it('do it again for whoever asks twice', async () => {
    const [a, b] = chain('again') as [StageSpec, StageSpec];
    const first = await pool.process(a, frame);
    await pool.process(b, first);
    expect((await pool.process(b, first)).results['b']).to.deep.equal({ kind: 'count', calls: 2 });
  });

  it('fail where the failing one is asked, which then may try again', async () => {
    const [a, b] = chain('fail', { b: { refuses: name } }) as [StageSpec, StageSpec];
    const first = await pool.process(a, frame);
    for (const attempt of [1, 2]) {
      const failed = await pool.process(b, first).catch((error: unknown) => error);
      expect(failed, String(attempt)).to.be.instanceOf(Error).with.property('message', 'b does not like it');
    }
  });

  it('show which of them ended the thread', async () => {
    const [a, b, c] = chain('end', { c: { endsAt: name } }) as [StageSpec, StageSpec, StageSpec];
    const second = await pool.process(b, await pool.process(a, frame));
    expect(Object.keys(second.results)).to.deep.equal(['a', 'b']);
    expect(await pool.process(c, second).catch((error: unknown) => error)).to.be.instanceOf(Error);
  });

  it('fail the film on which one of them takes too long, and go on in another thread', async () => {
    const [a, b, c] = chain('hang', { b: { hangsAt: 'slow' } }).map((spec) => ({
      ...spec,
      // The others may take long on a busy machine.
      timeoutMs: spec.id === 'b' ? 300 : 30_000,
    })) as [StageSpec, StageSpec, StageSpec];
    const stages = { ...a, next: { ...b, next: c } };
    const slow = { ...frame, id: 'slow', origin: { ...frame.origin, name: 'slow' } };
    const others = [1, 2, 3].map((id) => pool.process(a, { ...frame, id: String(id) }));
    const first = await pool.process(stages, slow);
    const failed = await pool.process(b, first).catch((error: unknown) => error);
    expect(failed).to.include({ code: 'FRAME_STAGE', component: 'b' });
    expect(String(failed)).to.contain('took longer than 300 ms');
    await Promise.all(others);
    expect(Object.keys((await pool.process(c, frame)).results)).to.deep.equal(['c']);
  });

  it('give their thread back when they are disposed of at work', async () => {
    const [, , stage] = chain('left', { c: { hangsAt: 'hanging' } }) as [never, never, StageSpec];
    await pool.process(stage, frame);
    const left = pool.process(stage, { ...frame, origin: { ...frame.origin, name: 'hanging' } });
    const rejected = left.catch((error: unknown) => error);
    const [, , next] = chain('next') as [never, never, StageSpec];
    const waiting = pool.process(next, frame);
    await pool.disposeStage(stage.key);
    expect(await rejected).to.be.instanceOf(Error);
    expect(Object.keys((await waiting).results)).to.deep.equal(['c']);
  });

  it('travel together when they are quick, and a film that ends the thread costs no other', async () => {
    const log = join(dir, 'quick.log');
    const [, , stage] = chain('quick', { c: { endsAt: 'guilty', waitMs: 0, log } }) as [
      never,
      never,
      StageSpec,
    ];
    const process = (film: string): Promise<Frame> =>
      pool.process(stage, { ...frame, id: film, origin: { ...frame.origin, name: film } });
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
