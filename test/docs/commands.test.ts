import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'chai';
import { Command } from 'commander';
import sharp from 'sharp';
import { calibrate } from '../../src/cli/calibrate.js';
import { deadletter } from '../../src/cli/deadletter.js';
import { doctor } from '../../src/cli/doctor.js';
import { evaluate } from '../../src/cli/evaluate.js';
import { graph } from '../../src/cli/graph.js';
import { head } from '../../src/cli/head.js';
import { importCommand } from '../../src/cli/import.js';
import { lint } from '../../src/cli/lint.js';
import { newCommand } from '../../src/cli/new.js';
import { phantoms } from '../../src/cli/phantoms.js';
import { plugins } from '../../src/cli/plugins.js';
import { report } from '../../src/cli/report.js';
import { reviews } from '../../src/cli/reviews.js';
import { run } from '../../src/cli/run.js';
import { sample } from '../../src/cli/sample.js';
import { shadow } from '../../src/cli/shadow.js';
import { start } from '../../src/cli/start.js';
import { tap } from '../../src/cli/tap.js';
import { test } from '../../src/cli/test.js';
import { top } from '../../src/cli/top.js';
import { train } from '../../src/cli/train.js';
import { verify } from '../../src/cli/verify.js';
import { work } from '../../src/cli/work.js';
import { phantomFilm } from '../../src/imaging/phantom.js';

const COMMANDS = [deadletter, importCommand, doctor, evaluate, graph, lint, newCommand, plugins, run, sample];
COMMANDS.push(calibrate, phantoms, report, reviews, shadow, start, tap, test, top, train, verify, head, work);

/** Run as it stands there. */
const asShown = 'as shown';
/** Run with these arguments besides, which make it smaller. */
const reduced = (...more: string[]) => ({ more });
/** Not run, for this reason; its command and flags are checked all the same. */
const notRun = (why: string) => ({ why });

const untilCtrlC = notRun('goes on until Ctrl-C: test/cli and test/page run it');
const needsRun = notRun('asks a running process: test/cli/live.test.ts runs it');
const needsFailure = notRun('needs a film that failed, by its id: test/cli/deadletter.test.ts has some');
const needsReview = notRun('needs reviewed films: test/page reviews one');
const needsShadow = notRun('needs films of a run: test/cli/shadow.test.ts has some');
const byPackageTest = notRun('needs the registry: test/package runs it');
const needsCluster = notRun('needs NATS servers: test/cluster runs it');
const minutes = notRun('a benchmark of minutes');
const detector = notRun('trains for minutes: test/training/detector.test.ts trains and judges a small one');
const realFilms = notRun('needs a labelled data set: test/training runs it on phantoms');
const small = reduced('--max-minutes', '1', '--epochs', '1', '--width', '4', '--preprocess', 'small.yaml');

