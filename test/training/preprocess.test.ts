import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import { imageOf, type Frame, type Image } from '../../src/core/frame.js';
import { WorkerPool } from '../../src/core/workers/pool.js';
import { Segment } from '../../src/core/workers/segment.js';
import type { HostTensor } from '../../src/engine/index.js';
import { resize, clahe } from '../../src/imaging/kernels.js';
import type { PreprocessingStep } from '../../src/models/bundle.js';
import { inputTensor } from '../../src/models/input-tensor.js';
import { makeFrame, testServices } from '../../src/testing.js';
import type { Film } from '../../src/training/film.js';
import {
  filmAt,
  imagesOf,
  prepareFilms,
  resolveChain,
  unscaledInput,
  type Preparation,
  type PreparedFilms,
} from '../../src/training/preprocess.js';

describe('preprocessing for training', function () {
  this.timeout(60_000);
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-preprocess-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  const pixels = (seed: number, length: number): Uint8Array =>
    Uint8Array.from({ length }, (_, i) => 40 + ((i * 37 + seed * 101) % 90) + (i % 40));

  async function film(name: string, width: number, height: number, seed = 1): Promise<Film> {
    const path = join(dir, name);
    const encoded = await sharp(pixels(seed, width * height), { raw: { width, height, channels: 1 } })
      .toColourspace('b-w')
      .png()
      .toBuffer();
    await writeFile(path, encoded);
    const sha256 = createHash('sha256').update(encoded).digest('hex');
    return { path, name, class: 'normal', split: 'train', patient: name, sha256 };
  }

  const chain = (...steps: (string | [string, Record<string, unknown>])[]): PreprocessingStep[] =>
    steps.map((step) =>
      typeof step === 'string' ? { use: step, with: {} } : { use: step[0], with: step[1] },
    );

  async function prepare(
    films: Film[],
    steps: PreprocessingStep[],
    onProgress?: (done: number, total: number) => void,
    rxray = '0.1.0',
  ): Promise<PreparedFilms> {
    return (await prepareAll(films, steps, onProgress, rxray)).prepared;
  }

  async function prepareAll(
    films: Film[],
    steps: PreprocessingStep[],
    onProgress?: (done: number, total: number) => void,
    rxray = '0.1.0',
  ): Promise<Preparation<Film>> {
    const resolved = await resolveChain(steps, builtInRegistry(), dir);
    const { log } = testServices();
    return prepareFilms(films, resolved, {
      cacheDir: join(dir, 'cache'),
      baseDir: dir,
      log,
      rxray,
      threads: 1,
      ...(onProgress && { onProgress }),
    });
  }

  async function refused(promise: Promise<unknown>): Promise<string> {
    const error = await promise.then(
      () => expect.fail('it was accepted'),
      (e: unknown) => e,
    );
    expect(error).to.include({ code: 'TRAINING_DATA' });
    return (error as Error).message;
  }

  it('gives what the stages give, in the order of the films', async () => {
    const films = [await film('a.png', 60, 50, 1), await film('b.png', 40, 70, 2)];
    const steps = chain('decode', ['clahe', { clipLimit: 3 }], ['resize', { width: 16, height: 12 }]);
    const prepared = await prepare(films, steps);
    expect(prepared).to.include({ width: 16, height: 12, channels: 1 });
    const expected = (width: number, height: number, seed: number) => {
      const image = { width, height, channels: 1 as const, data: pixels(seed, width * height) };
      return resize(clahe(image, 3, 8), 16, 12, 'area').data;
    };
    expect(filmAt(prepared, 0)).to.deep.equal(expected(60, 50, 1));
    expect(filmAt(prepared, 1)).to.deep.equal(expected(40, 70, 2));
    const { data, dims } = imagesOf(prepared, Uint32Array.of(1), unscaledInput(prepared));
    expect(dims).to.deep.equal([1, 12, 16, 1]);
    expect(data[5]).to.be.closeTo((filmAt(prepared, 1)[5] ?? NaN) / 255, 1e-7);
  });

  it('explains what is wrong with a step', async () => {
    const steps = chain('decode', ['resize', { width: 40_000, height: 8 }]);
    const said = await refused(resolveChain(steps, builtInRegistry(), dir));
    expect(said).to.contain('step 2 "resize"').and.contain('Too big').and.not.contain('"code"');
  });

  it('refuses a bundle that is not there, a mask that is not made, and a model', async () => {
    const nowhere = chain('decode', ['unet', { bundle: './nowhere' }]);
    expect(await refused(resolveChain(nowhere, builtInRegistry(), dir)))
      .to.contain(`step 2 "unet": no model bundle at ${join(dir, 'nowhere')}`)
      .and.match(/: correct `bundle`$/);
    const maskless = chain('decode', ['crop', { to: 'lungs' }]);
    expect(await refused(resolveChain(maskless, builtInRegistry(), dir)))
      .to.contain('step 2 "crop"')
      .and.match(/: correct `to`$/);
    const model = chain('decode', ['resnet', { bundle: './nowhere' }]);
    expect(await refused(resolveChain(model, builtInRegistry(), dir))).to.equal(
      'preprocessing step 2 "resnet": a model cannot be a step before another one: remove it',
    );
  });

  it('makes the same tensor of a 16-bit film as the model stages, also beside 8-bit ones', async () => {
    const deep = Uint16Array.from({ length: 60 * 50 }, (_, i) => (i * 7919) % 65536);
    const raw = { width: 60, height: 50, channels: 1 } as const;
    const encoded = await sharp(deep, { raw }).toColourspace('grey16').png().toBuffer();
    await writeFile(join(dir, 'deep.png'), encoded);
    const sha256 = createHash('sha256').update(encoded).digest('hex');
    const shallow = await film('a.png', 60, 50);
    const films = [shallow, { ...shallow, path: join(dir, 'deep.png'), name: 'deep.png', sha256 }, shallow];
    const steps = chain('decode', 'clahe', ['resize', { width: 16, height: 12 }]);
    const { log } = testServices();
    const pool = new WorkerPool(log, 1);
    const served: Image[] = [];
    const resolved = await resolveChain(steps, builtInRegistry(), dir);
    const stages = new Segment(
      resolved.map(({ use, with: settings, url }, i) => ({
        ...{ key: String(i), id: use, url, settings, baseDir: dir, stateDir: dir },
      })),
    );
    for (const { path, name } of films) {
      const candidate = { path, name, ...(await stat(path)) };
      const file = await pool.read(candidate, Infinity);
      const frame: Frame = { ...makeFrame({ image: null }), encoded: file?.encoded ?? expect.fail() };
      served.push(imageOf(await pool.make(stages, frame)));
    }
    await pool.dispose();
    const prepared = await prepare(films, steps);
    expect(prepared.data).to.be.instanceOf(Uint16Array);
    for (const input of [unscaledInput(prepared), { ...unscaledInput(prepared), mean: [0.5], std: [0.5] }]) {
      const bits = ({ data }: HostTensor) => new Uint32Array((data as Float32Array).buffer);
      expect(bits(imagesOf(prepared, Uint32Array.of(0, 1, 2), input))).to.deep.equal(
        bits(inputTensor(served, input)),
      );
    }
    expect(await prepare(films, steps), 'from the cache').to.deep.equal(prepared);
  });

  it('caches the result for the same files and chain, and makes a new one for another chain', async () => {
    const films = [await film('a.png', 30, 30)];
    const small = chain('decode', ['resize', { width: 8, height: 8 }]);
    const first = await prepare(films, small);
    await rm(join(dir, 'a.png'));
    expect(await prepare(films, small)).to.deep.equal(first);
    const other = chain('decode', ['resize', { width: 8, height: 9 }]);
    expect(await refused(prepare(films, other))).to.include('a.png');
  });

  it('prepares again when its cache file is damaged', async () => {
    const films = [await film('a.png', 30, 30)];
    const steps = chain('decode', ['resize', { width: 8, height: 8 }]);
    const first = await prepare(films, steps);
    const [file] = await readdir(join(dir, 'cache'));
    await writeFile(join(dir, 'cache', file ?? ''), 'broken');
    expect(await prepare(films, steps)).to.deep.equal(first);
  });

  it('reports every film once', async () => {
    const films = [await film('a.png', 9, 9), await film('b.png', 9, 9, 2), await film('c.png', 9, 9, 3)];
    const reports: string[] = [];
    await prepare(films, chain('decode'), (done, total) => reports.push(`${done}/${total}`));
    expect(reports).to.deep.equal(['1/3', '2/3', '3/3']);
  });

  it('fills in the defaults, which is what the bundle records', async () => {
    const [step] = await resolveChain(chain('resize', ['clahe', {}]).slice(1), builtInRegistry(), dir);
    expect(step).to.deep.include({ use: 'clahe', with: { clipLimit: 2, tileGridSize: 8 } });
  });

  it('takes a stage of the user’s own', async () => {
    await mkdir(join(dir, 'stages'));
    await writeFile(
      join(dir, 'stages', 'invert.mjs'),
      `import { defineStage } from 'rxray';
       import { z } from 'zod';
       export default defineStage({
         name: 'invert', summary: 'Inverts.', options: z.strictObject({}),
         create: () => ({ process: (frame) => ({ ...frame, image: { ...frame.image, data: frame.image.data.map((v) => 255 - v) } }) }),
       });`,
    );
    const films = [await film('a.png', 9, 9)];
    const { data } = await prepare(films, chain('decode', './stages/invert.mjs'));
    expect(data).to.deep.equal(pixels(1, 81).map((value) => 255 - value));
  });

  it('prepares again when a stage of the user, or rxray, has changed', async () => {
    const stage = (offset: number) =>
      writeFile(
        join(dir, 'lighter.mjs'),
        `import { defineStage } from 'rxray';
         import { z } from 'zod';
         export default defineStage({
           name: 'lighter', summary: 'Lightens.', options: z.strictObject({}),
           create: () => ({ process: (frame) => ({ ...frame, image: { ...frame.image, data: frame.image.data.map((v) => v + ${offset}) } }) }),
         });`,
      );
    const films = [await film('a.png', 9, 9)];
    const steps = chain('decode', './lighter.mjs');
    await stage(1);
    expect((await prepare(films, steps)).data[0]).to.equal((pixels(1, 1)[0] ?? 0) + 1);
    await stage(2);
    expect((await prepare(films, steps)).data[0]).to.equal((pixels(1, 1)[0] ?? 0) + 2);
    await prepare(films, steps, undefined, '0.2.0');
    expect(await readdir(join(dir, 'cache'))).to.have.length(3);
  });

  async function damaged(name: string): Promise<Film> {
    await writeFile(join(dir, name), 'no image at all');
    const sha256 = createHash('sha256').update('no image at all').digest('hex');
    return { path: join(dir, name), name, class: 'normal', split: 'train', patient: name, sha256 };
  }

  it('leaves out a damaged film, by name, and continues with the others', async () => {
    const [a, b] = [await film('a.png', 9, 9), await film('b.png', 9, 9, 2)];
    const films = [a, await damaged('bad.png'), b, { ...a, path: join(dir, 'gone.png'), name: 'gone.png' }];
    const found = await prepareAll(films, chain('decode'));
    expect(found.films).to.deep.equal([a, b]);
    expect(found.prepared).to.deep.equal(await prepare([a, b], chain('decode')));
    const [bad, gone] = found.unreadable;
    expect(bad?.film.name).to.equal('bad.png');
    expect(bad?.reason).to.be.a('string').not.include('bad.png');
    expect(gone?.reason).to.include('ENOENT');
    // Mended: the next time it is there.
    await film('gone.png', 9, 9);
    expect((await prepareAll(films, chain('decode'))).films.map(({ name }) => name)).to.include('gone.png');
  });

  describe('refuses, with a reason', () => {
    it('films that come out in different sizes', async () => {
      const films = [await film('a.png', 9, 9), await film('b.png', 12, 9)];
      const message = await refused(prepare(films, chain('decode')));
      expect(message).to.include('end the chain with a resize to one size');
      expect(message).to.match(/12×9×1|9×9×1/);
    });

    it('films that all fail, by name', async () => {
      const message = await refused(prepare([await damaged('bad.png')], chain('decode')));
      expect(message).to.match(/^preprocessing: every film failed: bad\.png: \w/);
    });

    it('a chain that ends in floating point', async () => {
      const message = await refused(prepare([await film('a.png', 9, 9)], chain('decode', 'normalize')));
      expect(message).to.include('leave `normalize` out');
    });

    it('an unknown stage and a wrong setting', async () => {
      expect(await refused(prepare([], chain('claeh')))).to.include('preprocessing step 1 "claeh"');
      expect(await refused(prepare([], chain(['clahe', { clipLimit: -1 }])))).to.include(
        'preprocessing step 1 "clahe"',
      );
    });
  });
});
