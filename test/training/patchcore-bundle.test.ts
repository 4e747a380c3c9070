import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import type { Anomaly } from '../../src/core/frame.js';
import type { BatchStage } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import { baselineScores } from '../../src/models/baselines.js';
import { readBundle } from '../../src/models/bundle.js';
import { inputTensor } from '../../src/models/input-tensor.js';
import { seededRandom } from '../../src/models/random.js';
import patchcore from '../../src/plugins/patchcore.js';
import { makeFrame, testServices } from '../../src/testing.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import { readDataset } from '../../src/training/dataset.js';
import { makePatchcore, type PatchcoreSettings } from '../../src/training/patchcore-bundle.js';
import type { Recipe } from '../../src/training/recipe.js';
import { toyAnogan, toyClassifier, withEngine } from '../support/bundles.js';

const SIDE = 32;

/** Stripes of a phase of their own; strange ones have a bright square. */
function pixels(seed: number, strange: boolean): Uint8Array {
  const random = seededRandom(seed);
  const phase = random() * 4;
  return Uint8Array.from({ length: SIDE * SIDE }, (_, at) => {
    const [x, y] = [at % SIDE, Math.floor(at / SIDE)];
    if (strange && x >= 8 && x < 20 && y >= 8 && y < 20) return 250;
    return 110 + 40 * Math.sin(x / 2 + phase) + 10 * random();
  });
}

describe('a patchcore bundle', function () {
  this.timeout(300_000);
  let dir: string;
  let engine: Engine;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-patchcore-'));
    for (let i = 0; i < 24; i++) {
      const strange = i >= 18;
      const folder = join(dir, 'films', i < 12 ? 'train' : 'val', strange ? 'strange' : 'normal');
      await mkdir(folder, { recursive: true });
      const raw = { width: SIDE, height: SIDE, channels: 1 } as const;
      await sharp(pixels(i, strange), { raw })
        .toColourspace('b-w')
        .png()
        .toFile(join(folder, `${i}.png`));
    }
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  const settings: PatchcoreSettings = {
    layers: ['stage1'],
    memory: { axes: 6, coreset: 0.5, byPlace: true, score: 'mean', seed: 1 },
    network: {
      pretext: {
        width: 4,
        epochs: 1,
        batchSize: 4,
        learningRate: 0.01,
        weightDecay: 0,
        seed: 1,
        augmentation: NO_AUGMENTATION,
      },
    },
  };

  async function make(name: string, other: Partial<PatchcoreSettings> = {}, side = SIDE): Promise<string> {
    const recipe: Recipe = {
      dataset: await readDataset(join(dir, 'films'), { validation: 0.25, seed: 1 }),
      about: { name: 'toy', license: 'CC0-1.0', source: 'Drawn by a test.', limits: [] },
      chain: [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: side, height: side } },
      ],
      out: join(dir, name),
      name,
      rxray: '0.1.0',
      command: 'rxray train patchcore',
      registry: builtInRegistry(),
      baseDir: dir,
      cacheDir: join(dir, 'cache'),
      log: testServices().log,
      onPhase: () => undefined,
    };
    await makePatchcore(recipe, engine, 'normal', { ...settings, ...other }, {});
    return join(dir, name);
  }

  it('separates abnormal films from normal ones and shows where, trained on normal ones only', async () => {
    const path = await make('memory');
    const bundle = await readBundle(path);
    expect(bundle.kind).to.equal('patchcore');
    expect(bundle.healthy).to.deep.equal(['normal']);
    expect((bundle.metrics.auroc as { value: number }).value).to.equal(1);
    expect(bundle.training).to.deep.include({ supervised: false });
    expect(bundle.reference?.patchcore?.scores).to.not.be.empty;
    const card = await readFile(join(path, 'README.md'), 'utf8');
    expect(card).to.include('normal films only').and.not.include('Supervised');

    const stage = (await patchcore.create(
      patchcore.options.parse({ bundle: 'memory', device: 'cpu' }),
      withEngine(engine, dir),
    )) as BatchStage;
    const films = [pixels(100, false), pixels(101, true)].map((data, i) => ({
      ...makeFrame({ name: `${i}.png`, width: SIDE, height: SIDE }),
      image: { width: SIDE, height: SIDE, channels: 1 as const, data },
    }));
    const results = (await stage.processBatch(films)).map((frame) => frame.results.model as Anomaly);
    expect(results[1]?.anomalyScore).to.be.above(results[0]?.anomalyScore ?? Infinity);
    expect(results[1]).to.deep.include({ percentile: 100, abnormal: true });
    const { data } = results[1]?.map as { data: Uint8Array };
    // The patch of the upper right corner sees nothing of the square; that of the lower one does.
    expect(data[14 * SIDE + 14]).to.be.above(2 * (data[2 * SIDE + 30] ?? 255));
    await stage.dispose?.();

    const images = inputTensor(
      films.map(({ image }) => image),
      bundle.input,
    );
    const { pca, discriminator } = await baselineScores(engine, path, bundle, images);
    expect(pca?.[1]).to.be.above(pca?.[0] ?? Infinity);
    expect(discriminator).to.equal(undefined);
  });

  it('may take the features of a classifier, and then says that it is supervised', async () => {
    await toyClassifier(join(dir, 'classifier'));
    const path = await make('supervised', {
      network: { bundle: join(dir, 'classifier') },
      memory: { ...settings.memory, byPlace: false, score: 'max' },
    });
    const { training } = await readBundle(path);
    expect(training).to.deep.include({ supervised: true });
    expect(await readFile(join(path, 'README.md'), 'utf8')).to.include('**Supervised**');
  });

  it('may take the discriminator of an AnoGAN, which is unsupervised, too', async () => {
    await toyAnogan(join(dir, 'gan'));
    const path = await make(
      'critic',
      { network: { bundle: join(dir, 'gan') }, layers: ['down2', 'down4'] },
      64,
    );
    const { training, architecture, input } = await readBundle(path);
    expect(training).to.deep.include({ supervised: false });
    expect(architecture.network).to.deep.equal({ name: 'dcgan', width: 2, zDim: 10 });
    expect(input).to.deep.include({ width: 64, height: 64, mean: [0], std: [1] });
  });

  it('is refused with the reason if the features do not exist', async () => {
    const error = await make('none', { network: { bundle: join(dir, 'nowhere') } }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'TRAINING_DATA' });
    expect((error as Error).message).to.include('no features from');
  });
});
