import { expect } from 'chai';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import { Engine, readInitializers } from '../../src/engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import type { ClassifierSettings } from '../../src/training/classifier.js';
import { claheChains } from '../../src/training/clahe-variants.js';
import { makeClassifier } from '../../src/training/classifier-bundle.js';
import { readDataset } from '../../src/training/dataset.js';
import { SHIFTS } from '../../src/training/evaluation/shifts.js';
import { makeEnsemble } from '../../src/training/ensemble.js';
import type { Recipe } from '../../src/training/recipe.js';
import { testServices } from '../../src/testing.js';

describe('classifier bundles', function () {
  this.timeout(120_000);
  let dir: string;
  let engine: Engine;

  const settings: ClassifierSettings = {
    ...{
      depth: 18,
      width: 2,
      head: 'plain',
      standardize: false,
      dropout: 0,
      frozenBase: false,
      epochs: 1,
      batchSize: 6,
    },
    ...{ optimizer: 'sgd', nesterov: true, learningRate: 0.05, schedule: 'step', weightDecay: 0 },
    ...{ warmupEpochs: 0, labelSmoothing: 0, mixUp: 0, classWeights: true, patience: 5, seed: 1 },
    augmentation: NO_AUGMENTATION,
  };

  async function recipe(name: string): Promise<Recipe> {
    return {
      dataset: await readDataset(join(dir, 'films'), { validation: 0.5 }),
      about: { name: 'Toy films', license: 'CC0-1.0', source: 'Drawn by a test.', limits: [] },
      chain: [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: 32, height: 32 } },
      ],
      out: join(dir, name),
      name,
      rxray: '0.1.0',
      command: `rxray train ${name}`,
      registry: builtInRegistry(),
      baseDir: dir,
      cacheDir: join(dir, 'cache'),
      log: testServices().log,
      onPhase: () => undefined,
    };
  }

  const train = async (name: string, seed: number): Promise<Bundle | undefined> =>
    makeClassifier(await recipe(name), engine, { ...settings, seed }, {}, {});

  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-ensemble-'));
    const random = seededRandom(4);
    for (const [label, bright] of [
      ['normal', 0],
      ['opacity', 120],
    ] as const) {
      await mkdir(join(dir, 'films', label), { recursive: true });
      for (let i = 0; i < 12; i++) {
        const data = Uint8Array.from({ length: 40 * 40 }, () => random() * 80 + bright);
        const film = sharp(data, { raw: { width: 40, height: 40, channels: 1 } }).toColourspace('b-w');
        await film.png().toFile(join(dir, 'films', label, `${i}.png`));
      }
    }
    await train('one', 1);
    await train('two', 2);
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  it('record how they were made: calibrated, checked on a phantom, with the command on the card', async () => {
    const bundle = await readBundle(join(dir, 'one'));
    expect(bundle.calibration?.films).to.equal(12);
    expect(bundle.calibration?.binary?.normal).to.equal('normal');
    expect(bundle.check?.tensor).to.match(/^[0-9a-f]{64}$/);
    expect((await readBundle(join(dir, 'two'))).check).to.deep.equal(bundle.check);
    const card = await readFile(join(dir, 'one', 'README.md'), 'utf8');
    expect(card).to.include('rxray train one').and.to.include('1 − P(normal) is above');
  });

  it('answer together with the mean of their logits, and record each training', async () => {
    const dirs = [join(dir, 'one'), join(dir, 'two')];
    const bundle = await makeEnsemble(await recipe('both'), engine, dirs, { half: true });
    expect(bundle?.architecture).to.include({ name: 'resnet', members: 2, mirror: false });
    expect((bundle?.training.members as { seed: number }[]).map(({ seed }) => seed)).to.deep.equal([1, 2]);
    const images = { data: new Float32Array(2 * 32 * 32).fill(0.4), dims: [2, 32, 32, 1] };
    const [one, two, both] = await Promise.all(
      ['one', 'two', 'both'].map(async (name) => {
        const written = await readBundle(join(dir, name));
        const session = await engine.load(await readBundleFile(join(dir, name), written, 'model'));
        return (await session.run({ images })).logits?.data as Float32Array;
      }),
    );
    both?.forEach((value, i) => {
      expect(value).to.be.closeTo(((one?.[i] ?? 0) + (two?.[i] ?? 0)) / 2, 0.01);
    });
  });

  it('become one network with the mean of their weights, calibrated on shifted films too', async () => {
    const dirs = [join(dir, 'one'), join(dir, 'two'), join(dir, 'two')];
    const options = { averageWeights: true, shifts: true } as const;
    const bundle = await makeEnsemble(await recipe('mean'), engine, dirs, options);
    expect(bundle?.architecture).to.include({ members: 1 });
    // All but the one without CLAHE, which the chain does not have.
    expect(bundle?.calibration).to.include({ films: 12, shifts: SHIFTS.length - 1 });
    const card = await readFile(join(dir, 'mean', 'README.md'), 'utf8');
    expect(card).to.include(`and ${SHIFTS.length - 1} altered versions of each`);
    expect(card).to.include('These films also selected the epoch');
    expect(bundle?.preprocessing).to.deep.equal((await readBundle(join(dir, 'one'))).preprocessing);
    const [one, two, mean] = await Promise.all(
      ['one', 'two', 'mean'].map(async (name) => {
        const written = await readBundle(join(dir, name));
        const stored = readInitializers(await readBundleFile(join(dir, name), written, 'model'));
        return stored['stem/kernel']?.data as Float32Array;
      }),
    );
    mean?.forEach((value, i) => {
      expect(value).to.be.closeTo(((one?.[i] ?? 0) + 2 * (two?.[i] ?? 0)) / 3, 1e-6);
    });
  });

  it('are combined with one of an earlier version, whose stages had fewer options', async () => {
    await cp(join(dir, 'two'), join(dir, 'earlier'), { recursive: true });
    const bundle = await readBundle(join(dir, 'earlier'));
    const preprocessing = bundle.preprocessing.map(({ use, with: settings }) => {
      const { voi: _later, ...before } = settings;
      return { use, with: use === 'decode' ? before : settings };
    });
    expect(preprocessing).not.to.deep.equal(bundle.preprocessing);
    await writeFile(join(dir, 'earlier', 'bundle.json'), JSON.stringify({ ...bundle, preprocessing }));
    const dirs = [join(dir, 'one'), join(dir, 'earlier')];
    const combined = await makeEnsemble(await recipe('pair'), engine, dirs, {});
    expect(combined?.architecture).to.include({ members: 2 });
  });

  it('keep their weights and their training when one is calibrated again', async () => {
    const again = await makeEnsemble(await recipe('again'), engine, [join(dir, 'one')], { shifts: true });
    const one = await readBundle(join(dir, 'one'));
    expect(again?.files).to.deep.equal(one.files);
    expect(again?.training).to.deep.include({ ...one.training, calibratedBy: 'rxray train again' });
    expect(again?.calibration?.shifts).to.equal(SHIFTS.length - 1);
  });

  it('may be trained on films with other CLAHE and without', async () => {
    const varied = { ...settings, varyClahe: true } as const;
    const plain = await recipe('varied');
    const error = await makeClassifier(plain, engine, varied, {}, {}).catch((e: unknown) => e);
    expect(error).to.include({ code: 'TRAINING_DATA' });
    const chain = plain.chain.toSpliced(1, 0, { use: 'clahe', with: {} });
    const bundle = await makeClassifier({ ...plain, chain }, engine, varied, {}, {});
    expect(bundle?.training.varyClahe).to.equal(true);
    const clahe = { use: 'clahe', with: { clipLimit: 3, tileGridSize: 4 } };
    expect(claheChains([...plain.chain, clahe])).to.deep.equal([
      plain.chain,
      [...plain.chain, { ...clahe, with: { ...clahe.with, clipLimit: 1.5 } }],
      [...plain.chain, { ...clahe, with: { ...clahe.with, clipLimit: 6 } }],
    ]);
  });

  it('are not combined if they differ, with the reason', async () => {
    await cp(join(dir, 'two'), join(dir, 'other'), { recursive: true });
    const bundle = await readBundle(join(dir, 'other'));
    await writeFile(
      join(dir, 'other', 'bundle.json'),
      JSON.stringify({ ...bundle, labels: ['opacity', 'normal'] }),
    );
    const dirs = [join(dir, 'one'), join(dir, 'other')];
    const error = await makeEnsemble(await recipe('x'), engine, dirs, {}).catch((e: unknown) => e);
    expect(error).to.include({ code: 'TRAINING_DATA' });
    expect((error as Error).message).to.match(/other differs from .*one in its labels$/);
  });
});
