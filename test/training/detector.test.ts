import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { Engine, readInitializers } from '../../src/engine/index.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { readBundle, readBundleFile, type Bundle } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';
import { testServices } from '../../src/testing.js';
import { NO_AUGMENTATION } from '../../src/training/augment.js';
import { boxesInImages } from '../../src/training/boxes.js';
import { readDataset } from '../../src/training/dataset.js';
import { makeDetector, type DetectorStorage } from '../../src/training/detector-bundle.js';
import type { DetectorSettings } from '../../src/training/detector.js';
import { prepare, type Recipe } from '../../src/training/recipe.js';
import { evaluateDetector } from '../../src/training/evaluation/detection.js';
import { toyClassifier } from '../support/bundles.js';
import { largestDifference } from '../support/tensors.js';

describe('training a RetinaNet', function () {
  this.timeout(120_000);
  let dir: string;
  let engine: Engine;
  const settings: DetectorSettings = {
    ...{ depth: 18, width: 4, channels: 16, headLayers: 1, anchorSize: 16, boxLoss: 'smooth-l1' },
    ...{ epochs: 8, batchSize: 4, learningRate: 0.01, schedule: 'cosine', weightDecay: 0, warmupEpochs: 0 },
    ...{ patience: 50, seed: 1, augmentation: { ...NO_AUGMENTATION, flip: 0.5 } },
  };

  async function recipe(name: string, data = join(dir, 'boxes.csv')): Promise<Recipe> {
    return {
      dataset: await readDataset(data, { validation: 0.25, boxed: true }),
      about: { name: 'Squares', license: 'CC0-1.0', source: 'Drawn by a test.', limits: [] },
      chain: [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: 64, height: 64 } },
      ],
      out: join(dir, name),
      name,
      rxray: '0.1.0',
      command: `rxray train retinanet ${name}`,
      registry: builtInRegistry(),
      baseDir: dir,
      cacheDir: join(dir, 'cache'),
      log: testServices().log,
      onPhase: () => undefined,
    };
  }
  const train = async (
    name: string,
    other: Partial<DetectorSettings> = {},
    storage: DetectorStorage = { half: false },
  ): Promise<Bundle | undefined> =>
    makeDetector(await recipe(name), engine, { ...settings, ...other }, storage, {});

  /** Grey films of 128 × 96 with a bright rectangle on each but every fifth. */
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-detector-'));
    await mkdir(join(dir, 'films'));
    const lines = ['path,label,x,y,w,h,site'];
    for (let film = 0; film < 40; film++) {
      const random = seededRandom(film);
      const data = Uint8Array.from({ length: 128 * 96 }, () => 40 + 40 * random());
      const [w, h] = [30 + Math.floor(20 * random()), 24 + Math.floor(16 * random())];
      const [x, y] = [Math.floor((128 - w) * random()), Math.floor((96 - h) * random())];
      const path = `films/${film}.png`;
      if (film % 5 === 4) lines.push(`${path},,,,,,a`);
      else {
        lines.push([path, 'square', x, y, w, h, film % 2 === 0 ? 'a' : 'b'].join(','));
        for (let row = y; row < y + h; row++) data.fill(220, row * 128 + x, row * 128 + x + w);
      }
      await sharp(data, { raw: { width: 128, height: 96, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toFile(join(dir, path));
    }
    await writeFile(join(dir, 'boxes.csv'), lines.join('\n'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  it('finds bright rectangles, and says how well on its card; evaluate says the same', async () => {
    const bundle = await train('squares');
    expect(bundle?.kind).to.equal('detector');
    const metrics = bundle?.metrics as Record<string, { value: number; low: number }>;
    expect(metrics['mAP@0.5']?.value).to.be.above(0.7);
    expect(bundle?.thresholds?.square).to.be.within(0.05, 0.95);
    expect(await readFile(join(dir, 'squares', 'README.md'), 'utf8')).to.include(
      'A RetinaNet for 64×64 films',
    );

    const { dataset } = await recipe('squares');
    const { registry, cacheDir, log } = await recipe('squares');
    const evaluation = await evaluateDetector(
      {
        ...{
          dir: join(dir, 'squares'),
          bundle: await readBundle(join(dir, 'squares')),
          dataset,
          split: 'val',
        },
        ...{ normal: undefined, method: undefined, cacheDir, baseDir: dir, rxray: '0.1.0', shortcuts: false },
        onProgress: () => undefined,
      },
      { registry, engine, log, stateDir: dir },
    );
    expect(evaluation.figures.map50).to.be.closeTo(metrics['mAP@0.5']?.value ?? NaN, 0.02);
    expect(evaluation.floor.map50).to.be.below(evaluation.figures.map50 ?? 0);
    expect(evaluation.groups.map(({ value }) => value)).to.deep.equal(['a', 'b']);
  });

  it('interrupted within an epoch and resumed, arrives at the same weights', async () => {
    const short = { ...settings, epochs: 2 };
    const whole = await train('whole', { epochs: 2 });
    const abort = new AbortController();
    const again = await recipe('resumed');
    const first = await makeDetector(
      again,
      engine,
      short,
      { half: false },
      {
        signal: abort.signal,
        onStep: (done, _total, epoch) => {
          if (epoch === 2 && done === 3) abort.abort();
        },
      },
    );
    expect(first).to.equal(undefined);
    const second = await makeDetector(again, engine, short, { half: false }, { resume: true });
    const weightsOf = async (name: string, bundle: Bundle | undefined) =>
      readInitializers(await readBundleFile(join(dir, name), bundle ?? expect.fail(), 'model'));
    const [expected, found] = [await weightsOf('whole', whole), await weightsOf('resumed', second)];
    expect(largestDifference(found, expected)).to.be.below(1e-6);
  });

  it("starts from another RetinaNet, or from a classifier's ResNet", async () => {
    const again = await train(
      'again',
      { epochs: 1, learningRate: 0 },
      { half: true, init: join(dir, 'squares') },
    );
    expect((again?.metrics['mAP@0.5'] as { value: number }).value).to.be.above(0.7);
    await toyClassifier(join(dir, 'classifier'));
    const short = { epochs: 1, boxLoss: 'giou' } as const;
    const backbone = await train('backbone', short, { half: false, init: join(dir, 'classifier') });
    expect(backbone?.training.init).to.match(/^toy [0-9a-f]{64}$/);
    const wider = await train('wider', { width: 5 }, { half: false, init: join(dir, 'classifier') }).catch(
      (error: unknown) => error,
    );
    expect(wider).to.include({ code: 'TRAINING_DATA' });
  });

  describe('reads boxes', () => {
    const read = async (name: string, text: string) => {
      await writeFile(join(dir, name), text);
      return readDataset(join(dir, name), { boxed: true, validation: 0 });
    };
    const refusal = async (name: string, text: string): Promise<string> =>
      read(name, text).then(
        () => 'it was taken',
        (error: unknown) => (error as Error).message,
      );

    it('of a table, in pixels of the film, wherever a resize puts them', async () => {
      const { dataset, ...rest } = await recipe('table');
      expect(dataset.classes).to.deep.equal(['none', 'square']);
      const { films, prepared } = await prepare(
        { dataset, ...rest },
        ['train', 'val'],
        () => true,
        undefined,
      );
      const boxes = boxesInImages(films, prepared, ['square']);
      const [film] = films;
      const [box] = film?.boxes ?? [];
      expect(boxes[0]?.[0]?.x).to.be.closeTo((box?.x ?? NaN) / 2, 1e-4);
      expect(boxes[0]?.[0]?.height).to.be.closeTo(((box?.height ?? NaN) * 64) / 96, 1e-4);
    });

    it("of COCO's JSON, without crowds", async () => {
      const coco = {
        images: [0, 1].map((id) => ({ id, file_name: `films/${id}.png`, width: 128, height: 96 })),
        annotations: [
          { image_id: 0, category_id: 3, bbox: [1, 2, 3, 4] },
          { image_id: 0, category_id: 3, bbox: [1, 2, 30, 40], iscrowd: 1 },
        ],
        categories: [{ id: 3, name: 'square' }],
      };
      const { films } = await read('coco.json', JSON.stringify(coco));
      expect(films.map(({ boxes }) => boxes)).to.deep.equal([
        [{ x: 1, y: 2, width: 3, height: 4, label: 'square' }],
        [],
      ]);
      const stray = { ...coco, annotations: [{ image_id: 9, category_id: 3, bbox: [1, 2, 3, 4] }] };
      expect(await refusal('stray.json', JSON.stringify(stray))).to.include('annotation 1 is of image 9');
    });

    it('and names the line of one that is none', async () => {
      const header = 'path,label,x,y,w,h\n';
      expect(await refusal('zero.csv', `${header}films/0.png,a,1,2,0,4`)).to.include(
        'line 2: films/0.png: expected a box',
      );
      expect(await refusal('empty.csv', `${header}films/0.png,a,,2,3,4`)).to.include('line 2');
      expect(await refusal('columns.csv', 'path,label,x,y\nfilms/0.png,a,1,2')).to.include(
        'no column "w", "h"',
      );
      expect(await refusal('split.csv', 'path,label,x,y,w,h,split\nfilms/0.png,a,1,2,3,4,left')).to.include(
        '"left"',
      );
      expect(await refusal('bad.json', '{"images": 3}')).to.include("not in COCO's form");
    });
  });
});
