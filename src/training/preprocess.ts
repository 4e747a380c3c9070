import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { from, lastValueFrom, mergeMap } from 'rxjs';
import { RxrayError, messageOf } from '../core/errors.js';
import { frameId, imageOf, type Frame, type Image } from '../core/frame.js';
import type { Log } from '../core/plugin.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import { WorkerPool } from '../core/workers/pool.js';
import type { StageSpec } from '../core/workers/wire.js';
import type { HostTensor } from '../engine/index.js';
import type { PreprocessingStep } from '../models/bundle.js';
import type { Film } from './dataset.js';
import { readTensorFile, writeTensorFile } from './tensor-file.js';

/** Preprocessed films: N × H × W × C, 8 bit, in the order of the films that went in. */
export interface PreparedFilms {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array;
}

/** A step with every default filled in and the module that holds its stage. */
export interface ResolvedStep extends PreprocessingStep {
  readonly url: string;
}

export interface PreprocessOptions {
  /** Where preprocessed films are kept for the next run: 16 kB each at 128×128. */
  readonly cacheDir: string;
  /** The folder that relative paths in the steps' options are relative to. */
  readonly baseDir: string;
  readonly log: Log;
  readonly threads?: number;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Bumped when the same chain and files would give other pixels or another file. */
const CACHE_VERSION = 1;

/**
 * The chain with every default filled in, which is what a bundle records: so it stays what it was when
 * a default changes. Throws `TRAINING_DATA` for an unknown stage or a wrong setting.
 */
export async function resolveChain(
  chain: readonly PreprocessingStep[],
  registry: PluginRegistry,
  baseDir: string,
): Promise<ResolvedStep[]> {
  const resolved: ResolvedStep[] = [];
  for (const { use, with: settings } of chain) {
    try {
      const { plugin, url } = await registry.load('stage', use, baseDir);
      resolved.push({ use, with: plugin.options.parse(settings), url });
    } catch (cause) {
      throw new RxrayError('TRAINING_DATA', `preprocessing step "${use}": ${messageOf(cause)}`, { cause });
    }
  }
  return resolved;
}

/**
 * Runs every film through the same stage plugins as serving, in the same worker threads, and keeps the
 * result on disk under a key made of the chain and the films' hashes. Throws `TRAINING_DATA` naming the film.
 */
export async function prepareFilms(
  films: readonly Film[],
  chain: readonly ResolvedStep[],
  { cacheDir, baseDir, log, threads = availableParallelism(), onProgress, signal }: PreprocessOptions,
): Promise<PreparedFilms> {
  const steps = chain.map(({ use, with: settings }) => ({ use, with: settings }));
  const key = createHash('sha256')
    .update(JSON.stringify([CACHE_VERSION, steps, films.map((film) => film.sha256)]))
    .digest('hex');
  const cached = join(cacheDir, `films-${key.slice(0, 32)}.safetensors`);
  const known = await fromCache(cached, films.length);
  if (known !== undefined) {
    onProgress?.(films.length, films.length);
    return known;
  }

  const specs = chain.map(({ use, with: settings, url }, i): StageSpec => {
    return { key: `training:${i}`, id: use, url, settings, baseDir, stateDir: cacheDir };
  });
  const pool = new WorkerPool(log, threads);
  let all: PreparedFilms | undefined;
  let done = 0;
  const prepare = async (film: Film, i: number): Promise<void> => {
    signal?.throwIfAborted();
    const { width, height, channels, data } = await run(film, specs, pool);
    const samples = width * height * channels;
    all ??= { width, height, channels, data: new Uint8Array(films.length * samples) };
    if (width !== all.width || height !== all.height || channels !== all.channels) {
      throw new Error(
        `${film.name} comes out as ${shape({ width, height, channels })}, others as ${shape(all)}: ` +
          'end the chain with a resize to one size',
      );
    }
    all.data.set(bytesOf(data), i * samples);
    onProgress?.(++done, films.length);
  };
  try {
    // Two films a thread: one is worked on while the other is handed over.
    await lastValueFrom(from(films).pipe(mergeMap(prepare, threads * 2)), { defaultValue: undefined });
    if (all === undefined) throw new Error('there are no films');
    await mkdir(cacheDir, { recursive: true });
    await writeTensorFile(cached, {
      tensors: { films: { data: all.data, dims: [films.length, all.height, all.width, all.channels] } },
      metadata: { chain: JSON.stringify(steps) },
    });
    return all;
  } catch (cause) {
    if (signal?.aborted === true) throw cause;
    throw new RxrayError('TRAINING_DATA', `preprocessing: ${messageOf(cause)}`, { cause });
  } finally {
    await pool.dispose();
  }
}

/** The samples of film `i`: a view. */
export function filmAt({ data, width, height, channels }: PreparedFilms, i: number): Uint8Array {
  const samples = width * height * channels;
  return data.subarray(i * samples, (i + 1) * samples);
}

/** Films as they are: N × H × W × C float32, 0–1. */
export function imagesOf(films: PreparedFilms, index: Uint32Array): HostTensor {
  const samples = films.width * films.height * films.channels;
  const data = new Float32Array(index.length * samples);
  index.forEach((film, i) => {
    const pixels = filmAt(films, film);
    for (let p = 0; p < samples; p++) data[i * samples + p] = (pixels[p] ?? 0) / 255;
  });
  return { data, dims: [index.length, films.height, films.width, films.channels] };
}

async function run(film: Film, specs: readonly StageSpec[], pool: WorkerPool): Promise<Image> {
  try {
    const { size, mtimeMs } = await stat(film.path);
    const file = await pool.read({ path: film.path, name: film.name, size, mtimeMs }, Infinity);
    if (file?.sha256 !== film.sha256) throw new Error('the file has changed since it was hashed');
    let frame: Frame = {
      id: frameId('training', film.name, film.sha256),
      origin: {
        source: 'training',
        name: film.name,
        path: film.path,
        size,
        mtimeMs,
        sha256: film.sha256,
        receivedAt: new Date(mtimeMs).toISOString(),
      },
      encoded: file.encoded,
      meta: {},
      results: {},
    };
    for (const spec of specs) frame = await pool.process(spec, frame);
    return imageOf(frame);
  } catch (cause) {
    throw new Error(`${film.name}: ${messageOf(cause)}`, { cause });
  }
}

/** Trained networks see films as 8 bit: 16-bit samples are divided by 257, which maps 65535 to 255. */
function bytesOf(data: Image['data']): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (data instanceof Uint16Array) return Uint8Array.from(data, (sample) => Math.round(sample / 257));
  throw new Error('floating-point samples cannot be kept: leave `normalize` out, the network does its own');
}

function shape({ width, height, channels }: Omit<PreparedFilms, 'data'>): string {
  return `${width}×${height}×${channels}`;
}

/** A missing or damaged cache file is no error: the films are prepared again. */
async function fromCache(path: string, films: number): Promise<PreparedFilms | undefined> {
  try {
    const { data, dims } = (await readTensorFile(path)).tensors.films ?? {};
    const [n, height, width, channels] = dims ?? [];
    if (!(data instanceof Uint8Array) || n !== films) return undefined;
    if (width === undefined || height === undefined || channels === undefined) return undefined;
    return { width, height, channels, data };
  } catch {
    return undefined;
  }
}
