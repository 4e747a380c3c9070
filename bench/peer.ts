/**
 * The demo graph beside the Python script that does the same job (`bench/peers/pipeline.py`), by turns:
 *
 *     npm run bench:peer                           four kinds of films, about a quarter of an hour on two cores
 *     npm run bench:peer -- --quick                the same with fewer films, about four minutes
 *     npm run bench:peer -- --data FOLDER          the PNG and JPEG films of a folder instead
 *     npm run bench:peer -- --only 224             the kinds whose name begins so
 *     npm run bench:peer -- --json figures.json    [{ work, ours, peer, ratio }] in films per second
 *     npm run bench:peer -- --venv FOLDER          Python's packages (or RXRAY_PEER_VENV; default .rxray/peer/venv)
 *
 * Installs PyTorch and OpenCV into the virtual environment if they are missing (3 GB). The script runs with one and two
 * loader processes and with one and two threads; its fastest mode counts. Prints the ratio, CPU time a film on both
 * sides, peak memory, and where the CPU time goes.
 */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { build } from 'esbuild';
import sharp from 'sharp';
import { phantomFilm } from './built.js';
import type { GraphRun, Parts } from './peers/graph-process.js';
import { vectorWidth } from './vector-width.js';

const ROOT = resolve(import.meta.dirname, '..');
const CACHE = join(ROOT, '.rxray', 'peer');
const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    data: { type: 'string' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
    venv: { type: 'string', default: process.env['RXRAY_PEER_VENV'] ?? join(CACHE, 'venv') },
  },
});
const ROUNDS = flags.quick ? 1 : 3;
/** Of the films that a whole run takes, the share that is enough for finding the script's fastest mode. */
const TRIAL = 4;

interface Kind {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly format: 'jpeg' | 'png16';
  /** In one run. */
  readonly films: number;
}
const KINDS: readonly Kind[] = [
  { name: '224×224 JPEG', width: 224, height: 224, format: 'jpeg', films: 5216 },
  { name: '1024×1024 JPEG', width: 1024, height: 1024, format: 'jpeg', films: 800 },
  { name: '2500×2048 JPEG', width: 2500, height: 2048, format: 'jpeg', films: 240 },
  { name: '1024×1024 PNG, 16 bit', width: 1024, height: 1024, format: 'png16', films: 400 },
];

interface PythonRun {
  readonly films: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
}
interface Mode {
  readonly loaders: number;
  readonly threads: number;
}
const MODES: readonly Mode[] = [1, 2].flatMap((loaders) => [1, 2].map((threads) => ({ loaders, threads })));

const folder = await mkdtemp(join(tmpdir(), 'rxray-bench-peer-'));

// ── films ───────────────────────────────────────────────────────────────────────────────────────────

/** Synthetic films; four different ones, copied, since neither side remembers any. */
async function filmsOf({ name, width, height, format, films }: Kind): Promise<string> {
  const inbox = join(folder, name);
  await mkdir(inbox);
  const extension = format === 'jpeg' ? 'jpg' : 'png';
  for (let i = 0; i < films; i += 1) {
    const path = join(inbox, `film-${String(i).padStart(5, '0')}.${extension}`);
    if (i >= 4) {
      await copyFile(join(inbox, `film-0000${i % 4}.${extension}`), path);
      continue;
    }
    const size = Math.max(width, height);
    const { image } = phantomFilm({ seed: i + 1, size, opacities: i % 2, bits: format === 'jpeg' ? 8 : 16 });
    const pixels = sharp(image.data, { raw: { width: size, height: size, channels: 1 } })
      .toColourspace(format === 'jpeg' ? 'b-w' : 'grey16')
      .extract({ left: 0, top: 0, width, height });
    await (format === 'jpeg' ? pixels.jpeg({ quality: 90 }) : pixels.png()).toFile(path);
  }
  return inbox;
}

/** Copies of the PNG and JPEG files of a folder, side by side. */
async function copied(data: string): Promise<string> {
  const inbox = join(folder, 'data');
  await mkdir(inbox);
  const files = readdirSync(data, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.(jpe?g|png)$/i.test(name),
  );
  for (const [i, name] of files.entries()) {
    await copyFile(
      join(data, name),
      join(inbox, `film-${String(i).padStart(5, '0')}${extname(name).toLowerCase()}`),
    );
  }
  return inbox;
}

// ── both sides ──────────────────────────────────────────────────────────────────────────────────────

