import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import * as ort from 'onnxruntime-node';
import { EMPTY } from 'rxjs';
import { parsePipeline } from '../core/config/load.js';
import { createProcessContainer } from '../core/container.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Anomaly, Classification, StageResult } from '../core/frame.js';
import type { Log } from '../core/plugin.js';
import { startPipeline } from '../core/run.js';
import { Engine, type EngineSession, type HostTensor, type HostTensors } from '../engine/index.js';
import { BundleError, readBundle, type Bundle } from '../models/bundle.js';
import type { inputTensor } from '../models/input-tensor.js';
import { readDataset } from '../training/dataset.js';
import { openModel } from '../training/evaluation/score.js';
import { phantomCheck } from '../training/phantom-check.js';
import {
  byName,
  filmAt,
  imagesOf,
  prepareFilms,
  resolveChain,
  type UnreadableByName,
} from '../training/preprocess.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { createLog } from './log.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const EXAMPLES = `
Examples:
  $ rxray verify models/chest-resnet --data films
  $ rxray verify models/chest-anogan --data films/manifest.csv --limit 20 --json

Each film goes four ways: through the training's preprocessing, through an evaluation, through a running
graph that watches a folder, and to ONNX Runtime without the engine. All must feed the model the same
tensor, bit for bit, and give the same score. Everything runs on the CPU.

A film that cannot be read is named and left out.

Exit codes: 0 all the same, 1 differences or films that cannot be read, 2 usage or no film that can be, 3 fatal.`;

interface VerifyOptions {
  readonly data: string;
  readonly limit?: number;
  readonly method?: string;
  readonly json?: boolean;
}

export function verify(program: Command): void {
  program
    .command('verify')
    .argument('<bundle>', "the model's folder")
    .requiredOption('--data <path>', 'a folder of films, or a manifest (CSV)')
    .option('--limit <n>', 'look at so many films, evenly drawn from all', atLeastOne)
    .option('--method <name>', 'how an AnoGAN scores: search, encoder or refine')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (bundle: string, options: VerifyOptions) => {
      const { text, code } = await verifyFiles(bundle, options);
      (code === EXIT.usage ? process.stderr : process.stdout).write(`${text}\n`);
      process.exitCode = code;
    });
}

/** The ways of a film, and what each fed the model and got from it. */
type Way = 'training' | 'evaluation' | 'run' | 'onnxruntime';

interface Difference {
  readonly film: string;
  readonly way: Way;
  readonly what: string;
}

/** Scores that differ by less are the same: runs on other threads may add in another order. */
const TOLERANCE = 1e-6;

