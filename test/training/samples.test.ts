import { expect } from 'chai';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Anomaly, Classification, Frame } from '../../src/core/frame.js';
import type { BatchStage, PluginOf } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import { clahe, resize } from '../../src/imaging/kernels.js';
import anogan from '../../src/plugins/anogan.js';
import resnet from '../../src/plugins/resnet.js';
import { makeFrame } from '../../src/testing.js';
import { SAMPLE_SIDE, sampleFilms, type SampleFilm } from '../../src/training/samples.js';
import { toyAnogan, withEngine } from '../support/bundles.js';

const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));

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

  it('of the shipped generator are classified by the shipped models', async () => {
    const films = await sampleFilms(engine, join(MODELS, 'chest-anogan'), 12, 1, { opacities: true });
    const open = async (plugin: PluginOf<'stage'>, bundle: string): Promise<BatchStage> => {
      const options = plugin.options.parse({ bundle, device: 'cpu' });
      return (await plugin.create(options, withEngine(engine, MODELS))) as BatchStage;
    };
    const framesOf = (side: number): Frame[] =>
      films.map(({ image }, i) =>
        makeFrame({ name: `${i}.png`, image: resize(clahe(image, 2, 8), side, side, 'area') }),
      );
    const classified = await (await open(resnet, 'chest-resnet')).processBatch(framesOf(128));
    const scored = await (await open(anogan, 'chest-anogan')).processBatch(framesOf(64));

    const normal = (i: number): boolean =>
      (classified[i]?.results.model as Classification).label === 'normal';
    const percentile = (i: number): number => (scored[i]?.results.model as Anomaly).percentile ?? NaN;
    films.forEach(({ opacity }: SampleFilm, i) => {
      expect(normal(i), `film ${i} is called normal`).to.equal(!opacity);
      if (opacity) expect(percentile(i), `percentile of film ${i}`).to.be.above(95);
      else expect(percentile(i), `percentile of film ${i}`).to.be.below(95);
    });
  });
});
