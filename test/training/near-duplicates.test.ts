import { expect } from 'chai';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import { phantomFilm } from '../../src/imaging/phantom.js';
import { readDataset, type Dataset, type DatasetOptions } from '../../src/training/dataset.js';
import { THUMBNAIL_CHAIN } from '../../src/training/near-duplicates.js';
import { prepareFilms, resolveChain } from '../../src/training/preprocess.js';
import { testServices } from '../../src/testing.js';

/** Phantoms of different "patients", and copies of the first that no file hash would know. */
describe('near copies', function () {
  this.timeout(60_000);
  let dir: string;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-copies-'));
    for (let seed = 1; seed <= 12; seed++) {
      await save(seed, `films/${seed % 2 === 0 ? 'ill' : 'normal'}/${seed}.png`, (film) => film);
    }
    await save(1, 'films/normal/smaller.jpg', (film) => film.resize(180, 180).jpeg({ quality: 80 }));
    await save(1, 'films/normal/brighter.png', (film) => film.linear(1.1, 8));
    await save(1, 'split/train/normal/small.jpg', (film) => film.resize(150, 150).jpeg());
    await save(3, 'split/train/normal/other.png', (film) => film);
    await save(1, 'split/val/normal/large.png', (film) => film);
    await save(4, 'torn/ill/a.png', (film) => film);
    await save(4, 'torn/normal/a.jpg', (film) => film.jpeg());
  });
  after(() => rm(dir, { recursive: true }));

  async function save(seed: number, name: string, change: (film: Sharp) => Sharp): Promise<void> {
    const { data } = phantomFilm({ seed, size: 224 }).image;
    const path = join(dir, name);
    await mkdir(join(path, '..'), { recursive: true });
    const film = sharp(data as Uint8Array, { raw: { width: 224, height: 224, channels: 1 } });
    await change(film).toColourspace('b-w').toFile(path);
  }

  const read = (folder: string, options: DatasetOptions = {}): Promise<Dataset> =>
    readDataset(join(dir, folder), {
      ...options,
      thumbnails: async (films) =>
        prepareFilms(films, await resolveChain(THUMBNAIL_CHAIN, builtInRegistry(), dir), {
          cacheDir: join(dir, 'cache'),
          baseDir: dir,
          log: testServices().log,
          rxray: '0.0.0',
          threads: 1,
        }),
    });

  it('are found and drawn into one split, and nothing else is', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { films, findings } = await read('films', { validation: 0.5, seed });
      expect(films).to.have.length(14);
      expect(findings[0]).to.match(/^3 pairs of near copies \(.*normal\/1\.png.*\): kept on one side$/);
      const copies = films.filter(({ name }) => /normal\/(1\.png|smaller|brighter)/.test(name));
      expect(new Set(copies.map(({ split }) => split))).to.have.property('size', 1);
    }
  });

  it('of films to be judged are left out of the training, where the split is given', async () => {
    const { films, findings } = await read('split');
    expect(films.map(({ name }) => name)).to.have.members(['train/normal/other.png', 'val/normal/large.png']);
    expect(findings[0]).to.include(
      '1 training films left out because they nearly equal films of another split',
    );
  });

  it('in two classes are pointed out', async () => {
    const { findings } = await read('torn', { validation: 0 });
    expect(findings[1]).to.include('1 pairs of near copies have two classes');
  });
});
