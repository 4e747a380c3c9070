import { expect } from 'chai';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Anomaly } from '../../src/core/frame.js';
import type { BatchStage } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import { equalizeHist } from '../../src/imaging/equalize-hist.js';
import { resize } from '../../src/imaging/kernels.js';
import anogan from '../../src/plugins/anogan.js';
import { makeFrame, runGraph } from '../../src/testing.js';
import { SAMPLE_SIDE, sampleFilms } from '../../src/training/samples.js';
import { toyAnogan, withEngine } from '../support/bundles.js';

const HOME = fileURLToPath(new URL('../../', import.meta.url));
const MODELS = join(HOME, 'models');

describe('sample films', function () {
  this.timeout(60_000);
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-samples-'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  it('are made by any AnoGAN bundle, the same for the same seed, every third with opacities', async () => {
    await toyAnogan(join(dir, 'toy'));
    const films = await sampleFilms(engine, join(dir, 'toy'), 6, 1, { opacities: true });
    expect(films.map((film) => film.opacity)).to.deep.equal([false, false, true, false, false, true]);
    for (const { image } of films) {
      expect(image).to.include({ width: SAMPLE_SIDE, height: SAMPLE_SIDE, channels: 1 });
    }
    expect(await sampleFilms(engine, join(dir, 'toy'), 6, 1, { opacities: true })).to.deep.equal(films);
    expect(await sampleFilms(engine, join(dir, 'toy'), 6, 2, { opacities: true })).to.not.deep.equal(films);
  });

  it('of the shipped generator, which draws lungs, are scored by the search', async () => {
    const films = await sampleFilms(engine, join(MODELS, 'chest-anogan'), 24, 1, { opacities: true });
    const options = anogan.options.parse({ bundle: 'chest-anogan', device: 'cpu' });
    const stage = (await anogan.create(options, withEngine(engine, MODELS))) as BatchStage;
    const scored = await stage.processBatch(
      films.map(({ image }) => makeFrame({ image: equalizeHist(resize(image, 64, 64, 'area')) })),
    );
    films.forEach(({ opacity }, i) => {
      const { percentile } = scored[i]?.results.model as Anomaly;
      if (opacity) expect(percentile, `film ${i}, with opacities`).to.be.above(95);
      else expect(percentile, `film ${i}`).to.be.below(95);
    });
  });
});

describe('the films that the package brings', function () {
  this.timeout(60_000);

  it('are called by the demo what their names say', async () => {
    const names = (await readdir(join(HOME, 'samples'))).filter((name) => name.endsWith('.jpg'));
    const films = await runGraph(
      await readFile(join(HOME, 'pipeline.yaml'), 'utf8'),
      names.map((name) => ({ path: join(HOME, 'samples', name) })),
      { baseDir: HOME },
    );
    expect(films).to.have.length(6);
    for (const { name, frame, failure } of films) {
      expect(failure, name).to.equal(undefined);
      const results = frame?.results ?? {};
      expect(results.lungs, name).to.include({ plausible: true });
      for (const id of ['classes', 'anomaly']) {
        expect(results[id], `${id} of ${name}`).to.include({ abnormal: name.includes('opacity') });
      }
    }
  });
});