/** The script, which stays loaded and answers one request after the other. */
class Python {
  versions = '';
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(python: string) {
    this.#process = spawn(python, ['-W', 'ignore', join(import.meta.dirname, 'peers/pipeline.py')]);
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  static async start(python: string): Promise<Python> {
    const started = new Python(python);
    started.versions = ((await started.#answer()) as { versions: string }).versions;
    return started;
  }

  run(inbox: string, mode: Mode): Promise<PythonRun> {
    return this.#ask({
      do: 'run',
      folder: inbox,
      ...mode,
      csv: join(folder, 'python.csv'),
    }) as Promise<PythonRun>;
  }

  parts(inbox: string, films: number): Promise<Parts> {
    return this.#ask({ do: 'parts', folder: inbox, films }) as Promise<Parts>;
  }

  /** Bytes that it and its loader processes hold; what several share counts once. */
  get bytes(): number {
    const pid = String(this.#process.pid);
    try {
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
      return [pid, ...children]
        .filter((each) => each !== '')
        .reduce((sum, each) => {
          const [, kib = '0'] =
            /^Pss: +(\d+)/m.exec(readFileSync(`/proc/${each}/smaps_rollup`, 'utf8')) ?? [];
          return sum + Number(kib) * 1024;
        }, 0);
    } catch {
      return 0;
    }
  }

  end(): void {
    this.#process.kill();
  }

  #ask(request: object): Promise<unknown> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    return this.#answer();
  }

  async #answer(): Promise<unknown> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('the Python script could not be started, or ended');
    return JSON.parse(line.value) as unknown;
  }
}

/** The Python of the virtual environment, with what the script imports. */
function pythonWithPackages(): string {
  const python = join(flags.venv, 'bin', 'python');
  const run = (command: string, ...args: string[]): boolean =>
    spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
  if (existsSync(python) && run(python, '-c', 'import cv2, torch, torchvision')) return python;
  console.log(`installing PyTorch and OpenCV into ${flags.venv} (3 GB)`);
  const made =
    run('python3', '-m', 'venv', flags.venv) &&
    run(python, '-m', 'pip', 'install', '--quiet', 'torch', 'torchvision', 'opencv-python-headless');
  if (!made) throw new Error('the Python packages could not be installed');
  return python;
}

const PROGRAM = join(folder, 'graph-process.mjs');

/** Makes JavaScript of the graph's process: users run no TypeScript, whose loader takes time and memory in every thread. */
async function compileGraphProcess(): Promise<void> {
  const peers = join(import.meta.dirname, 'peers');
  await build({
    entryPoints: [join(peers, 'graph-process.ts')],
    outfile: PROGRAM,
    bundle: true,
    platform: 'node',
    format: 'esm',
    define: {
      'import.meta.dirname': JSON.stringify(peers),
      'import.meta.url': JSON.stringify(pathToFileURL(join(import.meta.dirname, 'built.ts')).href),
    },
  });
}

/** The graph in a process of its own. */
async function graphProcess<T>(...args: string[]): Promise<T> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  for await (const chunk of child.stdout) said += String(chunk);
  const last = said.trimEnd().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(last) as T;
  } catch {
    throw new Error(`the graph's process ended without an answer: ${last}`);
  }
}

// ── the comparison ──────────────────────────────────────────────────────────────────────────────────

interface Figure {
  readonly work: string;
  /** Films per second. */
  readonly ours: number;
  readonly peer: number;
  readonly ratio: number;
}

/** `besideNetwork`: the network alone takes its turn, too. */
async function compare(work: string, inbox: string, python: Python, besideNetwork = false): Promise<Figure> {
  const names = readdirSync(inbox);
  const trial = join(folder, 'trial');
  await mkdir(trial);
  for (const name of names.slice(0, Math.ceil(names.length / TRIAL)))
    await copyFile(join(inbox, name), join(trial, name));
  let mode = MODES[0] as Mode;
  let fastest = 0;
  for (const each of MODES) {
    const { films, seconds } = await python.run(trial, each);
    if (films / seconds > fastest) [mode, fastest] = [each, films / seconds];
  }
  await rm(trial, { recursive: true });

  const rounds: { ours: GraphRun; peer: PythonRun }[] = [];
  const alone: number[] = [];
  let pythonBytes = 0;
  for (let i = 0; i < ROUNDS; i += 1) {
    if (besideNetwork) alone.push(await graphProcess<number>('network', flags.quick ? '3' : '10'));
    // By turns, and neither always first: the speed of a machine with guests wanders.
    const ours = (): Promise<GraphRun> => graphProcess<GraphRun>('run', inbox);
    const peer = async (): Promise<PythonRun> => {
      const look = setInterval(() => (pythonBytes = Math.max(pythonBytes, python.bytes)), 500);
      const run = await python.run(inbox, mode);
      clearInterval(look);
      return run;
    };
    if (i % 2 === 0) rounds.push({ ours: await ours(), peer: await peer() });
    else {
      const first = await peer();
      rounds.push({ ours: await ours(), peer: first });
    }
  }
  const sample = Math.min(names.length, Math.max(32, Math.ceil(names.length / 8)));
  const ourParts = await graphProcess<Parts>('parts', inbox, String(sample));
  const peerParts = await python.parts(inbox, sample);

  const rates = rounds.map(
    ({ ours, peer }) => [ours.films / ours.seconds, peer.films / peer.seconds] as const,
  );
  const ours = median(rates.map(([rate]) => rate));
  const peer = median(rates.map(([, rate]) => rate));
  const ratio = median(rates.map(([mine, theirs]) => mine / theirs));
  const cpu = median(rounds.map((round) => (1000 * round.ours.cpuSeconds) / round.ours.films));
  const peerCpu = median(rounds.map((round) => (1000 * round.peer.cpuSeconds) / round.peer.films));
  const peak = Math.max(...rounds.map((round) => round.ours.peakBytes));
  console.log(
    `\n${work}, ${names.length} films: rxray ${ours.toFixed(1)} films/s, Python ${peer.toFixed(1)} ` +
      `(${mode.loaders} loaders, ${mode.threads} threads), ratio ${ratio.toFixed(2)} ` +
      `(${rates.map(([mine, theirs]) => (mine / theirs).toFixed(2)).join(', ')})\n` +
      `CPU a film ${cpu.toFixed(2)} and ${peerCpu.toFixed(2)} ms; peak memory ${mib(peak)} and ${mib(pythonBytes)}`,
  );
  printParts(ourParts, cpu, rounds, peerParts, peerCpu);
  if (besideNetwork) {
    const shares = alone.map((rate, i) => (rates[i]?.[0] ?? NaN) / rate);
    console.log(
      `the network alone makes ${median(alone).toFixed(1)} films/s: the graph reaches ${percent(median(shares))} ` +
        `of it (${shares.map(percent).join(', ')})`,
    );
  }
  return { work, ours, peer, ratio };
}

