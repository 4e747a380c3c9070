import { createHash } from 'node:crypto';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { from, lastValueFrom, mergeMap } from 'rxjs';
import { RxrayError, messageOf } from '../core/errors.js';
import { frameId, imageOf, type Frame, type Image, type View } from '../core/frame.js';
import type { Log, PrecedingStage } from '../core/plugin.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import { WorkerPool } from '../core/workers/pool.js';
import { Segment } from '../core/workers/segment.js';
import type { HostTensor } from '../engine/index.js';
import { blankLike } from '../imaging/image.js';
import { viewOf } from '../imaging/view.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import { inputTensor } from '../models/input-tensor.js';
import type { Film } from './film.js';
import { readTensorFile, writeTensorFile } from './tensor-file.js';

/** 8 or 16 bit, full scale. */
export type IntegerSamples = Uint8Array | Uint16Array;

/**
 * Preprocessed films: N × H × W × C, in the order of the films that went in. Where some come out of the
 * chain with 16 bit, all have 16 bit.
 */
export interface PreparedFilms {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: IntegerSamples;
  /** Which part of its film each shows: {@link VIEW_NUMBERS} numbers a film, read by {@link viewAt}. */
  readonly views?: Float32Array;
}

/** x, y, width and height of the view, width and height of the film. */
const VIEW_NUMBERS = 6;

/** A film that could not be read, or that a stage failed on. */
export interface Unreadable<F> {
  readonly film: F;
  readonly reason: string;
}

/** The same with the film's name, for output. */
export interface UnreadableByName {
  readonly film: string;
  readonly reason: string;
}

export const byName = ({ film, reason }: Unreadable<{ readonly name: string }>): UnreadableByName => ({
  film: film.name,
  reason,
});

/** Preprocessed films, and those that failed. */
export interface Preparation<F> {
  readonly prepared: PreparedFilms;
  /** Those of `prepared`, in its order. */
  readonly films: readonly F[];
  readonly unreadable: readonly Unreadable<F>[];
}

/** A step with every default filled in and the module that holds its stage. */
export interface ResolvedStep extends PreprocessingStep {
  readonly url: string;
}

