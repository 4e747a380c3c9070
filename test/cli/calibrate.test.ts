import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { calibrateFiles } from '../../src/cli/calibrate.js';
import { lintFile } from '../../src/cli/lint.js';
import type { Bundle } from '../../src/models/bundle.js';
import { readBundle } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';
import { toyAnogan, toyClassifier } from '../support/bundles.js';

describe('rxray calibrate', function () {
  this.timeout(120_000);
  let dir: string;
  const chain = (side: number) => [
    { use: 'decode', with: {} },
    { use: 'resize', with: { width: side, height: side } },
  ];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-calibrate-'));
    await toyClassifier(join(dir, 'classifier'), { preprocessing: chain(32) });
    await toyAnogan(join(dir, 'anogan'), { preprocessing: chain(64), training: { normal: 'normal' } });
    const random = seededRandom(4);
    for (const label of ['bacterial', 'normal', 'viral']) {
      await mkdir(join(dir, 'films', label), { recursive: true });
      for (let i = 0; i < (label === 'normal' ? 20 : 3); i++) {
        const data = Uint8Array.from({ length: 48 * 40 }, () => random() * 200);
        await sharp(data, { raw: { width: 48, height: 40, channels: 1 } })
          .toColourspace('b-w')
          .png()
          .toFile(join(dir, 'films', label, `${i}.png`));
      }
    }
  });
  after(() => rm(dir, { recursive: true }));

  async function calibrate(
    bundle: string,
    out: string,
    options: Partial<Parameters<typeof calibrateFiles>[1]>,
  ): Promise<{ bundle: Bundle; card: string; warnings: string[] }> {
    const { text, code, warnings } = await calibrateFiles(join(dir, bundle), {
      out: join(dir, out),
      cache: join(dir, 'cache'),
      ...options,
    });
    expect(code, text).to.equal(0);
    const card = await readFile(join(dir, out, 'README.md'), 'utf8');
    return { bundle: await readBundle(join(dir, out)), card, warnings };
  }

  it('takes the threshold of a folder of normal films; the weights are the same file', async () => {
    const normals = join(dir, 'films', 'normal');
    const { bundle, card, warnings } = await calibrate('classifier', 'ours', {
      normals,
      falsePositives: 0.1,
    });
    expect(warnings).to.deep.equal(['20 normal films are few: use 50 or more for a reliable threshold']);
    expect(bundle).to.include({ name: 'ours', kind: 'classifier' });
    expect(bundle.ownCalibration).to.include({ data: 'normal', films: 20, normals: 20, temperature: 'kept' });
    expect(bundle.ownCalibration?.specificity.value).to.equal(0.9);
    expect(bundle.ownCalibration?.specificity.low).to.be.closeTo(0.699, 0.001);
    expect(bundle.calibration?.binary?.normal).to.equal('normal');
    expect(card)
      .to.include('## Calibrated on films of its place of use')
      .and.include('20 normal films of normal');
    const [before, after] = await Promise.all(
      ['classifier', 'ours'].map((name) => stat(join(dir, name, 'model.onnx'))),
    );
    expect(after?.ino).to.equal(before?.ino);

    const again = await calibrate('ours', 'again', { normals, falsePositives: 0 });
    expect(again.card.match(/## Calibrated on/g)).to.have.length(1);
    expect(again.bundle.calibration?.binary?.threshold).to.be.above(
      bundle.calibration?.binary?.threshold ?? 1,
    );
  });

  it('shows in `rxray lint` which thresholds a graph uses', async () => {
    await cp(join(dir, 'ours'), join(dir, 'graph', 'ours'), { recursive: true });
    const file = join(dir, 'graph', 'pipeline.yaml');
    await writeFile(
      file,
      [
        'version: 1',
        'sources: [{ use: watch, with: { path: ./inbox } }]',
        'stages: [{ use: decode }, { use: resize, with: { width: 32, height: 32 } }, { use: resnet, with: { bundle: ./ours } }]',
        'sinks: [{ use: csv, with: { path: ./out.csv } }]',
      ].join('\n'),
    );
    await mkdir(join(dir, 'graph', 'inbox'));
    const { text } = await lintFile(file);
    expect(text).to.match(
      /\nresnet: calibrated on 20 normal films of normal \(\d{4}-\d\d-\d\d\): threshold 0\.\d{3}, specificity 0\.900/,
    );
  });

  it('fits the temperature too where the films have classes', async () => {
    const { bundle } = await calibrate('classifier', 'labelled', { data: join(dir, 'films') });
    expect(bundle.ownCalibration).to.include({ films: 26, normals: 20, temperature: 'fitted' });
    expect(bundle.calibration).to.include({ films: 26 });
    expect(bundle.calibration?.ece?.after).to.be.at.most((bundle.calibration?.ece?.before ?? 0) + 1e-9);
  });

  it('gives an anomaly model the reference of these films, for each of its methods', async () => {
    const { bundle } = await calibrate('anogan', 'our-anogan', { data: join(dir, 'films') });
    for (const method of ['search', 'encoder', 'refine'] as const) {
      const reference = bundle.reference?.[method];
      expect(reference?.scores, method).to.have.length(20);
      expect(reference?.scores.filter((score) => score > reference.threshold)).to.have.length(1);
    }
    expect(bundle.ownCalibration).to.include({ films: 20, normals: 20 }).and.not.have.property('temperature');
  });

  it('reports data that do not fit', async () => {
    const refused = async (bundle: string, options: Partial<Parameters<typeof calibrateFiles>[1]>) => {
      const { text, code } = await calibrateFiles(join(dir, bundle), {
        out: join(dir, 'no'),
        cache: join(dir, 'cache'),
        ...options,
      });
      expect(code).to.equal(2);
      return text;
    };
    const data = join(dir, 'films');
    expect(await refused('classifier', {})).to.match(/^TRAINING_DATA expected films/);
    expect(await refused('classifier', { data, out: join(dir, 'classifier') })).to.match(
      /^BUNDLE_PLACE --out must be another folder/,
    );
    expect(await refused('anogan', { data, normal: 'healthy' })).to.match(
      /^TRAINING_DATA no film is of the class "healthy"/,
    );
    expect(await refused('nothing', { data })).to.match(/no model bundle at/);
  });
});
