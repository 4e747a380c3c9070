import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { parsePipeline } from '../../core/config/load.js';
import { createProcessContainer } from '../../core/container.js';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Anomaly, Classification, Detection, StageResult } from '../../core/frame.js';
import type { Log } from '../../core/plugin.js';
import type { PluginRegistry } from '../../core/plugins/registry.js';
import { startPipeline } from '../../core/run.js';
import { Engine } from '../../engine/index.js';
import type { Bundle } from '../../models/bundle.js';
import { readDataset, type DatasetOptions } from '../dataset.js';
import { phantomCheck } from '../phantom-check.js';
import {
  byName,
  filmAt,
  imagesOf,
  prepareFilms,
  resolveChain,
  type UnreadableByName,
} from '../preprocess.js';
import { chosen } from './films.js';
import { PlainRuntime, RecordingEngine, type Recorder } from './recording-runtime.js';
import { openModel, stageOf } from './score.js';

/** How a film may reach a model. */
type Way = 'evaluation' | 'run' | 'onnxruntime';

interface Difference {
  readonly film: string;
  readonly way: Way;
  readonly what: string;
}

export interface Verification {
  /** How many were compared. */
  readonly films: number;
  readonly unreadable: readonly UnreadableByName[];
  readonly differences: readonly Difference[];
  /** Over all films and ways. */
  readonly maxScoreDifference: number;
  /** Whether the phantom film still gives the tensor that the bundle records; null where it records none. */
  readonly phantom: boolean | null;
}

export interface VerifyOptions extends Pick<DatasetOptions, 'columns' | 'directory'> {
  /** A folder of films, or a manifest. */
  readonly data: string;
  /** Default: all films. */
  readonly split?: string;
  /** At most this many films, spread evenly over all. */
  readonly limit?: number;
  /** How an AnoGAN scores. Default: as the bundle says. */
  readonly method?: string;
}

export interface VerifyServices {
  readonly registry: PluginRegistry;
  readonly log: Log;
  /** The version of rxray. */
  readonly rxray: string;
}

export interface VerifiedFilm {
  readonly path: string;
  readonly name: string;
  readonly class: string;
  readonly split: 'test';
  readonly patient: string;
  readonly sha256: string;
}

/** Scores that differ by less are equal: threads may add up in another order. */
const TOLERANCE = 1e-6;

/**
 * Compares what films feed a model, and the scores that it gives, between training, evaluation, a running graph and
 * plain ONNX Runtime, all on the CPU. Throws `TRAINING_DATA` where no film can be read, and BundleError.
 */
export async function verifyBundle(
  dir: string,
  bundle: Bundle,
  options: VerifyOptions,
  services: VerifyServices,
): Promise<Verification> {
  const scratch = await mkdtemp(join(tmpdir(), 'rxray-verify-'));
  try {
    const { films, unreadable } = await filmsOf(options, bundle.kind);
    const compared = await compare(dir, bundle, films, options.method, scratch, services);
    return { ...compared, unreadable: [...unreadable, ...compared.unreadable] };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function compare(
  dir: string,
  bundle: Bundle,
  given: readonly VerifiedFilm[],
  method: string | undefined,
  scratch: string,
  { registry, log, rxray }: VerifyServices,
): Promise<Verification> {
  const baseDir = process.cwd();
  const chain = await resolveChain(bundle.preprocessing, registry, baseDir);
  const { prepared, films, unreadable } = await prepareFilms(given, chain, {
    cacheDir: scratch,
    baseDir,
    log,
    rxray,
  });
  const expected = films.map(
    (_, i) => imagesOf(prepared, Uint32Array.of(i), bundle.input).data as Float32Array,
  );
  const { width, height } = prepared;
  const channels = prepared.channels === 3 ? 3 : 1;
  const images = films.map((_, i) => ({ width, height, channels, data: filmAt(prepared, i) }) as const);

  const settings = { device: 'cpu', ...(method !== undefined && { method }) };
  const scored = async (engine: Engine & Recorder): Promise<Served> => {
    const model = await openModel(dir, bundle.kind, settings, { registry, engine, log, stateDir: scratch });
    const scores = (await model.score(images, { batchSize: 1 })).map(scoresOf);
    await model.dispose();
    await engine.dispose();
    return { scores, tensors: engine.tensors };
  };
  const evaluation = await scored(new RecordingEngine());
  const plain = await scored(new PlainRuntime() as unknown as Engine & Recorder);
  const run = await serve(dir, bundle, films, settings, scratch, { registry, log });

  const differences: Difference[] = [];
  let maxScoreDifference = 0;
  const ways: [Way, Served][] = [
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
    check && (await phantomCheck({ registry, baseDir, log, rxray }, bundle.preprocessing, bundle.input));
  return {
    films: films.length,
    unreadable: unreadable.map(byName),
    differences,
    maxScoreDifference,
    phantom: check === undefined ? null : now?.tensor === check.tensor,
  };
}

interface Served {
  /** By film; undefined where the film failed. */
  readonly scores: readonly (readonly number[] | undefined)[];
  /** What the model was fed, in the order of the runs. */
  readonly tensors: readonly Float32Array[];
}

/** Serves the films: a graph of the bundle's own chain watches a folder of copies. */
export async function serve(
  dir: string,
  bundle: Bundle,
  films: readonly VerifiedFilm[],
  settings: object,
  scratch: string,
  { registry, log }: Pick<VerifyServices, 'registry' | 'log'>,
): Promise<Served> {
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
        use: stageOf(bundle.kind),
        with: { bundle: dir, ...settings },
        batch: { size: 1 },
      },
    ],
    sinks: [{ use: 'csv', with: { path: join(scratch, 'results.csv') } }],
  };
  const file = resolve('rxray-verify.yaml');
  const { pipeline, issues } = await parsePipeline(JSON.stringify(graph), { file, registry });
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

function scoresOf(result: StageResult): number[] {
  if (result.kind === 'classification') return Object.values((result as Classification).probabilities);
  // Without places: in a graph they are in pixels of the film, elsewhere in pixels of the network's image.
  if (result.kind === 'detection') {
    const { score, boxes } = result as Detection;
    return [score ?? NaN, boxes.length, ...boxes.map((box) => box.score)];
  }
  return [(result as Anomaly).anomalyScore];
}

function hashOf(tensor: Float32Array): string {
  const bytes = new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
  return createHash('sha256').update(bytes).digest('hex');
}

/** How a tensor differs from the nearest other one. */
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

/** A manifest has the columns that this kind of model is trained on. */
async function filmsOf(
  { data, split, limit = Infinity, method: _method, ...manifest }: VerifyOptions,
  kind: Bundle['kind'],
): Promise<{ films: VerifiedFilm[]; unreadable: UnreadableByName[] }> {
  // Without a split, the films of a folder need no classes.
  const isFolder = (await stat(data).catch(() => undefined))?.isDirectory() === true;
  const labelled = { validation: 0, masked: kind === 'segmenter', boxed: kind === 'detector' };
  const dataset =
    isFolder && split === undefined
      ? undefined
      : chosen(await readDataset(data, { ...labelled, ...manifest }), split ?? 'all');
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
