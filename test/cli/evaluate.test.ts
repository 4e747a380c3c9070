import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { evaluateFiles } from '../../src/cli/evaluate.js';
import { Reviews } from '../../src/core/reviews.js';
import { seededRandom } from '../../src/models/random.js';
import { SHIFTS, type ShiftSuite } from '../../src/training/evaluation/shifts.js';
import { toyAnogan, toyClassifier, toySegmenter } from '../support/bundles.js';
import { rxray, type Result } from '../support/lab.js';

describe('rxray evaluate', function () {
  this.timeout(120_000);
  let dir: string;
  const chain = (side: number) => [
    { use: 'decode', with: {} },
    { use: 'resize', with: { width: side, height: side } },
  ];
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-evaluate-'));
    await toyClassifier(join(dir, 'classifier'), { preprocessing: chain(32) });
    await toyClassifier(join(dir, 'calibrated'), {
      preprocessing: chain(32),
      calibration: {
        temperature: 2,
        films: 9,
        ece: { before: 0.3, after: 0.1 },
        binary: { normal: 'normal', threshold: 0.625, plateau: [0.5, 0.75], balancedAccuracy: 1 },
      },
    });
    await toyAnogan(join(dir, 'anogan'), { preprocessing: chain(64), training: { normal: 'normal' } });
    const random = seededRandom(4);
    const rows = ['path,class,split,patient,view,mask'];
    for (const label of ['bacterial', 'normal', 'viral']) {
      await mkdir(join(dir, 'films', label), { recursive: true });
      for (let i = 0; i < 4; i++) {
        const data = Uint8Array.from({ length: 48 * 40 }, () => random() * 200);
        const path = join(dir, 'films', label, `${i}.png`);
        await sharp(data, { raw: { width: 48, height: 40, channels: 1 } })
          .toColourspace('b-w')
          .png()
          .toFile(path);
        rows.push(
          `${label}/${i}.png,${label},${i === 3 ? 'val' : 'test'},${label}-${i >> 1},${i % 2 === 0 ? 'PA' : 'AP'},lungs.png`,
        );
      }
    }
    // The left half is lung.
    await sharp({ create: { width: 15, height: 30, channels: 3, background: 'white' } })
      .extend({ right: 15, background: 'black' })
      .png()
      .toFile(join(dir, 'films', 'lungs.png'));
    // The patients 1 have a film in both splits.
    await writeFile(join(dir, 'films', 'leaking.csv'), rows.join('\n'));
    const clean = rows.map((row) => row.replace(/^(.*\/)([23])(.*)-1/, '$1$2$3-$2'));
    await writeFile(join(dir, 'films', 'manifest.csv'), clean.join('\n'));
  });
  after(() => rm(dir, { recursive: true }));

  type More = Partial<Parameters<typeof evaluateFiles>[1]>;

  const evaluate = (bundle: string, data: string, more: More = {}) =>
    evaluateFiles(join(dir, bundle), { data: join(dir, data), cache: join(dir, 'cache'), ...more });

  it('takes the reviewed films of a pipeline with the classes that people gave, without the unusable ones', async () => {
    const pipeline = join(dir, 'ward.yaml');
    await writeFile(
      pipeline,
      'version: 1\nsources: [{ use: watch, with: { path: ./films } }]\nsinks: [{ use: console }]\n',
    );
    const evaluated = () =>
      evaluateFiles(join(dir, 'classifier'), { reviews: pipeline, cache: join(dir, 'cache'), json: true });
    const none = await evaluated();
    expect(none).to.include({ code: 2 });
    expect(none.text).to.match(/^TRAINING_DATA no film has been reviewed/);
    const reviews = new Reviews(join(dir, '.rxray'));
    const decisions = {
      bacterial: ['wrong', 'viral'],
      normal: ['right', 'normal'],
      viral: ['unusable', null],
    } as const;
    for (const [folder, [answer, label]] of Object.entries(decisions)) {
      const file = `${folder}/0.png`;
      await reviews.add({
        ...{ id: folder, file, path: join(dir, 'films', file), sha256: '', answer, class: label },
        ...{ by: 'ada', at: '2026-01-01T08:00:00.000Z' },
      });
    }
    const { text, code } = await evaluated();
    expect(code, text).to.equal(0);
    const { n, perClass } = JSON.parse(text) as { n: number; perClass: Record<string, { n: number }> };
    expect(n).to.equal(2);
    const supports = Object.fromEntries(
      Object.entries(perClass).map(([label, { n: count }]) => [label, count]),
    );
    expect(supports).to.deep.equal({ bacterial: 0, normal: 1, viral: 1 });
  });

  /** In a process of its own: a report traces a network, and mocha holds a second copy of the engine. */
  const inProcess = (bundle: string, ...args: string[]): Promise<Result> =>
    rxray('evaluate', join(dir, bundle), '--cache', join(dir, 'cache'), ...args);

  async function judged(...args: Parameters<typeof evaluate>) {
    const [bundle, data, more] = args;
    const { text, code } = await evaluate(bundle, data, { json: true, ...more });
    expect(code, text).to.equal(0);
    return JSON.parse(text) as Record<string, unknown> & {
      perClass: Record<string, { n: number; recall: number }>;
      confusion: number[][];
      binary: Record<string, number>;
      intervals: Record<string, [number, number]>;
    };
  }

  it('prints one JSON object: all of a folder of classes is evaluated', async () => {
    const found = await judged('classifier', 'films');
    expect(found).to.include({ n: 12, split: 'all', kind: 'classifier', model: 'toy' });
    for (const name of ['accuracy', 'balancedAccuracy', 'auroc', 'ece']) {
      expect(found[name], name).to.be.a('number').within(0, 1);
      const [low, high] = found.intervals[name] ?? expect.fail(name);
      expect(low).to.be.at.most(high);
    }
    expect(Object.keys(found.perClass)).to.deep.equal(['bacterial', 'normal', 'viral']);
    expect(found.perClass.viral?.n).to.equal(4);
    expect(found.confusion.flat().reduce((a, b) => a + b)).to.equal(12);
    const right = found.confusion.reduce((sum, row, i) => sum + (row[i] ?? 0), 0);
    expect(found.accuracy).to.be.closeTo(right / 12, 1e-12);
    expect(found.binary).to.include({ threshold: 0.5, normal: 'normal' });
    expect(found.binary.auroc).to.be.a('number');
    expect(found.binary.accuracy).to.be.a('number');
  });

  it('evaluates the requested split, by patient, at the bundle’s threshold and temperature', async () => {
    const found = await judged('calibrated', 'films/manifest.csv', { split: 'test' });
    expect(found).to.include({ n: 9, split: 'test', temperature: 2 });
    expect(found.binary.threshold).to.equal(0.625);
    expect(found.bootstrap).to.deep.equal({ resamples: 1000, seed: 1, unit: 'patient' });
    expect(found.eceUncalibrated).to.not.equal(found.ece);
  });

  it('evaluates altered films, and names the worst figures', async () => {
    const found = (await judged('calibrated', 'films/manifest.csv', {
      shifts: true,
    })) as unknown as ShiftSuite;
    expect(found.shifts).to.have.length(SHIFTS.length - 1);
    for (const { name, auroc, specificity, ece } of found.shifts) {
      expect([auroc, specificity, ece], name).to.satisfy((all: unknown[]) =>
        all.every((one) => typeof one === 'number'),
      );
    }
    expect(found.worst.ece?.value).to.equal(Math.max(...found.shifts.map(({ ece }) => ece ?? 0)));
    const { text } = await evaluate('calibrated', 'films/manifest.csv', { shifts: true });
    expect(text)
      .to.match(/JPEG of quality 30 +\d\.\d{3}/)
      .and.match(/worst specificity: \d\.\d{3} \(.+\)/);
  });

  it('evaluates a segmenter on altered films, whose masks move with them', async () => {
    await toySegmenter(join(dir, 'dark'), 0.4);
    for (const folder of ['images', 'masks']) await mkdir(join(dir, 'pairs', folder), { recursive: true });
    // A dark block at the left, which is what the model finds.
    const [width, height] = [64, 64];
    for (const [folder, inside, outside] of [
      ['images', 50, 200],
      ['masks', 255, 0],
    ] as const) {
      const data = Uint8Array.from({ length: width * height }, (_, i) =>
        i % width >= 8 && i % width < 28 && i >= 16 * width && i < 48 * width ? inside : outside,
      );
      const film = sharp(data, { raw: { width, height, channels: 1 } }).toColourspace('b-w');
      for (const name of ['1', '2'])
        await film
          .clone()
          .png()
          .toFile(join(dir, 'pairs', folder, `${name}.png`));
    }
    const options = { split: 'all', shifts: true, report: join(dir, 'dark-report') };
    const { shifts } = (await judged('dark', 'pairs', options)) as unknown as {
      shifts: { name: string; dice: number }[];
    };
    const dice = Object.fromEntries(shifts.map((shift) => [shift.name, shift.dice]));
    expect(dice['chest wider: 15 % less width']).to.be.above(0.95);
    expect(dice['farther: 10 % more on every side']).to.be.above(0.95);
    // The black corners and border are found too.
    expect(dice['rotated by 15° clockwise']).to.be.within(0.7, 0.95);
    expect(dice['black border of 8 %']).to.be.below(0.7);
    expect(await readFile(join(dir, 'dark-report/report.html'), 'utf8')).to.include('rotated by 15°');
    expect((await evaluate('dark', 'pairs', options)).text).to.match(/half the resolution +\d\.\d{3}/);
  });

  it('uses the test films by default, and says so', async () => {
    const { code, text } = await evaluate('classifier', 'films/manifest.csv');
    expect(code).to.equal(0);
    expect(text).to.match(/^\S*toy on 9 films of the split "test"\n/);
    expect(text).to.match(/balanced accuracy \d\.\d{3} \(\d\.\d{3}–\d\.\d{3}\)/);
    expect(text).to.include('Not a medical device');
  });

  it('evaluates an anomaly model: area, threshold, time per film', async () => {
    const found = await judged('anogan', 'films');
    expect(found).to.include({ n: 12, kind: 'anogan' });
    expect(found.auroc).to.be.a('number').within(0, 1);
    expect(found.msPerFilm).to.be.a('number').above(0);
    expect(found.binary).to.include({ normal: 'normal', auroc: found.auroc });
  });

  it('writes a report: one self-contained page, and its numbers as JSON', async () => {
    for (const [bundle, parts] of [
      ['calibrated', ['Reliability', 'Confusion matrix', 'Grad-CAM', "classifier's features"]],
      ['anogan', ['Anomaly maps', "discriminator's features"]],
    ] as const) {
      const report = join(dir, `report-${bundle}`);
      const { stdout } = await inProcess(
        ...[
          bundle,
          '--data',
          join(dir, 'films/manifest.csv'),
          '--split',
          'all',
          '--report',
          report,
          '--json',
        ],
      );
      const found = JSON.parse(stdout) as Record<string, unknown>;
      const text = await readFile(join(report, 'report.html'), 'utf8');
      expect(text).to.match(
        /<p class="lead">Of 100 films that are not “normal”, this model detects \d+ and misses/,
      );
      for (const part of [
        ...parts,
        'Not a medical device',
        'Worst mistakes',
        'lungs black',
        'view: PA',
        '<svg',
      ])
        expect(text, bundle).to.include(part);
      // No script, and nothing from anywhere else: pictures are inside, addresses are only names of XML spaces.
      expect(text).to.not.match(/<script|<link|@import|url\(|src="(?!data:)/);
      const json = JSON.parse(await readFile(join(report, 'report.json'), 'utf8')) as Record<
        string,
        unknown
      > & {
        shortcuts: { name: string; figures: { n: number } }[];
        lungEnergy?: { films: number; masks: string; energy: number; area: number };
      };
      expect(json).to.deep.include(found);
      expect(json.shortcuts.map(({ name }) => name)).to.deep.equal([
        'centre black',
        'border black',
        'lungs black',
        'all but the lungs black',
      ]);
      expect(json.shortcuts.every(({ figures }) => figures.n === 12)).to.equal(true);
      if (bundle === 'anogan') expect(json).to.not.have.property('lungEnergy');
      else {
        expect(json.lungEnergy).to.include({ films: 12, masks: 'given', area: 0.5 });
        expect(json.lungEnergy?.energy).to.be.within(0, 1);
        expect(text).to.include('evidence inside the lungs');
      }
    }
  });

  it('finds the lungs by a segmenter, for data without masks', async () => {
    await toySegmenter(join(dir, 'segmenter'), 0.4);
    const data = ['--data', join(dir, 'films'), '--lungs'];
    const { stdout, code } = await inProcess('classifier', ...data, join(dir, 'segmenter'));
    expect(code).to.equal(0);
    expect(stdout)
      .to.match(/all but the lungs black +\d\.\d{3}/)
      .and.match(
        /evidence inside the lungs \(Grad-CAM\) .*; lungs: found by toy, not plausible on \d+ films/,
      );
    const wrong = await evaluate('classifier', 'films', { lungs: join(dir, 'classifier') });
    expect(wrong).to.include({ code: 2 });
    expect(wrong.text).to.include('--lungs: expected a segmenter, "toy" is a classifier');
  });

  it('names a film that cannot be read, counts it and evaluates the others', async () => {
    const damaged = join(dir, 'damaged');
    await cp(join(dir, 'films'), damaged, { recursive: true });
    const film = join(damaged, 'viral', '0.png');
    await writeFile(film, (await readFile(film)).subarray(0, 900));
    await rm(join(damaged, 'normal', '1.png'));
    const manifest = 'damaged/manifest.csv';
    const report = join(dir, 'report-damaged');
    const { stdout, code } = await inProcess(
      ...['classifier', '--data', join(dir, manifest), '--split', 'test', '--report', report, '--json'],
    );
    expect(code).to.equal(1);
    const { n, unreadable } = JSON.parse(stdout) as {
      n: number;
      unreadable: { film: string; reason: string }[];
    };
    expect(n).to.equal(7);
    expect(unreadable.map((each) => each.film)).to.deep.equal(['normal/1.png', 'viral/0.png']);
    for (const { reason } of unreadable) expect(reason).to.match(/\w{3}/);
    const page = await readFile(join(report, 'report.html'), 'utf8');
    expect(page).to.match(/7\s+films of the split “test” \(2 could not be read\)/);
    expect(page).to.include('Films that could not be read').and.include('<td>viral/0.png</td>');
    const said = await evaluate('classifier', manifest, { split: 'test' });
    expect(said.text).to.match(/2 could not be read:\S*\n {2}normal\/1\.png: ENOENT.*\n {2}viral\/0\.png: /);
    // Those of another split are not missed.
    expect((await evaluate('classifier', manifest, { split: 'val' })).code).to.equal(0);
  });

  it('names a mask that cannot be read, before a report is made without it', async () => {
    const masked = join(dir, 'masked');
    await cp(join(dir, 'films'), masked, { recursive: true });
    await writeFile(join(masked, 'lungs.png'), 'no picture');
    const request = { report: join(dir, 'report-masked'), json: true };
    const { code, text } = await evaluate('classifier', 'masked/manifest.csv', request);
    expect(code).to.equal(2);
    expect(text)
      .to.match(/TRAINING_DATA/)
      .and.include('the mask of bacterial/0.png, lungs.png, cannot be read');
  });

  it('refuses films of one patient on both sides of a split', async () => {
    const { code, text } = await evaluate('classifier', 'films/leaking.csv', { split: 'test', json: true });
    expect(code).to.equal(2);
    expect(text).to.include('3 patients have films in more than one split (bacterial-1');
  });

  it('ends with 2 and the reason where films, bundle and options do not fit', async () => {
    const cases: [string, string, More, string][] = [
      ['nowhere', 'films', {}, 'no model bundle at'],
      ['classifier', 'nowhere', {}, 'expected a manifest (CSV) or a folder of classes'],
      ['classifier', 'films', { split: 'test' }, 'no film is in the split "test": the data have train'],
      ['classifier', 'films', { normal: 'healthy' }, 'the model has no label "healthy" for normal films'],
      ['classifier', 'films', { method: 'search' }, 'the stage `resnet`'],
      ['classifier', 'films/manifest.csv', { columns: 'klass=view' }, '--columns klass=view'],
    ];
    for (const [bundle, data, more, reason] of cases) {
      const { code, text } = await evaluate(bundle, data, more);
      expect(code, text).to.equal(2);
      expect(text).to.include(reason);
    }
  });
});
