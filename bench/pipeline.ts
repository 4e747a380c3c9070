/**
 * Throughput of a whole graph, beside a plain loop over the same kernels in the same process:
 *
 *     npm run bench                                    phantom films through decode, clahe, resize, resnet
 *     npm run bench -- --data ~/films --anogan         a folder of films, and the anomaly search
 *     npm run bench -- --data manifest.csv --split val the films of a manifest, as for `rxray train`
 *
 * Prints films per second, peak memory, the share of the time in which a model was running, and the
 * longest time for which the main thread was not free while films were under way.
 */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { parse } from 'csv-parse/sync';
import sharp from 'sharp';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { parseDocument } from 'yaml';
import type { EngineSession } from '../src/engine/index.js';
import {
  builtInRegistry,
  clahe,
  createHost,
  createLog,
  decode,
  equalizeHist,
  Engine,
  inputTensor,
  loadPipeline,
  phantomFilm,
  readBundle,
  resize,
  startPipeline,
} from './built.js';

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string' },
    split: { type: 'string' },
    films: { type: 'string', default: '200' },
    anogan: { type: 'boolean', default: false },
  },
});

const ROOT = resolve(import.meta.dirname, '..');

interface Timing {
  readonly films: number;
  readonly seconds: number;
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
}

interface GraphTiming extends Timing {
  readonly peakBytes: number;
  /** Of the run's time, 0–1, in which at least one model was running. */
  readonly modelShare: number;
  readonly blockedMs: number;
}

const folder = await mkdtemp(join(tmpdir(), 'rxray-bench-'));
/** The demo graph, with the CSV as its only sink, over a folder of films. */
async function measureGraph(data: string): Promise<GraphTiming> {
  const file = join(folder, 'pipeline.yaml');
  await writeFile(file, await demoGraph());
  const { pipeline, issues } = await loadPipeline(file, builtInRegistry(), { input: data });
  if (pipeline === undefined) throw new Error(issues.map(({ message }) => message).join('\n'));

  const host = createHost(createLog());
  const clock = new BusyClock();
  const engine = host.get(Engine);
  const load = engine.load.bind(engine);
  engine.load = async (...args) => clock.watch(await load(...args));

  const cpu = process.cpuUsage();
  const run = await startPipeline(pipeline, host, { once: true });
  // From here on: until the graph is made there is nothing to keep the thread free for.
  const blocked = monitorEventLoopDelay({ resolution: 5 });
  blocked.enable();
  const { done, failed, seconds } = await run.finished;
  const cpuSeconds = secondsOf(process.cpuUsage(cpu));
  blocked.disable();
  await host.unbindAllAsync();

  const rows = parse<{ file: string }>(await readFile(join(folder, 'out.csv')), { columns: true });
  const names = new Set(rows.map((row) => row.file));
  if (failed > 0 || rows.length !== done || names.size !== done) {
    throw new Error(
      `${done} films done, ${failed} failed, ${rows.length} rows, ${names.size} names in the CSV`,
    );
  }
  return {
    films: done,
    seconds,
    cpuSeconds,
    peakBytes: process.resourceUsage().maxRSS * 1024,
    modelShare: clock.busyMs / 1000 / seconds,
    blockedMs: blocked.max / 1e6,
  };
}

async function demoGraph(): Promise<string> {
  const text = await readFile(join(ROOT, 'pipeline.yaml'), 'utf8');
  const graph = parseDocument(text).toJS() as { stages: Record<string, unknown>[]; sinks: unknown[] };
  const local = JSON.stringify(graph).replaceAll('./models/', `${ROOT}/models/`);
  const { stages, ...rest } = JSON.parse(local) as typeof graph;
  return JSON.stringify({
    ...rest,
    // Without the second branch, from the lungs to the join.
    stages: flags.anogan
      ? stages
      : stages.slice(
          0,
          stages.findIndex(({ id }) => id === 'lungs'),
        ),
    sinks: [{ use: 'csv', with: { path: './out.csv' } }],
  });
}

