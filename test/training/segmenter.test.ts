import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { Engine } from '../../src/engine/index.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import type { Image } from '../../src/core/frame.js';
import { phantomFilm } from '../../src/imaging/phantom.js';
import { readBundle, type Bundle } from '../../src/models/bundle.js';
import { testServices } from '../../src/testing.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import { readDataset } from '../../src/training/dataset.js';
import type { Recipe } from '../../src/training/recipe.js';
import { makeSegmenter, type SegmenterStorage } from '../../src/training/segmenter-bundle.js';
import type { SegmenterSettings } from '../../src/training/segmenter.js';

describe('training a U-Net', function () {
  this.timeout(120_000);
  let dir: string;
  let engine: Engine;
  const settings: SegmenterSettings = {
    ...{ width: 4, poolings: 2, batchNorm: true, upsampling: 'nearest', epochs: 12, batchSize: 4 },
    ...{ learningRate: 0.02, schedule: 'cosine', weightDecay: 0, warmupEpochs: 0, diceShare: 0.5 },
    ...{ patience: 50, seed: 1, augmentation: { ...NO_AUGMENTATION, rotate: 5, flip: 0.5 } },
  };

  async function recipe(name: string, data = join(dir, 'films')): Promise<Recipe> {
    return {
      dataset: await readDataset(data, { validation: 0.25, masked: true }),
      about: { name: 'Phantoms', license: 'CC0-1.0', source: 'Drawn by a test.', limits: [] },
      chain: [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: 32, height: 32 } },
      ],
      out: join(dir, name),
      name,
      rxray: '0.1.0',
      command: `rxray train unet ${name}`,
      registry: builtInRegistry(),
      baseDir: dir,
      cacheDir: join(dir, 'cache'),
      log: testServices().log,
      onPhase: () => undefined,
    };
  }

  const train = async (
    name: string,
    other: Partial<SegmenterSettings> = {},
    storage: SegmenterStorage = { half: true },
    hooks: Parameters<typeof makeSegmenter>[4] = {},
  ): Promise<Bundle | undefined> =>
    makeSegmenter(await recipe(name), engine, { ...settings, ...other }, storage, hooks);

  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-segmenter-'));
    for (const folder of ['images', 'masks']) await mkdir(join(dir, 'films', folder), { recursive: true });
    for (let seed = 1; seed <= 24; seed++) {
      const { image, lungs } = phantomFilm({ seed, size: 64 });
      await save(image, join(dir, 'films', 'images', `${seed}.png`));
      await save(lungs, join(dir, 'films', 'masks', `${seed}.png`));
    }
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  it('finds the lungs of phantoms, and says how well on its card', async () => {
    const bundle = await train('lungs');
    expect(bundle?.kind).to.equal('segmenter');
    const { dice, films } = bundle?.metrics as { dice: { value: number; low: number }; films: number };
    expect(films).to.equal(6);
    expect(dice.value).to.be.above(0.8);
    expect(dice.low).to.be.at.most(dice.value);
    const card = await readFile(join(dir, 'lungs', 'README.md'), 'utf8');
    expect(card).to.include('A U-Net for 32×32 films').and.to.include('dice: 0.');
    expect((await readBundle(join(dir, 'lungs'))).check?.tensor).to.match(/^[0-9a-f]{64}$/);
  });

  it('starts from the weights of another one, of another size too', async () => {
    const first = await train(
      'again',
      { epochs: 1, learningRate: 0 },
      { half: false, init: join(dir, 'lungs') },
    );
    const { dice } = first?.metrics as { dice: { value: number } };
    expect(dice.value).to.be.above(0.8);
    expect(first?.training.init).to.match(/^lungs [0-9a-f]{64}$/);
    const error = await train('wider', { width: 5 }, { half: false, init: join(dir, 'lungs') }).catch(
      (e: unknown) => e,
    );
    expect(error).to.include({ code: 'TRAINING_DATA' });
    expect((error as Error).message).to.include('its network has no parameter down0/conv1/kernel of 3×3×1×5');
  });

  it('interrupted and resumed, arrives at the same weights', async () => {
    const short = { epochs: 2 };
    const whole = await train('whole', short);
    const abort = new AbortController();
    const stopped = await train(
      'parts',
      short,
      { half: true },
      {
        signal: abort.signal,
        onStep: (done, _total, epoch) => {
          if (epoch === 2 && done === 2) abort.abort();
        },
      },
    );
    expect(stopped).to.equal(undefined);
    const resumed = await train('parts', short, { half: true }, { resume: true });
    expect(resumed?.files.model?.sha256).to.equal(whole?.files.model?.sha256);
  });

  it('reads a manifest with masks and without classes, and names a mask that is missing', async () => {
    const lines = Array.from({ length: 8 }, (_, i) => `images/${i + 1}.png,masks/${i + 1}.png,p${i}`);
    const manifest = join(dir, 'films', 'manifest.csv');
    await writeFile(manifest, ['path,mask,patient', ...lines].join('\n'));
    const dataset = await readDataset(manifest, { masked: true, validation: 0.25 });
    expect(dataset.films).to.have.length(8);
    expect(dataset.films[0]?.details?.mask).to.equal(join(dir, 'films', 'masks', '1.png'));
    await writeFile(
      manifest,
      ['path,mask', 'images/1.png,masks/none.png', 'images/2.png,masks/2.png'].join('\n'),
    );
    const error = await makeSegmenter(
      await recipe('broken', manifest),
      engine,
      settings,
      { half: true },
      {},
    ).catch((e: unknown) => e);
    expect((error as Error).message).to.match(/the mask of images\/1\.png, .*none\.png, cannot be read/);
    await writeFile(manifest, ['path,class', 'images/1.png,a'].join('\n'));
    const refused = await readDataset(manifest, { masked: true }).catch((e: unknown) => e);
    expect((refused as Error).message).to.include('has no column "mask"');
  });
});

async function save({ width, height, data }: Image, path: string): Promise<void> {
  await sharp(data, { raw: { width, height, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toFile(path);
}