/** What this test does with each command that the docs show. One that is new in the docs has to be added. */
const LIST: Readonly<Record<string, typeof asShown | { more: string[] } | { why: string }>> = {
  'npm ci': notRun('.ci/run runs it'),
  'npm start': notRun('goes on until Ctrl-C: test/cli runs it with --once'),
  'npm start -- --once': notRun('classifies six films: test/cli runs it'),
  'npm test': notRun('it is what runs this'),
  'npm run build': notRun('`npm test` has built it'),
  'npm pack': byPackageTest,
  'npm install --ignore-scripts ~/rxray/rxray-0.1.0.tgz': byPackageTest,
  'npm install': byPackageTest,
  'npm install rxray-sink-email-0.1.0.tgz': byPackageTest,
  'npm run bench': minutes,
  'npm run bench -- --data FOLDER': minutes,
  'npm run bench -- --data FOLDER --anogan': minutes,
  'npm run chaos': minutes,
  'npm run chaos -- --kills 50 --films 500 --hits 1': minutes,
  'npm run soak': minutes,
  'npm run bench:dicom': minutes,
  'npm run bench:graph': minutes,
  'npm run chaos:world': minutes,
  'npm run chaos:streams': minutes,
  'rxray head ward.yaml': needsCluster,
  'rxray work --servers nats://10.0.0.5:4222': needsCluster,
  'rxray train unet --data lungs --out models/lungs': minutes,
  'rxray train retinanet --data boxes.csv --out models/boxes': detector,
  'rxray phantoms films': detector,
  'rxray train retinanet --data films/boxes.csv --out models/boxes': detector,
  'rxray phantoms others -n 100 --seed 9000': detector,
  'rxray evaluate models/boxes --data others/boxes.csv': detector,
  'npm run bench:kernels': minutes,
  'npm run bench:peer': minutes,
  'npm run bench:peer -- --quick': minutes,
  'npm run bench:peer -- --data FOLDER --json figures.json': minutes,
  'npm install @tensorflow/tfjs-node --ignore-scripts=false': notRun(
    'downloads from outside the npm registry',
  ),
  'npm run bench:engine': minutes,
  'npm run bench:engine -- --data FOLDER': minutes,
  'npm run bench:engine -- --only ResNet-18 --profile': minutes,
  'npm run bench:engine -- --json figures.json': minutes,

  'rxray lint': asShown,
  'rxray lint ward.yaml': asShown,
  'rxray lint examples/custom-stage.yaml': asShown,
  'rxray graph': asShown,
  'rxray graph --live -o now.svg': needsRun,
  'rxray plugins clahe': asShown,
  'rxray plugins ./examples/stages/invert.ts': asShown,
  'rxray doctor': asShown,
  'rxray run --once': notRun('with jq, as `rxray run --once --json`'),
  'rxray run --once --json': asShown,
  'rxray run --page': untilCtrlC,
  'rxray run pipeline.yaml --once --part 17/200': notRun(
    'needs a list of films: test/cli/parts.test.ts runs parts',
  ),
  'rxray run ward.yaml': untilCtrlC,
  'rxray run ward.yaml --page': untilCtrlC,
  'rxray run ward.yaml --once': asShown,
  'rxray run ward.yaml --once --again': asShown,
  'rxray run brightness.yaml --once': asShown,
  'rxray run examples/custom-stage.yaml --once --input ./inbox': asShown,
  'rxray top': needsRun,
  'rxray top ward.yaml': needsRun,
  'rxray tap clahe --save look -n 5': needsRun,
  'rxray new pipeline ward': asShown,
  'rxray new stage brightness': asShown,
  'rxray new package rxray-plugin-brightness': asShown,
  'rxray test ward.test.yaml': asShown,
  'rxray test ward.test.yaml --json': asShown,
  'rxray test ward.test.yaml --watch': untilCtrlC,
  'rxray test brightness.test.ts': asShown,
  'rxray test brightness.test.yaml': asShown,
  'rxray phantoms chests -n 4 --size 256': asShown,
  'rxray sample models/chest-anogan -n 4 --out lungs': asShown,
  'rxray sample models/chest-anogan -n 9 --seed 7 --opacities': asShown,
  'rxray deadletter ls': asShown,
  'rxray shadow --since 7d': needsShadow,
  'rxray report ward.yaml --since 24h --out today.html': needsShadow,
  'rxray reviews ls': needsReview,
  'rxray reviews export --out reviews.csv': needsReview,
  'rxray evaluate models/chest-resnet --reviews': needsReview,
  'rxray deadletter show 8c7ad8ad': needsFailure,
  'rxray deadletter replay 8c7ad8ad': needsFailure,
  'rxray deadletter discard 8c7ad8ad': needsFailure,
  'rxray calibrate models/chest-resnet --normals our-normal-films --out models/ours': realFilms,
  'rxray verify models/mine --data films/test': realFilms,
  'rxray evaluate models/mine --data films/test --report report': realFilms,
  'rxray train resnet --data films --out models/mine': realFilms,
  'rxray train resnet --data films --out models/mine --about about.yaml': realFilms,
  'rxray evaluate models/mine --data films --report report': realFilms,
  'rxray train resnet --data films --out models/mine --max-minutes 30': small,
  'rxray train resnet --data films/manifest.csv --out models/chest-resnet': realFilms,
  'rxray train patchcore --data films/manifest.csv --normal normal --out models/chest-patchcore': realFilms,
  'rxray train anogan --data films --out models/mine-anogan': realFilms,
  'rxray train anogan --data films/manifest.csv --normal normal --out models/chest-anogan': realFilms,
  'rxray evaluate models/mine --data films --split test --report out/report': asShown,
};

/** Documents whose commands are run in their order, in one folder. */
const WALKED = ['README.md', 'docs/tutorial.md', 'docs/writing-plugins.md', 'docs/testing.md'];

interface Shown {
  /** The document, relative to the repository. */
  readonly file: string;
  readonly line: number;
  /** Without `npx`, variables before it, what it is piped into, and its comment. */
  readonly text: string;
}

