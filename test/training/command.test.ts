import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import sharp from 'sharp';
import { readBundle, readBundleFile } from '../../src/models/bundle.js';
import { seededRandom } from '../../src/models/random.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

interface Result {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly stderr: string;
}

/** Runs `rxray train …`; `interruptAfter` sends Ctrl-C after so many lines on stdout. */
async function train(args: readonly string[], interruptAfter = Infinity): Promise<Result> {
  const child = spawn(process.execPath, [CLI, 'train', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const lines: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (lines.length === interruptAfter) child.kill('SIGINT');
  }
  const [code] = await closed;
  return { code, lines, stderr };
}

describe('rxray train', function () {
  this.timeout(120_000);
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-train-'));
    const random = seededRandom(4);
    for (const [label, bright] of [
      ['dark', 0],
      ['light', 120],
    ] as const) {
      await mkdir(join(dir, 'films', label), { recursive: true });
      for (let i = 0; i < 12; i++) {
        const data = Uint8Array.from({ length: 48 * 40 }, () => random() * 80 + bright);
        const film = sharp(data, { raw: { width: 48, height: 40, channels: 1 } });
        await film
          .toColourspace('b-w')
          .png()
          .toFile(join(dir, 'films', label, `${i}.png`));
      }
    }
    await writeFile(join(dir, 'chain.yaml'), '- decode\n- use: resize\n  with: { width: 32, height: 32 }\n');
    await writeFile(join(dir, 'square.yaml'), '- decode\n- use: resize\n  with: { width: 64, height: 64 }\n');
    await writeFile(
      join(dir, 'about.yaml'),
      'name: Toy films\nlicense: CC0-1.0\nsource: Drawn by a test.\nlimits: [They show nothing.]\n',
    );
  });
  after(() => rm(dir, { recursive: true }));

  const usual = (out: string, chain = 'chain.yaml'): string[] => [
    ...['--data', join(dir, 'films'), '--out', join(dir, out), '--preprocess', join(dir, chain)],
    ...[
      '--about',
      join(dir, 'about.yaml'),
      '--cache',
      join(dir, 'cache'),
      '--validation',
      '0.25',
      '--width',
      '4',
    ],
  ];
  const resnet = (out: string): string[] => [
    'resnet',
    ...usual(out),
    '--batch',
    '6',
    // Enough of them that Ctrl-C after the first comes before the last, however busy the machine is.
    '--epochs',
    '12',
    '--patience',
    '12',
    '--json',
  ];

  it('says that a limit with a colon, which YAML reads as a map, needs quotes', async () => {
    const about = join(dir, 'colon.yaml');
    await writeFile(
      about,
      'name: Toy\nlicense: CC0-1.0\nsource: Drawn.\nlimits:\n  - Of no use: AUROC 0.5.\n',
    );
    const { code, stderr } = await train([...resnet('colon'), '--about', about]);
    expect(code).to.equal(2);
    expect(stderr).to.include('colon.yaml').and.include('quote it').and.include('limits[0]');
  });

  it('resnet: writes a bundle with the chain, the labels, the figures and a card', async () => {
    const { code, lines, stderr } = await train(resnet('classifier'));
    expect(code, stderr).to.equal(0);
    const rows = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows.slice(0, 12).map((row) => row.epoch)).to.deep.equal([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    const bundle = await readBundle(join(dir, 'classifier'));
    expect(bundle).to.include({ kind: 'classifier', name: 'classifier' });
    expect(bundle.labels).to.deep.equal(['dark', 'light']);
    expect(bundle.input).to.deep.include({ width: 32, height: 32, channels: 1 });
    expect(bundle.preprocessing.map(({ use }) => use)).to.deep.equal(['decode', 'resize']);
    expect(bundle.preprocessing[1]?.with).to.include({ width: 32, interpolation: 'area' });
    expect(bundle.data.counts).to.deep.equal({ train: { dark: 9, light: 9 }, val: { dark: 3, light: 3 } });
    expect(bundle.training).to.include({ seed: 1, depth: 18 });
    expect(rows[12]?.metrics).to.deep.equal(bundle.metrics);
    await readBundleFile(join(dir, 'classifier'), bundle, 'model');
    const card = await readFile(join(dir, 'classifier', 'README.md'), 'utf8');
    for (const part of [
      'Not a medical device',
      'Toy films, CC0-1.0',
      'They show nothing.',
      'balancedAccuracy',
    ]) {
      expect(card).to.include(part);
    }
  });

  it('says that its minutes are over, and states no licence if none is given', async () => {
    const args = resnet('hurried');
    args.splice(args.indexOf('--about'), 2);
    const { code, stderr } = await train([...args, '--max-minutes', '0']);
    expect(code, stderr).to.equal(0);
    expect(stderr).to.match(/0 minutes \(--max-minutes\) are over: .* before its 12 epochs.*--resume/);
    const { data, license } = await readBundle(join(dir, 'hurried'));
    expect(data.validation).to.have.length(6);
    expect(license).to.equal('unknown');
    const card = await readFile(join(dir, 'hurried', 'README.md'), 'utf8');
    expect(card)
      .to.contain('films. The licence and source of the films are not stated.')
      .and.contain('Weights: licence not stated.');
  });

  it('continues after Ctrl-C with the same result', async () => {
    const stopped = await train(resnet('interrupted'), 1);
    expect(stopped.code).to.equal(1);
    expect(stopped.stderr).to.include('repeat the command with --resume');
    expect(await readdir(dir))
      .to.include('interrupted.checkpoint')
      .and.not.include('interrupted');
    const resumed = await train([...resnet('interrupted'), '--resume']);
    expect(resumed.code, resumed.stderr).to.equal(0);
    const [one, other] = await Promise.all(
      ['classifier', 'interrupted'].map((name) => readBundle(join(dir, name))),
    );
    expect(other?.metrics).to.deep.equal(one?.metrics);
  });

  it('resnet --preset original: its settings, unless others are given beside it', async () => {
    const films = [...usual('original', 'square.yaml'), '--depth', '18', '--epochs', '1', '--batch', '6'];
    const { code, stderr } = await train(['resnet', ...films, '--preset', 'original']);
    expect(code, stderr).to.equal(0);
    const { training } = await readBundle(join(dir, 'original'));
    expect(training).to.include({ depth: 18, width: 4, epochs: 1, batchSize: 6 });
    expect(training).to.include({
      head: 'flatten128',
      frozenBase: true,
      optimizer: 'adam',
      schedule: 'constant',
    });
    expect(training.augmentation).to.deep.include({ rotate: 20, flip: 0.5, brightnessRange: [0.2, 0.2] });
  });

  it('anogan: writes a bundle with reference scores and how they were made', async () => {
    const args = [
      'anogan',
      ...usual('gan', 'square.yaml'),
      '--normal',
      'dark',
      '--batch',
      '2',
      '--epochs',
      '1',
    ];
    const { code, lines, stderr } = await train([
      ...args,
      ...['--steps', '2', '--lambda', '0.2', '--encoder-epochs', '1'],
    ]);
    expect(code, stderr).to.equal(0);
    expect(lines[0]).to.match(/^epoch 1\/1 {2}D \d/);
    expect(lines[1]).to.match(/^encoder epoch 1\/1 {2}image \d/);
    const bundle = await readBundle(join(dir, 'gan'));
    expect(bundle.kind).to.equal('anogan');
    expect(bundle.input).to.deep.include({ width: 64, height: 64, mean: [0.5], std: [0.5] });
    expect(bundle.reference).to.have.all.keys('search', 'encoder', 'refine');
    expect(bundle.reference?.search?.settings).to.deep.equal({
      steps: 2,
      lambda: 0.2,
      learningRate: 0.05,
      restarts: 2,
      tolerance: 0,
    });
    const scores = bundle.reference?.search?.scores ?? [];
    expect(scores).to.have.length(2);
    expect(scores).to.deep.equal([...scores].sort((a, b) => a - b));
    expect(Object.keys(bundle.files)).to.have.members(['features', 'search', 'encoder', 'pca']);
  });

  it('does not begin if films cannot be read, and names them, unless they are to be left out', async () => {
    const films = join(dir, 'damaged');
    await cp(join(dir, 'films'), films, { recursive: true });
    await writeFile(join(films, 'dark', 'bad.png'), 'no image at all');
    await writeFile(join(films, 'light', 'empty.png'), '');
    const args = ['resnet', ...usual('skipping'), '--data', films, '--batch', '6', '--epochs', '1'];
    const refused = await train(args);
    expect(refused.code).to.equal(2);
    expect(refused.stderr).to.match(
      /TRAINING_DATA 2 films cannot be read:\n {2}light\/empty\.png: the file is empty/,
    );
    expect(refused.stderr).to.match(/\n {2}dark\/bad\.png: \w.*\n.*--skip-unreadable/);
    const skipping = await train([...args, '--skip-unreadable']);
    expect(skipping.code, skipping.stderr).to.equal(0);
    expect(skipping.stderr).to.include('2 films left out because they cannot be read');
    const { data } = await readBundle(join(dir, 'skipping'));
    expect(data.counts).to.deep.equal({ train: { dark: 9, light: 9 }, val: { dark: 3, light: 3 } });
  });

  it('refuses a --size that is not that of the --preprocess file, and takes the same one', async () => {
    const other = await train([...resnet('sized'), '--size', '64']);
    expect(other.code).to.equal(2);
    expect(other.stderr)
      .to.include('--size 64: ')
      .and.include('chain.yaml resizes to 32×32: leave out --size');
    for (const args of [
      ['--size', '32'],
      ['--preset', 'original'],
    ]) {
      const same = await train([...resnet('sized'), ...args, '--data', join(dir, 'nowhere')]);
      expect(same.stderr).to.include('TRAINING_DATA expected a manifest');
    }
  });

  it('names the file and the step of a faulty chain before the films are read', async () => {
    await writeFile(join(dir, 'lost.yaml'), '- decode\n- use: unet\n  with: { bundle: ./lost }\n');
    const args = [...usual('x', 'lost.yaml'), '--data', join(dir, 'nowhere')];
    const { code, stderr } = await train(['resnet', ...args]);
    expect(code).to.equal(2);
    expect(stderr).to.match(/^TRAINING_DATA .*lost\.yaml: preprocessing step 2 "unet": no model bundle at /);
  });

  it('ends with 2 and the reason when the data or the options are wrong', async () => {
    const nowhere = await train(['resnet', '--data', join(dir, 'nowhere'), '--out', join(dir, 'x')]);
    expect(nowhere.code).to.equal(2);
    expect(nowhere.stderr).to.include('TRAINING_DATA expected a manifest (CSV) or a folder of classes');
    const class_ = await train(['anogan', ...usual('x', 'square.yaml'), '--normal', 'healthy']);
    expect(class_.code).to.equal(2);
    expect(class_.stderr).to.include('there is no class "healthy": the data have dark, light');
    const option = await train(['resnet', '--data', dir, '--out', 'x', '--depth', '19']);
    expect(option.code).to.equal(2);
    expect(option.stderr).to.include('expected 18, 34, 50');
    const augment = await train(['resnet', '--data', dir, '--out', 'x', '--augment', 'spin=3']);
    expect(augment.code).to.equal(2);
    expect(augment.stderr).to.include('Unrecognized key: "spin"');
  });
});
