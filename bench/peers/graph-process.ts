/**
 * The demo graph in a process of its own, so that its memory is its own. `bench/peer.ts` compiles this file and runs it with:
 *
 *     run FOLDER        the graph over a folder of films → {@link GraphRun}
 *     parts FOLDER N    each part alone in one thread → milliseconds of CPU per film
 *     network SECONDS   the network alone on all cores → films per second
 *
 * It prints one line of JSON.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import workerThreads from 'node:worker_threads';
import { syncBuiltinESMExports } from 'node:module';
import type { Frame, Image } from '../../src/core/frame.js';
import type { FrameStage, Services } from '../../src/core/plugin.js';

const BUNDLE = resolve(import.meta.dirname, '../../models/chest-resnet');
/** Films that the network takes at a time. */
const BATCH = 16;
const CHAIN = [
  { use: 'decode', with: {} },
  { use: 'clahe', with: { clipLimit: 2, tileGridSize: 8 } },
  { use: 'resize', with: { width: 128, height: 128 } },
] as const;

export interface GraphRun {
  readonly films: number;
  /** From the moment at which the graph is made until the last film is in the CSV file. */
  readonly seconds: number;
  /** User and system time of all threads in that time. */
  readonly cpuSeconds: number;
  /** The same by kind of thread. */
  readonly threads: Readonly<Record<string, number>>;
  readonly peakBytes: number;
}

/** Milliseconds of CPU per film, by part. */
export type Parts = Readonly<Record<string, number>>;

const lab = mkdtempSync(join(tmpdir(), 'rxray-bench-peer-'));
const notes = join(lab, 'threads');
writeFileSync(notes, '');
// Threads that V8 has for compiling and collecting are there already, the others come later.
const helpers = threadTimes();
nameThreads();
const built = await import('../built.js');

const [mode, folder = '', count = ''] = process.argv.slice(2);
try {
  const answer =
    mode === 'run'
      ? await run(folder)
      : mode === 'parts'
        ? await parts(folder, Number(count))
        : await network(Number(folder));
  console.log(JSON.stringify(answer));
} finally {
  rmSync(lab, { recursive: true, force: true });
}
process.exit(0);

async function run(inbox: string): Promise<GraphRun> {
  const file = join(lab, 'pipeline.yaml');
  const graph = {
    version: 1,
    sources: [{ use: 'watch', with: { path: inbox } }],
    stages: [...CHAIN, { use: 'resnet', with: { bundle: BUNDLE }, batch: { size: BATCH } }],
    sinks: [{ use: 'csv', with: { path: './out.csv' } }],
  };
  writeFileSync(file, JSON.stringify(graph));
  const { pipeline, issues } = await built.loadPipeline(file, built.builtInRegistry());
  if (pipeline === undefined) throw new Error(issues.map(({ message }) => message).join('\n'));
  const host = built.createHost(built.createLog());
  const total = readdirSync(inbox).length;
  const handle = await built.startPipeline(pipeline, host, { once: true });
  const start = { at: performance.now(), cpu: process.cpuUsage(), threads: threadTimes() };
  let end = start;
  let films = 0;
  handle.settled$.subscribe(() => {
    films += 1;
    // Before the threads end, which takes their times with them.
    if (films === total)
      end = { at: performance.now(), cpu: process.cpuUsage(start.cpu), threads: threadTimes() };
  });
  const { done, failed } = await handle.finished;
  await host.unbindAllAsync();
  const rows = readFileSync(join(lab, 'out.csv'), 'utf8').trimEnd().split('\n').length - 1;
  if (done !== total || rows !== total) {
    throw new Error(`${total} films: ${done} done, ${failed} failed, ${rows} rows in the CSV`);
  }
  return {
    films: total,
    seconds: (end.at - start.at) / 1000,
    cpuSeconds: (end.cpu.user + end.cpu.system) / 1e6,
    threads: byKind(start.threads, end.threads),
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function parts(inbox: string, films: number): Promise<Parts> {
  const registry = built.builtInRegistry();
  const stages = await Promise.all(
    CHAIN.map(async ({ use, with: settings }) => {
      const { plugin } = await registry.load('stage', use, lab);
      const stage = await plugin.create(plugin.options.parse(settings), { stateDir: lab } as Services &
        Record<string, never>);
      return { use, stage: stage as FrameStage };
    }),
  );
  const { session, input, bundle } = await networkOf(1);
  const spent: Record<string, number> = {};
  const timed = async <T>(part: string, work: () => T | Promise<T>): Promise<T> => {
    const before = process.cpuUsage();
    const made = await work();
    const { user, system } = process.cpuUsage(before);
    spent[part] = (spent[part] ?? 0) + (user + system) / 1000;
    return made;
  };
  const names = readdirSync(inbox);
  const once = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += BATCH) {
      const images: Image[] = [];
      for (let i = at; i < Math.min(at + BATCH, count); i++) {
        const path = join(inbox, names[i % names.length] ?? '');
        const encoded = await timed('read and hash', () => {
          const bytes = readFileSync(path);
          createHash('sha256').update(bytes).digest('hex');
          return bytes;
        });
        let frame: Frame = {
          id: '',
          origin: { name: path } as Frame['origin'],
          encoded,
          meta: {},
          results: {},
        };
        for (const { use, stage } of stages) {
          const given = frame;
          frame = await timed(use, () => stage.process(given));
        }
        if (frame.image !== undefined) images.push(frame.image);
      }
      const tensor = await timed('tensor', () => built.inputTensor(images, bundle.input));
      await timed('network', () => session.run({ [input]: tensor }));
    }
  };
  // Twice: what compiles the code is no part of a film.
  await once(Math.min(films, 2 * BATCH));
  for (const part of Object.keys(spent)) spent[part] = 0;
  await once(films);
  await session.dispose();
  return Object.fromEntries(Object.entries(spent).map(([part, ms]) => [part, ms / films]));
}

