import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import { Engine } from '../../src/engine/index.js';
import { readBundle, type Bundle } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';
import { testServices } from '../../src/testing.js';
import type { AnoganSettings } from '../../src/training/anogan.js';
import { makeAnogan, type AnoganBundleSettings } from '../../src/training/anogan-bundle.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import type { Dataset } from '../../src/training/dataset.js';
import type { Film } from '../../src/training/film.js';
import { readDataset } from '../../src/training/dataset.js';
import type { Made, Recipe } from '../../src/training/recipe.js';

describe('an AnoGAN bundle', function () {
  this.timeout(60_000);
  let dir: string;
  let engine: Engine;
  before(() => {
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-anogan-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  const settings: AnoganSettings = {
    width: 4,
    epochs: 2,
    batchSize: 2,
    learningRate: 0.0002,
    realLabel: 0.9,
    seed: 1,
    augmentation: NO_AUGMENTATION,
    search: { steps: 2, lambda: 0.1, learningRate: 0.05, restarts: 1 },
    refineSteps: 2,
    encoderLambda: 0.1,
    evaluateEvery: 1,
  };

  async function make(dataset: Dataset, more: Partial<AnoganBundleSettings> = {}): Promise<Made> {
    const recipe: Recipe = {
      dataset,
      about: { name: 'toy', license: 'CC0-1.0', source: 'Drawn by a test.', limits: [] },
      chain: [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: 64, height: 64 } },
      ],
      out: join(dir, more.generator === undefined ? 'gan' : 'again'),
      name: 'gan',
      rxray: '0.1.0',
      command: `rxray train anogan${more.generator === undefined ? '' : ' --generator gan'}`,
      registry: builtInRegistry(),
      baseDir: dir,
      cacheDir: join(dir, 'cache'),
      log: testServices().log,
      onPhase: () => undefined,
    };
    return makeAnogan(recipe, engine, 'normal', { ...settings, ...more }, {});
  }

  async function toyFilms(): Promise<Dataset> {
    const folder = join(dir, 'films', 'normal');
    await mkdir(folder, { recursive: true });
    const random = seededRandom(3);
    for (let i = 0; i < 8; i++) {
      const data = Uint8Array.from({ length: 64 * 64 }, () => random() * 255);
      const film = sharp(data, { raw: { width: 64, height: 64, channels: 1 } }).toColourspace('b-w');
      await film.png().toFile(join(folder, `${i}.png`));
    }
    return readDataset(join(dir, 'films'), { validation: 0.25, seed: 1 });
  }

  it('of normal films only, as in the paper, has the last epoch and no AUROC', async () => {
    await make(await toyFilms());
    const { metrics, training, reference, healthy } = await readBundle(join(dir, 'gan'));
    expect(healthy).to.deep.equal(['normal']);
    expect(metrics).to.have.all.keys('films', 'referenceFilms', 'search');
    expect(metrics.films).to.equal(2);
    expect(reference?.search?.scores).to.not.be.empty;
    expect(training).not.to.have.property('bestEpoch');
    expect(training.history).to.have.length(2);
    const card = await readFile(join(dir, 'gan', 'README.md'), 'utf8');
    expect(card).not.to.match(/NaN|AUROC|auroc: |best epoch/);
  });

  it('takes the networks of another one, gives the same scores, and records their origin', async () => {
    const films = await toyFilms();
    await make(films);
    const encoder = {
      epochs: 1,
      batchSize: 2,
      learningRate: 1e-3,
      kappa: 1,
      seed: 1,
      augmentation: NO_AUGMENTATION,
    };
    await make(films, { generator: join(dir, 'gan'), epochs: 9, encoder });
    const [one, other] = await Promise.all(['gan', 'again'].map((name) => readBundle(join(dir, name))));
    const scores = (bundle?: Bundle) => bundle?.reference?.search?.scores ?? expect.fail();
    scores(other).forEach((score, i) => {
      expect(score).to.be.closeTo(scores(one)[i] ?? NaN, 1e-4);
    });
    expect(other?.files).to.have.property('encoder');
    expect(other?.training).to.deep.include({ epochs: 2, history: one?.training.history });
    expect(other?.training.encoderHistory).to.have.length(1);
    const card = await readFile(join(dir, 'again', 'README.md'), 'utf8');
    expect(card).to.include('```\nrxray train anogan\nrxray train anogan --generator gan\n```');
  });

  it('takes no networks from another kind of bundle', async () => {
    const films = await toyFilms();
    const error = await make(films, { generator: dir }).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'TRAINING_DATA' });
    expect((error as Error).message).to.match(/^no generator from .*: no model bundle at/);
  });

  describe('is refused, before any film is prepared,', () => {
    const film = (name: string, patient: string, more: Partial<Film> = {}): Film => ({
      ...{ path: join(dir, name), name, class: 'normal', split: 'train', patient, sha256: name },
      ...more,
    });
    const refusal = async (films: Film[]): Promise<string> => {
      const dataset = {
        films,
        classes: ['ill', 'normal'],
        counts: {},
        fingerprint: '',
        duplicates: 0,
        unreadable: [],
        findings: [],
        leftOut: [],
        patients: null,
      };
      const error = await make(dataset).then(
        () => expect.fail('it was accepted'),
        (thrown: unknown) => thrown,
      );
      expect(error).to.include({ code: 'TRAINING_DATA' });
      return (error as Error).message;
    };

    it('without normal films to train on', async () => {
      const message = await refusal([film('a', '1', { class: 'ill' }), film('b', '2', { split: 'val' })]);
      expect(message).to.equal('the data have no film of the class "normal" to train on');
    });

    it('with the films of one patient', async () => {
      const message = await refusal([film('a', '1'), film('b', '1'), film('c', '1')]);
      expect(message).to.include(
        'all 3 films of the class "normal" are of one patient: expected two at least',
      );
    });

    it('with less than one batch', async () => {
      const message = await refusal([film('a', '1'), film('b', '2')]);
      expect(message).to.include('1 films of the class "normal" are left to learn from, 1 being held back');
      expect(message).to.include('expected a batch of 2 at least (--batch)');
    });
  });
});
