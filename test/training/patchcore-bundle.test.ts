import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/cli/builtins.js';
import { Engine } from '../../src/engine/index.js';
import { readBundle } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';
import { testServices } from '../../src/testing.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import { readDataset } from '../../src/training/dataset.js';
import { makePatchcore, type PatchcoreSettings } from '../../src/training/patchcore-bundle.js';
import type { Recipe } from '../../src/training/recipe.js';
import { toyAnogan, toyClassifier } from '../support/bundles.js';

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
    engine = new Engine();
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

  it('may take the discriminator of an AnoGAN, which is as unsupervised as its own network', async () => {
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

  it('is refused with the reason where there are no such features', async () => {
    const error = await make('none', { network: { bundle: join(dir, 'nowhere') } }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'TRAINING_DATA' });
    expect((error as Error).message).to.include('no features from');
  });
});