export interface PreprocessOptions {
  /** Where preprocessed films are kept for the next run: 16 kB each at 128×128 and 8 bit. */
  readonly cacheDir: string;
  /** The folder that relative paths in the steps' options are relative to. */
  readonly baseDir: string;
  readonly log: Log;
  /** The version of rxray: another version prepares the films again. */
  readonly rxray: string;
  readonly threads?: number;
  /** Threads that several chains share; else each call starts and ends its own. */
  readonly pool?: WorkerPool;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Incremented when the same chain and files would give other pixels or another file format. */
const CACHE_VERSION = 3;

/**
 * The chain with every default filled in, which is what a bundle records: so it stays what it was when
 * a default changes. Throws `TRAINING_DATA` for an unknown stage, a wrong setting, a stage that would fail on every film,
 * and a model.
 */
export async function resolveChain(
  chain: readonly PreprocessingStep[],
  registry: PluginRegistry,
  baseDir: string,
): Promise<ResolvedStep[]> {
  const resolved: ResolvedStep[] = [];
  const preceding: PrecedingStage[] = [];
  for (const { id, use, with: settings } of chain) {
    try {
      const { plugin, url } = await registry.load('stage', use, baseDir);
      if (plugin.runsIn === 'main') throw new Error('a model cannot be a step before another one: remove it');
      const { data: parsed, error } = plugin.options.safeParse(settings);
      if (error !== undefined) throw new Error(z.prettifyError(error), { cause: error });
      const found = (await plugin.lint?.(parsed, { baseDir, preceding })) ?? [];
      const fault = found.find(({ severity }) => severity === 'error');
      if (fault !== undefined) {
        const { message, option } = fault;
        throw new Error(option.length === 0 ? message : `${message}: correct \`${option.join('.')}\``);
      }
      const { keepsPixels, limits } = plugin;
      preceding.push({ id: id ?? use, use, with: parsed, keepsPixels, limits });
      // As readBundle gives it: a path that means the same wherever the chain is run.
      const nested = typeof parsed.bundle === 'string' && { bundle: resolve(baseDir, parsed.bundle) };
      resolved.push({ ...(id !== undefined && { id }), use, with: { ...parsed, ...nested }, url });
    } catch (cause) {
      const step = `preprocessing step ${resolved.length + 1} "${use}"`;
      throw new RxrayError('TRAINING_DATA', `${step}: ${messageOf(cause)}`, { cause });
    }
  }
  return resolved;
}

/**
 * Runs every film through the same stage plugins as serving, in the same worker threads, and keeps the
 * result on disk under a key made of the chain, its stages' modules, our version and the films' hashes. Films that
 * fail on the way are named and left out. Throws `TRAINING_DATA` where none is left, or where the chain does not end in
 * integer images of one size.
 */
export async function prepareFilms<F extends Omit<Film, 'split'>>(
  films: readonly F[],
  chain: readonly ResolvedStep[],
  {
    cacheDir,
    baseDir,
    log,
    rxray,
    threads = availableParallelism(),
    pool: shared,
    onProgress,
    signal,
  }: PreprocessOptions,
): Promise<Preparation<F>> {
  const steps = chain.map(({ url: _url, ...step }) => step);
  const modules = await Promise.all(chain.flatMap(filesOf).map((file) => readFile(file).then(sha256)));
  const hashes = films.map((film) => film.sha256);
  const key = sha256(JSON.stringify([CACHE_VERSION, rxray, steps, modules, hashes]));
  const cached = join(cacheDir, `films-${key.slice(0, 32)}.safetensors`);
  const known = await fromCache(cached, films.length);
  if (known !== undefined) {
    onProgress?.(films.length, films.length);
    return { prepared: known, films, unreadable: [] };
  }

  const segment = new Segment(
    chain.map(({ use, id = use, with: settings, url }, i) => ({
      ...{ key: `training:${key.slice(0, 32)}:${i}`, id, url, settings, baseDir, stateDir: cacheDir },
    })),
  );
  const pool = shared ?? new WorkerPool(log, threads);
  let all: PreparedFilms | undefined;
  const views = new Float32Array(films.length * VIEW_NUMBERS);
  let done = 0;
  const reasons = new Map<F, string>();
  const prepare = async (film: F, i: number): Promise<void> => {
    signal?.throwIfAborted();
    const made = await run(film, segment, pool).catch((cause: unknown) => {
      reasons.set(film, messageOf(cause));
      return undefined;
    });
    done += 1;
    onProgress?.(done, films.length);
    if (made === undefined) return;
    const { width, height, channels, data } = made.image;
    const samples = width * height * channels;
    const kept = samplesOf(data);
    all ??= { width, height, channels, data: blankLike(kept, films.length * samples) };
    if (width !== all.width || height !== all.height || channels !== all.channels) {
      throw new Error(
        `${film.name} comes out as ${shape({ width, height, channels })}, others as ${shape(all)}: ` +
          'end the chain with a resize to one size',
      );
    }
    if (kept instanceof Uint16Array) all = { ...all, data: widened(all.data) };
    all.data.set(all.data instanceof Uint16Array ? widened(kept) : kept, i * samples);
    const { x, y, film: whole, ...part } = made.view;
    views.set([x, y, part.width, part.height, whole.width, whole.height], i * VIEW_NUMBERS);
  };
  try {
    // Two films a thread: one is worked on while the other is handed over.
    await lastValueFrom(from(films).pipe(mergeMap(prepare, threads * 2)), { defaultValue: undefined });
    const unreadable = films.flatMap((film) => {
      const reason = reasons.get(film);
      return reason === undefined ? [] : [{ film, reason }];
    });
    if (all === undefined) {
      throw new Error(films.length === 0 ? 'there are no films' : `every film failed: ${named(unreadable)}`);
    }
    all = { ...all, views };
    // A failure may be temporary: the result without failed films is not cached.
    if (unreadable.length > 0) return { ...without(all, films, reasons), unreadable };
    await mkdir(cacheDir, { recursive: true });
    await writeTensorFile(cached, {
      tensors: {
        films: { data: all.data, dims: [films.length, all.height, all.width, all.channels] },
        views: { data: views, dims: [films.length, VIEW_NUMBERS] },
      },
      metadata: { chain: JSON.stringify(steps) },
    });
    return { prepared: all, films, unreadable };
  } catch (cause) {
    if (signal?.aborted === true) throw cause;
    throw new RxrayError('TRAINING_DATA', `preprocessing: ${messageOf(cause)}`, { cause });
  } finally {
    if (shared === undefined) await pool.dispose();
  }
}

/** What a step's work depends on besides its settings: its module, and the bundle that it uses. */
function filesOf({ url, with: { bundle } }: ResolvedStep): (URL | string)[] {
  return [new URL(url), ...(typeof bundle === 'string' ? [join(bundle, 'bundle.json')] : [])];
}

/** The films that did not fail, moved together. */
function without<F>(
  all: PreparedFilms,
  films: readonly F[],
  failed: ReadonlyMap<F, string>,
): Pick<Preparation<F>, 'prepared' | 'films'> {
  const samples = all.width * all.height * all.channels;
  const left = films.flatMap((film, i) => (failed.has(film) ? [] : [i]));
  left.forEach((i, at) => {
    all.data.copyWithin(at * samples, i * samples, (i + 1) * samples);
    all.views?.copyWithin(at * VIEW_NUMBERS, i * VIEW_NUMBERS, (i + 1) * VIEW_NUMBERS);
  });
  return {
    prepared: {
      ...all,
      data: all.data.subarray(0, left.length * samples),
      ...(all.views !== undefined && { views: all.views.subarray(0, left.length * VIEW_NUMBERS) }),
    },
    films: films.filter((film) => !failed.has(film)),
  };
}

/** With the reasons; of many the first ones. */
export function named(unreadable: readonly Unreadable<{ readonly name: string }>[], most = 3): string {
  const some = unreadable.slice(0, most).map(({ film, reason }) => `${film.name}: ${reason}`);
  return [...some, ...(unreadable.length > most ? ['…'] : [])].join('; ');
}

/** The samples of film `i`: a view. */
export function filmAt({ data, width, height, channels }: PreparedFilms, i: number): IntegerSamples {
  const samples = width * height * channels;
  return data.subarray(i * samples, (i + 1) * samples);
}

/** Which part of its film the prepared film `i` shows. */
export function viewAt({ views, width, height }: PreparedFilms, i: number): View {
  const [x = 0, y = 0, w = width, h = height, filmWidth = width, filmHeight = height] =
    views?.subarray(i * VIEW_NUMBERS, (i + 1) * VIEW_NUMBERS) ?? [];
  return { x, y, width: w, height: h, film: { width: filmWidth, height: filmHeight } };
}

/** Films as a network's input: the same tensor as in serving. */
export function imagesOf(films: PreparedFilms, index: Uint32Array, input: Bundle['input']): HostTensor {
  return inputTensor(
    Array.from(index, (i) => ({ ...films, data: filmAt(films, i) })),
    input,
  );
}

/** The input of a network that is shown grey films as 0–1. */
export function unscaledInput({ width, height }: PreparedFilms): Bundle['input'] {
  return { width, height, channels: 1, layout: 'NHWC', mean: [0], std: [1] };
}

async function run(
  film: Omit<Film, 'split'>,
  segment: Segment,
  pool: WorkerPool,
): Promise<{ readonly image: Image; readonly view: View }> {
  const { size, mtimeMs } = await stat(film.path);
  const file = await pool.read({ path: film.path, name: film.name, size, mtimeMs }, Infinity);
  if (file?.sha256 !== film.sha256) throw new Error('the file has changed since it was hashed');
  const frame: Frame = {
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
  const made = await pool.make(segment, frame);
  const image = imageOf(made);
  return { image, view: viewOf(image, made.view) };
}

function samplesOf(data: Image['data']): IntegerSamples {
  if (!(data instanceof Float32Array)) return data;
  throw new Error('floating-point samples cannot be kept: leave `normalize` out, the network does its own');
}

/** As 16 bit. 255 becomes 65535: the networks see the same numbers as before. */
function widened(samples: IntegerSamples): Uint16Array {
  return samples instanceof Uint16Array ? samples : Uint16Array.from(samples, (sample) => sample * 257);
}

function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex');
}

function shape({ width, height, channels }: Omit<PreparedFilms, 'data' | 'views'>): string {
  return `${width}×${height}×${channels}`;
}

/** A missing or damaged cache file is no error: the films are prepared again. */
async function fromCache(path: string, films: number): Promise<PreparedFilms | undefined> {
  try {
    const { tensors } = await readTensorFile(path);
    const { data, dims } = tensors.films ?? {};
    const views = tensors.views?.data;
    const [n, height, width, channels] = dims ?? [];
    if (!(data instanceof Uint8Array || data instanceof Uint16Array) || n !== films) return undefined;
    if (width === undefined || height === undefined || channels === undefined) return undefined;
    if (!(views instanceof Float32Array)) return undefined;
    return { width, height, channels, data, views };
  } catch {
    return undefined;
  }
}