describe('the commands that the docs show', function () {
  this.timeout(300_000);
  let shown: readonly Shown[];

  before(async () => {
    const names = (await readdir('docs')).filter((name) => name.endsWith('.md'));
    const files = ['README.md', ...names.sort().map((name) => join('docs', name))];
    shown = (await Promise.all(files.map(commandsOf))).flat();
  });

  it('are all known to this test, which knows no others', () => {
    const unknown = shown.filter(({ text }) => !(text in LIST));
    expect(unknown.map(({ file, line, text }) => `${file}:${line} ${text}`)).to.deep.equal([]);
    const there = new Set(shown.map(({ text }) => text));
    expect(Object.keys(LIST).filter((text) => !there.has(text))).to.deep.equal([]);
  });

  it('exist, with the flags and arguments that they show', async () => {
    const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: object };
    const faults = shown.flatMap((each) => faultOf(each, Object.keys(scripts)));
    expect(faults).to.deep.equal([]);
  });

  for (const file of WALKED) {
    it(`work, one after the other: ${file}`, async () => {
      const folder = await prepared();
      try {
        for (const { text, line } of shown.filter((each) => each.file === file)) {
          const how = LIST[text];
          if (how === undefined || (typeof how === 'object' && 'why' in how)) continue;
          const args = [...text.split(' ').slice(1), ...(typeof how === 'object' ? how.more : [])];
          const { code, output } = await rxray(args, folder);
          expect(code, `${file}:${line} ${text}\n${output}`).to.equal(0);
        }
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  }

  it('outside of those documents need more than a folder, or are in one of them', () => {
    const run = new Set(shown.filter(({ file }) => WALKED.includes(file)).map(({ text }) => text));
    const others = shown.filter(({ text }) => LIST[text] === asShown && !run.has(text));
    expect(others).to.deep.equal([]);
  });
});

async function commandsOf(file: string): Promise<Shown[]> {
  const shown: Shown[] = [];
  let language: string | undefined;
  for (const [index, line] of (await readFile(file, 'utf8')).split('\n').entries()) {
    const fence = /^\s*```(\w*)/.exec(line);
    if (fence !== null) {
      language = language === undefined ? (fence[1] ?? '') : undefined;
      continue;
    }
    if (language !== 'sh' && !(language === 'console' && line.startsWith('$ '))) continue;
    for (const part of line
      .replace(/^\$ /, '')
      .replace(/\s#\s.*/, '')
      .split(/&&|;/)) {
      const text = part
        .replace(/\|.*/, '')
        .trim()
        .replace(/^([A-Z_]+=\S* )*(npx )?/, '')
        .replaceAll(/\s+/g, ' ');
      if (/^(rxray|npm) /.test(text)) shown.push({ file, line: index + 1, text });
    }
  }
  return shown;
}

/** What `--help` would not agree with. */
function faultOf({ file, line, text }: Shown, scripts: readonly string[]): string[] {
  const [program, ...args] = text.split(' ');
  const fault = (why: string): string[] => [`${file}:${line} ${text}: ${why}`];
  if (program === 'npm') {
    const name =
      args[0] === 'run' ? args[1] : ['start', 'test'].includes(args[0] ?? '') ? args[0] : undefined;
    return name === undefined || scripts.includes(name) ? [] : fault(`there is no script ${name}`);
  }
  let command = new Command('rxray').exitOverride();
  for (const register of COMMANDS) register(command);
  for (
    let sub;
    (sub = command.commands.find((each) => each.name() === args[0])) !== undefined;
    args.shift()
  ) {
    command = sub;
  }
  if (command.parent === null) return fault('there is no such command');
  const { operands, unknown } = command.parseOptions(args);
  if (unknown.length > 0) return fault(`${unknown.join(' ')} is no flag of it`);
  const most = command.registeredArguments;
  if (operands.length > most.length && most.at(-1)?.variadic !== true) return fault('too many arguments');
  return [];
}

/** A folder with everything that the docs speak of: the graph, films, models, examples. */
async function prepared(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-docs-'));
  for (const name of ['pipeline.yaml', 'examples']) await cp(name, join(folder, name), { recursive: true });
  await mkdir(join(folder, 'models'));
  for (const name of ['chest-resnet', 'chest-anogan', 'chest-lungs']) {
    await symlink(resolve('models', name), join(folder, 'models', name));
  }
  await writeFile(join(folder, 'small.yaml'), '- decode\n- use: resize\n  with: { width: 16, height: 16 }\n');
  await mkdir(join(folder, 'inbox'));
  await writeFilm(join(folder, 'inbox', 'phantom.png'), 1);
  let seed = 2;
  for (const [split, count] of Object.entries({ train: 8, val: 4, test: 4 })) {
    for (const label of ['normal', 'pneumonia']) {
      await mkdir(join(folder, 'films', split, label), { recursive: true });
      for (let film = 0; film < count; film++) {
        await writeFilm(join(folder, 'films', split, label, `${film}.png`), seed++);
      }
    }
  }
  return folder;
}

async function writeFilm(path: string, seed: number): Promise<void> {
  const { width, height, channels, data } = phantomFilm({ seed, size: 64 }).image;
  await sharp(data, { raw: { width, height, channels } }).toColourspace('b-w').png().toFile(path);
}

/** The built program, as somebody in that folder would run it. */
async function rxray(args: string[], cwd: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [resolve('dist/cli/main.js'), ...args], {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1', FORCE_COLOR: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}
