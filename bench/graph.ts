/**
 * What the graph costs beside the work in it:
 *
 *     npm run bench:graph                          everything (about seven minutes on two cores)
 *     npm run bench:graph -- --only overhead       four stages that do nothing, with the journal and without
 *     npm run bench:graph -- --only waiting        the same, with more and more files waiting
 *     npm run bench:graph -- --only end-to-end     folder to CSV through a ResNet, beside the bound of its work
 *
 * Times per frame are taken from the moment at which a tenth of the films is through, so that they hold no start.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';
import { ADMITTED, concluded } from '../src/core/fate.js';
import type { Conclusion } from '../src/core/journal/protocol.js';
import type { Journal as JournalType } from '../src/core/journal/journal.js';
import {
  builtInRegistry,
  clahe,
  createHost,
  createLog,
  decode,
  inputTensor,
  Journal,
  loadPipeline,
  phantomFilm,
  readBundle,
  resize,
  startPipeline,
} from './built.js';

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    films: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '20' },
  },
});
const BUNDLE = resolve(import.meta.dirname, '../models/chest-resnet');
const CORES = availableParallelism();
/** Films a model takes at a time. */
const BATCH = 16;

const folder = await mkdtemp(join(tmpdir(), 'rxray-bench-graph-'));
let runs = 0;

interface Timing {
  /** Per film. */
  readonly wallUs: number;
  /** User and system time of all threads, per film. */
  readonly cpuUs: number;
  readonly peakBytes: number;
}

/** Runs the graph over the films to its end. */
async function measure(graph: object, inbox: string): Promise<Timing> {
  const lab = join(folder, `run-${(runs += 1)}`);
  await mkdir(lab);
  const file = join(lab, 'pipeline.yaml');
  await writeFile(file, JSON.stringify({ version: 1, ...graph }));
  const { pipeline, issues } = await loadPipeline(file, builtInRegistry(), { input: inbox });
  if (pipeline === undefined) throw new Error(issues.map(({ message }) => message).join('\n'));
  const host = createHost(createLog());
  const run = await startPipeline(pipeline, host, { once: true });
  const marks: { films: number; at: number; cpu: NodeJS.CpuUsage }[] = [];
  let films = 0;
  let peakBytes = 0;
  run.settled$.subscribe(() => {
    films += 1;
    if (films % 50 !== 0) return;
    marks.push({ films, at: performance.now(), cpu: process.cpuUsage() });
    peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
  });
  const { done, failed } = await run.finished;
  await host.unbindAllAsync();
  if (failed > 0) throw new Error(`${failed} films failed`);
  const first = marks.find((mark) => mark.films >= done / 10);
  const last = marks.at(-1);
  if (first === undefined || last === undefined || first === last)
    throw new Error('too few films to measure');
  const count = last.films - first.films;
  const cpu = last.cpu.user + last.cpu.system - first.cpu.user - first.cpu.system;
  return { wallUs: ((last.at - first.at) * 1000) / count, cpuUs: cpu / count, peakBytes };
}

// ── overhead ────────────────────────────────────────────────────────────────────────────────────────