/** What the network makes when nothing else runs: films per second. */
async function network(seconds: number): Promise<number> {
  const { session, input, bundle } = await networkOf(availableParallelism());
  const { width, height } = bundle.input;
  const film = { width, height, channels: 1, data: new Uint8Array(width * height).fill(128) };
  const feeds = { [input]: built.inputTensor(Array<typeof film>(BATCH).fill(film), bundle.input) };
  await session.run(feeds);
  const start = performance.now();
  let batches = 0;
  for (; performance.now() - start < seconds * 1000; batches += 1) await session.run(feeds);
  const rate = (1000 * batches * BATCH) / (performance.now() - start);
  await session.dispose();
  return rate;
}

async function networkOf(threads: number) {
  const bundle = await built.readBundle(BUNDLE);
  const session = await new built.Engine().load(join(BUNDLE, bundle.files['model']?.path ?? ''), {
    threads,
    device: 'cpu',
  });
  return { session, input: session.inputs[0]?.name ?? '', bundle };
}

// ── CPU time by thread ──────────────────────────────────────────────────────────────────────────────

/** Has every worker thread note its number and its program, which no one else can tell. */
function nameThreads(): void {
  const note =
    "import { appendFileSync, readFileSync } from 'node:fs';" +
    `appendFileSync(${JSON.stringify(notes)}, readFileSync('/proc/thread-self/stat', 'utf8').split(' ')[0] + ' NAME\\n');`;
  workerThreads.Worker = class extends workerThreads.Worker {
    constructor(file: string | URL, options: workerThreads.WorkerOptions = {}) {
      // The last two folders of its path say what it is for.
      const name = String((options.workerData as { filename?: string } | undefined)?.filename ?? file)
        .split('/')
        .slice(-2)
        .join('/');
      const code = `data:text/javascript,${encodeURIComponent(note.replace('NAME', name))}`;
      super(file, { ...options, execArgv: [...(options.execArgv ?? process.execArgv), '--import', code] });
    }
  };
  syncBuiltinESMExports();
}

/** Seconds of CPU by thread; empty where there is no /proc. */
function threadTimes(): ReadonlyMap<string, number> {
  try {
    const threads = readdirSync('/proc/self/task');
    return new Map(
      threads.map((thread) => {
        const [ns = '0'] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ');
        return [thread, Number(ns) / 1e9];
      }),
    );
  } catch {
    return new Map();
  }
}

function byKind(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Record<string, number> {
  const names = new Map(
    readFileSync(notes, 'utf8')
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
  const kinds: Record<string, number> = {};
  for (const [thread, seconds] of after) {
    const named = names.get(thread) ?? (helpers.has(thread) ? 'V8' : 'native');
    const kind = thread === String(process.pid) ? 'main' : named;
    kinds[kind] = (kinds[kind] ?? 0) + seconds - (before.get(thread) ?? 0);
  }
  return kinds;
}