/** What `rxray verify` prints, and its exit code. */
export async function verifyFiles(
  path: string,
  options: VerifyOptions,
): Promise<{ text: string; code: number }> {
  const dir = resolve(path);
  const scratch = await mkdtemp(join(tmpdir(), 'rxray-verify-'));
  try {
    const bundle = await readBundle(dir);
    const { films, unreadable: unopened } = await filmsOf(options);
    const compared = await compare(dir, bundle, films, options.method, scratch);
    const found = { ...compared, unreadable: [...unopened, ...compared.unreadable] };
    const same = found.differences.length === 0 && found.phantom !== false;
    const text = options.json
      ? JSON.stringify({ model: bundle.name, same, ...found })
      : describe(bundle.name, found);
    return { text, code: same && found.unreadable.length === 0 ? EXIT.fine : EXIT.filmsFailed };
  } catch (error) {
    if (!(error instanceof BundleError || error instanceof RxrayError)) throw error;
    const prefix = error instanceof RxrayError ? `${error.code} ` : '';
    return { text: `${prefix}${error.message}`, code: EXIT.usage };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

export interface VerifiedFilm {
  readonly path: string;
  readonly name: string;
  readonly class: string;
  readonly split: 'test';
  readonly patient: string;
  readonly sha256: string;
}

interface Found {
  /** How many were compared. */
  readonly films: number;
  readonly unreadable: readonly UnreadableByName[];
  readonly differences: readonly Difference[];
  /** Over all films and ways. */
  readonly maxScoreDifference: number;
  /** Whether our phantom film still gives the tensor that the bundle records; null where it records none. */
  readonly phantom: boolean | null;
}

async function compare(
  dir: string,
  bundle: Bundle,
  given: readonly VerifiedFilm[],
  method: string | undefined,
  scratch: string,
): Promise<Found> {
  const registry = builtInRegistry();
  const log = createLog();
  const baseDir = process.cwd();
  const chain = await resolveChain(bundle.preprocessing, registry, baseDir);
  const options = { cacheDir: scratch, baseDir, log, rxray: version };
  const { prepared, films, unreadable } = await prepareFilms(given, chain, options);
  const expected = films.map((_, i) => valuesOf(imagesOf(prepared, Uint32Array.of(i), bundle.input)));
  const { width, height } = prepared;
  const channels = prepared.channels === 3 ? 3 : 1;
  const images = films.map((_, i) => ({ width, height, channels, data: filmAt(prepared, i) }) as const);

  const settings = { device: 'cpu', ...(method !== undefined && { method }) };
  const scored = async (engine: Engine & Recorder): Promise<Seen> => {
    const services = { registry, engine, log, stateDir: scratch };
    const model = await openModel(dir, bundle.kind, settings, services);
    const scores = (await model.score(images, { batchSize: 1 })).map(scoresOf);
    await model.dispose();
    await engine.dispose();
    return { scores, tensors: engine.tensors };
  };
  const evaluation = await scored(new RecordingEngine());
  const plain = await scored(new PlainRuntime() as unknown as Engine & Recorder);
  const run = await runGraph(dir, bundle, films, settings, scratch, log);

  const differences: Difference[] = [];
  let maxScoreDifference = 0;
  const ways: [Way, Seen][] = [
    ['evaluation', evaluation],
    ['run', run],
    ['onnxruntime', plain],
  ];
  for (const [way, { scores, tensors }] of ways) {
    const seen = new Map(tensors.map((tensor) => [hashOf(tensor), tensor]));
    const missing = expected.filter((tensor) => !seen.has(hashOf(tensor)));
    for (const tensor of expected) seen.delete(hashOf(tensor));
    for (const tensor of missing) {
      const film = films[expected.indexOf(tensor)]?.name ?? '';
      differences.push({ film, way, what: closest(tensor, [...seen.values()]) });
    }
    films.forEach(({ name: film }, i) => {
      const mine = scores[i];
      if (mine === undefined) {
        differences.push({ film, way, what: 'it got no score: the film failed' });
        return;
      }
      const gap = Math.max(...mine.map((score, k) => Math.abs(score - (evaluation.scores[i]?.[k] ?? NaN))));
      maxScoreDifference = Math.max(maxScoreDifference, gap);
      if (!(gap <= TOLERANCE)) {
        differences.push({
          film,
          way,
          what: `its score is ${mine.join(', ')}, the evaluation says ${evaluation.scores[i]?.join(', ') ?? ''}`,
        });
      }
    });
  }
  const { check } = bundle;
  const now =
    check &&
    (await phantomCheck({ registry, baseDir, log, rxray: version }, bundle.preprocessing, bundle.input));
  return {
    films: films.length,
    unreadable: unreadable.map(byName),
    differences,
    maxScoreDifference,
    phantom: check === undefined ? null : now?.tensor === check.tensor,
  };
}

interface Seen {
  /** By film; undefined where the film failed. */
  readonly scores: readonly (readonly number[] | undefined)[];
  /** What the model was fed, in the order of the runs. */
  readonly tensors: readonly Float32Array[];
}

/** The films through a graph of the bundle's own chain, which watches a folder of copies of them. */
export async function runGraph(
  dir: string,
  bundle: Bundle,
  films: readonly VerifiedFilm[],
  settings: object,
  scratch: string,
  log: Log,
): Promise<Seen> {
  const inbox = join(scratch, 'inbox');
  await mkdir(inbox);
  for (const [i, { path }] of films.entries()) await copyFile(path, join(inbox, `${i}${extname(path)}`));
  const graph = {
    version: 1,
    state: join(scratch, 'state'),
    sources: [{ use: 'watch', with: { path: inbox } }],
    stages: [
      ...bundle.preprocessing.map((step, i) => ({ id: `step${i}`, ...step })),
      {
        id: 'model',
        use: bundle.kind === 'classifier' ? 'resnet' : bundle.kind,
        with: { bundle: dir, ...settings },
        batch: { size: 1 },
      },
    ],
    sinks: [{ use: 'csv', with: { path: join(scratch, 'results.csv') } }],
  };
  const file = resolve('rxray-verify.yaml');
  const { pipeline, issues } = await parsePipeline(JSON.stringify(graph), {
    file,
    registry: builtInRegistry(),
  });
  if (pipeline === undefined)
    throw new RxrayError('TRAINING_DATA', issues.map(({ message }) => message).join('; '));
  const host = createProcessContainer(log);
  const engine = new RecordingEngine();
  host.bind(Engine).toConstantValue(engine);
  const scores: (readonly number[] | undefined)[] = films.map(() => undefined);
  try {
    const run = await startPipeline(pipeline, host, { once: true });
    run.settled$.subscribe({
      next: ({ name, frame }) => {
        const result = frame?.results.model;
        if (result !== undefined) scores[Number.parseInt(name, 10)] = scoresOf(result);
      },
      error: () => undefined,
    });
    await run.finished;
  } finally {
    await engine.dispose();
    await host.unbindAllAsync();
  }
  return { scores, tensors: engine.tensors };
}

interface Recorder {
  readonly tensors: Float32Array[];
}

/** The engine, which keeps what it is fed. */
class RecordingEngine extends Engine implements Recorder {
  readonly tensors: Float32Array[] = [];

  override async load(...request: Parameters<Engine['load']>): Promise<EngineSession> {
    const session = await super.load(...request);
    const run = session.run.bind(session);
    session.run = (feeds) => {
      keepImages(feeds, this.tensors);
      return run(feeds);
    };
    return session;
  }
}

/** ONNX Runtime as anybody would call it, in this thread and without the engine. */
class PlainRuntime implements Recorder {
  readonly tensors: Float32Array[] = [];
  readonly idle = true;
  readonly idle$ = EMPTY;

  async load(bytes: Uint8Array): Promise<Pick<EngineSession, 'inputs' | 'outputs' | 'run' | 'dispose'>> {
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: ['cpu'],
      intraOpNumThreads: availableParallelism(),
      logSeverityLevel: 3,
    });
    const infoOf = (all: readonly ort.InferenceSession.ValueMetadata[]): EngineSession['inputs'] =>
      all.flatMap((info) =>
        info.isTensor ? [{ name: info.name, dtype: info.type as 'float32', dims: [...info.shape] }] : [],
      );
    return {
      inputs: infoOf(session.inputMetadata),
      outputs: infoOf(session.outputMetadata),
      run: async (feeds) => {
        keepImages(feeds, this.tensors);
        const tensors = Object.entries(feeds).map(([name, { data, dims }]) => [
          name,
          new ort.Tensor(data as Float32Array, dims),
        ]);
        const results = await session.run(Object.fromEntries(tensors) as Record<string, ort.Tensor>);
        return Object.fromEntries(
          Object.entries(results).map(([name, { data, dims }]) => [name, { data, dims } as HostTensor]),
        );
      },
      dispose: () => session.release(),
    };
  }

  dispose(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * Networks take their images under this name, a foreign one as its only input. A search takes a film once
 * for each of its starts.
 */
function keepImages(feeds: HostTensors, tensors: Float32Array[]): void {
  const [only, ...more] = Object.values(feeds);
  const images = feeds.images ?? (more.length === 0 ? only : undefined);
  const [films = 0, ...image] = images?.dims ?? [];
  if (images === undefined || image.length !== 3) return;
  const size = image.reduce((a, b) => a * b, 1);
  for (let i = 0; i < films; i++) tensors.push(valuesOf(images).slice(i * size, (i + 1) * size));
}

function valuesOf({ data }: ReturnType<typeof inputTensor>): Float32Array {
  return data as Float32Array;
}

function scoresOf(result: StageResult): number[] {
  if (result.kind === 'classification') return Object.values((result as Classification).probabilities);
  return [(result as Anomaly).anomalyScore];
}

function hashOf(tensor: Float32Array): string {
  const bytes = new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
  return createHash('sha256').update(bytes).digest('hex');
}

/** In what a tensor differs from the one that comes closest to it. */
function closest(wanted: Float32Array, others: readonly Float32Array[]): string {
  const gaps = others
    .filter((other) => other.length === wanted.length)
    .map((other) => {
      const values = wanted.map((value, i) => Math.abs(value - (other[i] ?? NaN)));
      return { count: values.filter((gap) => gap !== 0).length, most: Math.max(...values) };
    });
  const best = gaps.sort((a, b) => a.most - b.most)[0];
  if (best === undefined) return 'the model was fed no tensor of its shape for it';
  return `the tensor differs in ${best.count} of ${wanted.length} values, by up to ${best.most.toPrecision(3)}`;
}

const IMAGE = /\.(jpe?g|png|tiff?|webp|bmp|gif|dcm)$/i;

async function filmsOf({
  data,
  limit = Infinity,
}: VerifyOptions): Promise<{ films: VerifiedFilm[]; unreadable: UnreadableByName[] }> {
  const isFolder = (await stat(data).catch(() => undefined))?.isDirectory() === true;
  const dataset = isFolder ? undefined : await readDataset(data, { validation: 0 });
  const all =
    dataset?.films ??
    (await readdir(data, { recursive: true }))
      .filter((name) => IMAGE.test(name))
      .sort()
      .map((name) => ({ name, path: resolve(data, name) }));
  if (all.length === 0) throw new RxrayError('TRAINING_DATA', `${data} holds no films`);
  const step = Math.max(1, all.length / limit);
  const some = Array.from({ length: Math.min(all.length, limit) }, (_, i) => all[Math.floor(i * step)]);
  const films: VerifiedFilm[] = [];
  const unreadable = (dataset?.unreadable ?? []).map(byName);
  for (const film of some) {
    if (film === undefined) continue;
    const { path, name } = film;
    try {
      const sha256 = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
      films.push({ path, name, class: '', split: 'test', patient: name, sha256 });
    } catch (cause) {
      unreadable.push({ film: name, reason: messageOf(cause) });
    }
  }
  if (films.length > 0) return { films, unreadable };
  const reasons = unreadable.map(({ film, reason }) => `${film}: ${reason}`);
  throw new RxrayError('TRAINING_DATA', `no film of ${data} can be read: ${reasons.join('; ')}`);
}

function describe(model: string, found: Found): string {
  const { films, unreadable, differences, maxScoreDifference, phantom } = found;
  const lines = unreadable.map(({ film, reason }) => `${film} cannot be read: ${reason}`);
  lines.push(...differences.map(({ film, way, what }) => `${film}, ${way}: ${what}`));
  if (phantom === false) lines.push('the phantom film gives another tensor than when the bundle was made');
  lines.push(
    differences.length === 0
      ? `${model}: ${films} films reach the model alike, bit for bit, in training, evaluation, a running graph and plain ` +
          `ONNX Runtime; the scores differ by at most ${maxScoreDifference.toPrecision(2)}`
      : `${model}: ${differences.length} differences on ${films} films`,
  );
  if (phantom === true) lines.push('the phantom film gives the tensor that the bundle records');
  return lines.join('\n');
}

function atLeastOne(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number from 1');
  return value;
}