const PASS = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'pass', summary: 'Does nothing.', options: z.strictObject({}), create: () => ({ process: (frame) => frame }),
});`;
const NOWHERE = `
import { defineSink, z } from 'rxray';
export default defineSink({
  name: 'nowhere', summary: 'Keeps nothing.', options: z.strictObject({}), maxBatch: 256,
  create: () => ({ write: async () => undefined }),
});`;

/** Four stages that do nothing, and a sink that keeps nothing. */
async function emptyGraph(): Promise<object> {
  await writeFile(join(folder, 'pass.ts'), PASS);
  await writeFile(join(folder, 'nowhere.ts'), NOWHERE);
  return {
    sources: [{ use: 'watch', with: { path: './inbox' } }],
    stages: ['a', 'b', 'c', 'd'].map((id) => ({ id, use: join(folder, 'pass.ts') })),
    sinks: [{ use: join(folder, 'nowhere.ts') }],
  };
}

/** Files of 100 bytes: reading them is part of the overhead. */
async function smallFiles(count: number): Promise<string> {
  const inbox = join(folder, `small-${count}`);
  await mkdir(inbox);
  for (let i = 0; i < count; i += 1) {
    await writeFile(join(inbox, `${String(i).padStart(6, '0')}.png`), String(i).padEnd(100, '.'));
  }
  return inbox;
}

/** Answers at once that it knows nothing. */
async function withoutJournal<T>(act: () => Promise<T>): Promise<T> {
  const open = Journal.open.bind(Journal);
  const answers: Record<string, (...args: never[]) => unknown> = {
    lookUp: (_: string, files: readonly unknown[]) => files.map(() => null),
    admit: () => ({ known: null, delivered: [], duplicateOf: null, interrupted: 0, unread: [] }),
    record: ({ fate }: Conclusion) => concluded(ADMITTED, fate).status,
    parked: () => [],
    parkedCounts: () => ({}),
    obsolete: () => [],
  };
  const blank: unknown = {};
  Journal.open = () =>
    Promise.resolve(
      new Proxy(blank as JournalType, {
        get: (_, name) =>
          name === 'then' ? undefined : async (...args: never[]) => answers[String(name)]?.(...args) ?? null,
      }),
    );
  try {
    return await act();
  } finally {
    Journal.open = open;
  }
}

const us = (value: number): string => `${value.toFixed(0).padStart(5)} µs`;
const mib = (bytes: number): string => `${(bytes / 1024 ** 2).toFixed(0)} MiB`;

async function overhead(): Promise<void> {
  const films = Number(flags.films);
  const inbox = await smallFiles(films);
  const graph = await emptyGraph();
  await measure(graph, await smallFiles(500));
  const off = await withoutJournal(() => measure(graph, inbox));
  const on = await measure(graph, inbox);
  console.log(`\noverhead per frame, four stages that do nothing, ${films} files of 100 bytes`);
  console.log(`  journal off   ${us(off.wallUs)}  (CPU of all threads: ${us(off.cpuUs)})`);
  console.log(`  journal on    ${us(on.wallUs)}  (CPU of all threads: ${us(on.cpuUs)})`);
}

async function waiting(): Promise<void> {
  const graph = await emptyGraph();
  console.log('\ncost per frame against the number of files waiting (journal on)');
  for (const films of [1_000, 5_000, 20_000, 50_000]) {
    const { wallUs, cpuUs, peakBytes } = await measure(graph, await smallFiles(films));
    console.log(
      `  ${String(films).padStart(6)} files   ${us(wallUs)}  (CPU: ${us(cpuUs)}), peak memory ${mib(peakBytes)}`,
    );
  }
}

// ── end to end ──────────────────────────────────────────────────────────────────────────────────────

async function filmsOf(width: number, height: number, count: number): Promise<string> {
  const inbox = join(folder, `${width}x${height}`);
  await mkdir(inbox);
  const films = await Promise.all(
    [1, 2, 3, 4].map((seed) => {
      const { image } = phantomFilm({ seed, size: Math.min(width, 1024), opacities: seed % 2 });
      return sharp(image.data, { raw: image })
        .resize(width, height, { fit: 'fill' })
        .toColourspace('b-w')
        .png()
        .toBuffer();
    }),
  );
  for (let i = 0; i < count; i += 1) {
    await writeFile(join(inbox, `film-${String(i).padStart(5, '0')}.png`), films[i % films.length] ?? '');
  }
  return inbox;
}

/** The work of one film on its own, in core-seconds: preprocessing on one core, the model in whole batches. */
async function work(width: number, height: number): Promise<{ preparation: number; model: number }> {
  const { input, files } = await readBundle(BUNDLE);
  const { image } = phantomFilm({ seed: 1, size: Math.min(width, 1024), opacities: 1 });
  const film = await sharp(image.data, { raw: image })
    .resize(width, height, { fit: 'fill' })
    .toColourspace('b-w')
    .png()
    .toBuffer();
  const prepare = async (): Promise<ReturnType<typeof resize>> => {
    const { image: pixels } = await decode(film, { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 });
    return resize(clahe(pixels, 2, 8), input.width, input.height, 'area');
  };
  const small = await prepare();
  const preparation = await coreSeconds(2, prepare);

  const session = await InferenceSession.create(join(BUNDLE, files.model?.path ?? ''), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const { data, dims } = inputTensor(Array<typeof small>(BATCH).fill(small), input);
  const feeds = { [session.inputNames[0] ?? '']: new Tensor('float32', data as Float32Array, dims) };
  const batch = await coreSeconds(4, () => session.run(feeds));
  await session.release();
  return { preparation, model: batch / BATCH };
}

/** CPU time of all threads for one call: the median of five rounds, after as long a time to get warm. */
async function coreSeconds(seconds: number, act: () => Promise<unknown>): Promise<number> {
  const round = async (): Promise<number> => {
    const before = process.cpuUsage();
    const start = performance.now();
    let calls = 0;
    for (; performance.now() - start < (seconds * 1000) / 5; calls += 1) await act();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6 / calls;
  };
  for (let i = 0; i < 5; i += 1) await round();
  const rounds = [];
  for (let i = 0; i < 5; i += 1) rounds.push(await round());
  return rounds.sort((a, b) => a - b)[2] ?? NaN;
}

async function endToEnd(): Promise<void> {
  console.log(`\nwatch → decode → CLAHE → resize → ResNet → CSV, ${CORES} cores`);
  const { input } = await readBundle(BUNDLE);
  for (const [width, height] of [
    [224, 224],
    [1024, 1024],
    [2500, 2048],
  ] as const) {
    const before = await work(width, height);
    const expected = CORES / (before.preparation + before.model);
    const films = Math.max(100, Math.round(expected * Number(flags.seconds)));
    const { wallUs, cpuUs } = await measure(
      {
        sources: [{ use: 'watch', with: { path: './inbox' } }],
        stages: [
          { use: 'decode' },
          { use: 'clahe', with: { clipLimit: 2, tileGridSize: 8 } },
          { use: 'resize', with: { width: input.width, height: input.height } },
          { use: 'resnet', with: { bundle: BUNDLE }, batch: { size: BATCH, waitMs: 100 } },
        ],
        sinks: [{ use: 'csv', with: { path: './out.csv' } }],
      },
      await filmsOf(width, height, films),
    );
    // The speed of a machine with guests wanders: the work is measured on both sides of the run.
    const after = await work(width, height);
    const preparation = (before.preparation + after.preparation) / 2;
    const model = (before.model + after.model) / 2;
    const bound = CORES / (preparation + model);
    const rate = 1e6 / wallUs;
    console.log(
      `  ${`${width}×${height}`.padEnd(10)} ${rate.toFixed(1).padStart(6)} films/s, bound ${bound.toFixed(1)} ` +
        `(${(preparation * 1000).toFixed(1)} + ${(model * 1000).toFixed(1)} ms of a core): ` +
        `${((100 * rate) / bound).toFixed(0)} %; ${(cpuUs / 1000).toFixed(1)} ms of CPU a film`,
    );
  }
}

const parts: Readonly<Record<string, () => Promise<void>>> = { overhead, waiting, 'end-to-end': endToEnd };
try {
  const [model = 'unknown CPU'] = cpus().map((cpu) => cpu.model);
  console.log(`${model}, ${CORES} threads, Node ${process.version}, load ${loadavg()[0]?.toFixed(1) ?? '?'}`);
  for (const [name, part] of Object.entries(parts))
    if (flags.only === '' || flags.only === name) await part();
} finally {
  await rm(folder, { recursive: true, force: true });
}