/** One film after the other in one thread, with nothing around the kernels: what a script would do. */
async function measureLoop(data: string): Promise<Timing> {
  const dir = join(ROOT, 'models/chest-resnet');
  const { input, files } = await readBundle(dir);
  const session = await InferenceSession.create(join(dir, files.model?.path ?? ''), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const [name = ''] = session.inputNames;
  const names = await filesOf(data);
  const cpu = process.cpuUsage();
  const start = performance.now();
  for (const each of names) {
    const settings = { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 } as const;
    const { image } = await decode(await readFile(each), settings);
    const small = resize(clahe(image, 2, 8), input.width, input.height, 'area');
    const { data: pixels, dims } = inputTensor([equalizeHist(small)], input);
    await session.run({ [name]: new Tensor('float32', pixels as Float32Array, dims) });
  }
  return {
    films: names.length,
    seconds: (performance.now() - start) / 1000,
    cpuSeconds: secondsOf(process.cpuUsage(cpu)),
  };
}

/** Made-up films of the size of a small radiograph. */
async function phantoms(count: number): Promise<string> {
  const inbox = join(folder, 'inbox');
  await mkdir(inbox);
  const films = await Promise.all(
    [1, 2, 3, 4].map((seed) => {
      const { image } = phantomFilm({ seed, size: 1024, opacities: seed % 2 });
      return sharp(image.data, { raw: image }).toColourspace('b-w').png().toBuffer();
    }),
  );
  for (let i = 0; i < count; i += 1) {
    await writeFile(join(inbox, `film-${String(i).padStart(5, '0')}.png`), films[i % films.length] ?? '');
  }
  return inbox;
}

/** Copies of the films of a manifest (CSV with `path` and `split`), or of those of one split. */
async function listed(manifest: string, split: string | undefined): Promise<string> {
  const rows = parse<{ path: string; split: string }>(await readFile(manifest), { columns: true });
  for (const row of rows) {
    if (split !== undefined && row.split !== split) continue;
    await cp(join(dirname(manifest), row.path), join(folder, 'inbox', row.path));
  }
  return join(folder, 'inbox');
}

async function filesOf(data: string): Promise<string[]> {
  const entries = await readdir(data, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && /\.(png|jpe?g|tiff?|webp|gif|bmp|dcm)$/i.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Adds up the time in which at least one run is under way. */
class BusyClock {
  busyMs = 0;
  #running = 0;
  #since = 0;

  watch(session: EngineSession): EngineSession {
    const run = session.run.bind(session);
    session.run = async (feeds) => {
      if (this.#running === 0) this.#since = performance.now();
      this.#running += 1;
      try {
        return await run(feeds);
      } finally {
        this.#running -= 1;
        if (this.#running === 0) this.busyMs += performance.now() - this.#since;
      }
    };
    return session;
  }
}

function secondsOf({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6;
}

function rate({ films, seconds, cpuSeconds }: Timing): string {
  const perFilm = (cpuSeconds * 1000) / films;
  return `${(films / seconds).toFixed(1)} films/s (${films} in ${seconds.toFixed(1)} s), ${perFilm.toFixed(0)} ms of CPU time a film`;
}

try {
  const given = flags.data === undefined ? await phantoms(Number(flags.films)) : resolve(flags.data);
  const data = given.endsWith('.csv') ? await listed(given, flags.split) : given;
  console.log(
    `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} threads, Node ${process.version}`,
  );
  const graph = await measureGraph(data);
  console.log(`graph       ${rate(graph)}`);
  console.log(`            peak memory ${(graph.peakBytes / 1024 ** 2).toFixed(0)} MiB`);
  console.log(`            a model was running for ${(graph.modelShare * 100).toFixed(0)} % of the time`);
  console.log(`            main thread blocked for ${graph.blockedMs.toFixed(0)} ms at most`);
  if (!flags.anogan) {
    const loop = await measureLoop(data);
    console.log(`plain loop  ${rate(loop)}`);
    console.log(`ratio       ${((loop.seconds / loop.films) * (graph.films / graph.seconds)).toFixed(2)}`);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