/** The names of the threads that are no part of a film's own work. */
const AROUND: Readonly<Record<string, string>> = {
  main: 'main thread',
  'journal/thread.js': 'journal',
  V8: "V8's helpers (compiler, collector)",
};

/**
 * Where the CPU time of a film goes: each part measured alone in one thread, then the threads around them as they were in the
 * run. What the run took beyond that is the last line.
 */
function printParts(
  parts: Parts,
  cpu: number,
  rounds: readonly { ours: GraphRun }[],
  peerParts: Parts,
  peerCpu: number,
): void {
  const table = new Table({
    head: ['part, ms of CPU a film', 'rxray', 'Python'],
    colAligns: ['left', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  const row = (name: string, ours: number | undefined, peer: number | undefined): void => {
    table.push([name, ours?.toFixed(2) ?? '', peer?.toFixed(2) ?? '']);
  };
  const { 'read and hash': read = 0, decode = 0, clahe, resize, tensor, network } = parts;
  row('read, hash and decode', read + decode, peerParts['read and decode']);
  row('CLAHE', clahe, peerParts['CLAHE']);
  row('resize', resize, peerParts['resize']);
  row('tensor', tensor, peerParts['tensor']);
  row('network', network, peerParts['network']);
  let around = 0;
  for (const [thread, name] of Object.entries(AROUND)) {
    const ms = median(rounds.map(({ ours }) => (1000 * (ours.threads[thread] ?? 0)) / ours.films));
    around += ms;
    row(name, ms, undefined);
  }
  const sum = (values: Parts): number => Object.values(values).reduce((total, value) => total + value, 0);
  const [rest, peerRest] = [cpu - around - sum(parts), peerCpu - sum(peerParts)];
  row('the rest', rest, peerRest);
  row('together', cpu, peerCpu);
  console.log(table.toString());
  console.log(
    `the rest is ${percent(rest / cpu)} of rxray's time and ${percent(peerRest / peerCpu)} of the script's`,
  );
  const threads = [...new Set(rounds.flatMap(({ ours }) => Object.keys(ours.threads)))].map((thread) => {
    const ms = median(rounds.map(({ ours }) => (1000 * (ours.threads[thread] ?? 0)) / ours.films));
    return `${thread} ${ms.toFixed(2)}`;
  });
  console.log(`by thread: ${threads.join(', ')} ms`);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
}

function mib(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

try {
  await compileGraphProcess();
  const python = await Python.start(pythonWithPackages());
  try {
    const [model = 'unknown CPU'] = cpus().map((cpu) => cpu.model);
    console.log(
      `${model} (${vectorWidth()}), ${availableParallelism()} threads, Node ${process.version}, ${python.versions}, ` +
        `load ${loadavg()[0]?.toFixed(1) ?? '?'}`,
    );
    const figures: Figure[] = [];
    if (flags.data !== undefined)
      figures.push(await compare('data', await copied(resolve(flags.data)), python));
    else {
      for (const kind of KINDS.filter(({ name }) => name.startsWith(flags.only))) {
        const films = flags.quick ? kind.films / 4 : kind.films;
        const inbox = await filmsOf({ ...kind, films });
        figures.push(await compare(kind.name, inbox, python, kind === KINDS[0]));
        await rm(inbox, { recursive: true });
      }
    }
    if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
  } finally {
    python.end();
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
