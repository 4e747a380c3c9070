import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { RxrayError, messageOf } from '../core/errors.js';
import type { Classification } from '../core/frame.js';
import type { Log } from '../core/plugin.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import {
  adaptClassifier,
  embedExternalFiles,
  EngineError,
  externalFiles,
  isConvertible,
  lastOperators,
  opsetOf,
  type Engine,
  type HostTensors,
  type ValueInfo,
} from '../engine/index.js';
import { blankLike } from '../imaging/image.js';
import {
  readRegularFile,
  sha256,
  type Activation,
  type Bundle,
  type PreprocessingStep,
} from '../models/bundle.js';
import { seededRandom } from '../models/random.js';
import { openModel } from './evaluation/score.js';
import { importedCard, UNKNOWN } from './card.js';
import { areFindings } from './labels.js';
import { phantomCheck, savePhantom } from './phantom-check.js';
import { imagesOf, prepareFilms, resolveChain, type PreparedFilms } from './preprocess.js';
import { requireBundlePlace, writeBundle } from './write-bundle.js';

/** The image input of an ONNX file; undefined where the file leaves it open. */
export interface OnnxInput {
  readonly layout: 'NHWC' | 'NCHW' | undefined;
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly channels: 1 | 3 | undefined;
  /** It takes bytes, 0–255. */
  readonly bytes: boolean;
}

/** An imported model with all its weights. */
export interface OnnxClassifier {
  readonly bytes: Uint8Array;
  readonly input: ValueInfo;
  readonly outputs: readonly ValueInfo[];
  readonly images: OnnxInput;
  /** SHA-256 of the files that it was read from, by name. */
  readonly origin: Readonly<Record<string, string>>;
}

/** Settings that are not in the file. */
export interface ImportSettings {
  readonly labels: readonly string[];
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly layout: 'NHWC' | 'NCHW';
  /** Values of black and white before `mean` and `std`: [0, 1], [0, 255], [-1024, 1024]. */
  readonly range: readonly [number, number];
  /** In units of the range, one for all channels or one each. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** The stages before the model. */
  readonly chain: readonly PreprocessingStep[];
  /** The meaning of its output; undefined: found from the graph and the output for some films. */
  readonly activation: Activation | undefined;
  /** With `activation: none`: the labels may be present together. Undefined: unless the probabilities sum to 1. */
  readonly multiLabel: boolean | undefined;
  /** Which output has the scores; undefined: the one with a number for each label. */
  readonly output: string | undefined;
  /** For multi-label models, the thresholds of findings. */
  readonly thresholds: Readonly<Record<string, number>> | undefined;
  /** The labels of a healthy film. */
  readonly healthy: readonly string[];
  readonly name: string;
  /** Of the weights, SPDX. */
  readonly license: string;
  readonly source: string;
}

export interface ImportServices {
  readonly registry: PluginRegistry;
  readonly engine: Engine;
  readonly log: Log;
  readonly rxray: string;
}

/** Reads a model with its external weights. Throws `IMPORT_REFUSED` unless it has one input of rank 4. */
export async function openOnnxClassifier(path: string, engine: Engine): Promise<OnnxClassifier> {
  try {
    const { bytes, origin } = await readModel(path);
    const session = await engine.load(bytes, { name: 'imported', device: 'cpu' });
    const { inputs, outputs } = session;
    await session.dispose();
    const [input, ...others] = inputs as readonly ValueInfo[];
    if (input?.dims.length !== 4 || !isConvertible(input.dtype) || others.length > 0) {
      throw refused(
        `expected one input of images with 4 dimensions (float32, float16, float64 or uint8), ${path} has ${listed(inputs)}`,
      );
    }
    if (input.dtype === 'uint8' && opsetOf(bytes) < 11) {
      throw refused(`${path} takes bytes and has opset ${opsetOf(bytes)}: export it with opset 11 or later`);
    }
    const [batch, ...rest] = input.dims;
    if (typeof batch === 'number' && batch > 1) {
      throw refused(
        `expected an input for any batch, or for batches of 1; ${path} takes batches of ${batch} only`,
      );
    }
    const isChannels = (dim: unknown): dim is 1 | 3 => dim === 1 || dim === 3;
    const layout: OnnxInput['layout'] = isChannels(rest[0])
      ? 'NCHW'
      : isChannels(rest[2])
        ? 'NHWC'
        : undefined;
    const size = layout === 'NHWC' ? rest.slice(0, 2) : rest.slice(1);
    const [height, width] = size.map((dim) =>
      typeof dim === 'number' && dim > 0 && layout !== undefined ? dim : undefined,
    );
    const channels = [rest[0], rest[2]].find(isChannels);
    const images = { layout, width, height, channels, bytes: input.dtype === 'uint8' };
    return { bytes, input, outputs, images, origin };
  } catch (cause) {
    if (cause instanceof RxrayError) throw cause;
    throw unanswered(cause) ?? refused(`${path} cannot be loaded: ${messageOf(cause)}`, cause);
  }
}

/** The model as one file, including external weights. Throws `IMPORT_REFUSED`. */
export async function readModel(path: string): Promise<Pick<OnnxClassifier, 'bytes' | 'origin'>> {
  const bytes = await readRegularFile(path);
  const origin: Record<string, string> = { [basename(path)]: sha256(bytes) };
  const files = new Map<string, Uint8Array>();
  for (const name of externalFiles(bytes)) {
    if (name === '' || isAbsolute(name) || name.split(/[\\/]/).includes('..')) {
      throw refused(`${path} names a file of weights outside its folder: "${name}"`);
    }
    const file = join(dirname(path), name);
    const weights = await readRegularFile(file).catch((cause: unknown) => {
      throw refused(
        `${path} keeps its weights in "${name}": ${file} cannot be read (${messageOf(cause)})`,
        cause,
      );
    });
    files.set(name, weights);
    origin[name] = sha256(weights);
  }
  if (files.size === 0) return { bytes, origin };
  const total = [bytes, ...files.values()].reduce((sum, { length }) => sum + length, 0);
  if (total > LARGEST)
    throw refused(`${path} and its weights have ${total} bytes; at most 2 GiB are supported`);
  return { bytes: embedExternalFiles(bytes, files), origin };
}

/** ONNX Runtime reads at most this from one file: the limit of Protocol Buffers. */
const LARGEST = 2 ** 31 - 1;

/**
 * Makes a bundle of an imported classifier, and runs it on a film: `film`, or the phantom. Throws `IMPORT_REFUSED` if
 * the settings cannot be right; `out` is then unchanged.
 */
export async function importClassifier(
  model: OnnxClassifier,
  settings: ImportSettings,
  out: string,
  film: string | undefined,
  services: ImportServices,
): Promise<{ bundle: Bundle; result: Classification; decided: string }> {
  const { registry, engine, log, rxray } = services;
  await requireBundlePlace(out);
  const input = inputOf(settings, model.images.bytes);
  const temporary = await mkdtemp(join(tmpdir(), 'rxray-import-'));
  try {
    const { prepared, chain } = await prepareTrial(settings.chain, input, film, temporary, services);
    const fitted = await fitClassifier(model, prepared, input, settings, engine);
    const { bytes, output, activation, multiLabel, decided } = fitted;
    const described: Omit<Bundle, 'files'> = {
      format: 1,
      kind: 'classifier',
      name: settings.name,
      architecture: { name: 'onnx', output, origin: model.origin },
      createdAt: new Date().toISOString(),
      rxray,
      license: settings.license,
      input,
      preprocessing: chain,
      labels: [...settings.labels],
      activation,
      multiLabel,
      ...(settings.thresholds !== undefined && { thresholds: settings.thresholds }),
      healthy: [...settings.healthy],
      check: await phantomCheck({ registry, baseDir: process.cwd(), log, rxray }, chain, input),
      metrics: {},
      data: { name: 'unknown', license: UNKNOWN, source: settings.source, fingerprint: '', counts: {} },
      training: {},
    };
    // The serving stage must accept it before an earlier bundle is replaced.
    const trial = join(temporary, 'bundle');
    await writeBundle(trial, described, { model: bytes }, cardOf(described));
    const stage = await openModel(trial, 'classifier', {}, { registry, engine, log, stateDir: temporary });
    const [result] = await stage.score([{ ...prepared, channels: 1 }]).finally(() => stage.dispose());
    if (result === undefined) throw refused('the stage gave no result');
    const bundle = await writeBundle(out, described, { model: bytes }, cardOf(described));
    return { bundle, result: result as Classification, decided };
  } catch (cause) {
    throw cause instanceof RxrayError ? cause : (unanswered(cause) ?? refused(messageOf(cause), cause));
  } finally {
    await rm(temporary, { recursive: true });
  }
}

/** A film (or our phantom) through the stages before the model. Throws `IMPORT_REFUSED` where they do not fit its input. */
export async function prepareTrial(
  wanted: readonly PreprocessingStep[],
  input: Bundle['input'],
  film: string | undefined,
  temporary: string,
  { registry, log, rxray }: Omit<ImportServices, 'engine'>,
): Promise<{ readonly prepared: PreparedFilms; readonly chain: PreprocessingStep[] }> {
  const path = film === undefined ? await savePhantom(temporary) : resolve(film);
  const steps = await resolveChain(wanted, registry, process.cwd());
  const chain = steps.map(({ url: _url, ...step }) => step);
  const sha256 = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  const { prepared } = await prepareFilms([{ path, name: 'film', class: '', patient: '', sha256 }], steps, {
    cacheDir: temporary,
    baseDir: process.cwd(),
    log,
    rxray,
    threads: 1,
  });
  if (prepared.channels !== 1) throw refused('the stages must end in grey images: they fill all channels');
  if (prepared.width !== input.width || prepared.height !== input.height) {
    throw refused(
      `the stages make images of ${prepared.width}×${prepared.height}, the model takes ${input.width}×${input.height}`,
    );
  }
  return { prepared, chain };
}

/**
 * The model as the stage wants it (one float32 input, one float32 output [N,K]), and what its numbers mean.
 *
 * @param film One prepared film. Throws `IMPORT_REFUSED` where the model does not fit the settings, or leaves its meaning open.
 */
export async function fitClassifier(
  model: OnnxClassifier,
  film: PreparedFilms,
  input: Bundle['input'],
  settings: Pick<ImportSettings, 'labels' | 'output' | 'activation' | 'multiLabel'>,
  engine: Engine,
): Promise<{ readonly bytes: Uint8Array; readonly output: string } & Meaning> {
  const { bytes, output, rows } = await adapt(model, film, input, settings, engine);
  return { bytes, output, ...meaningOf(settings, rows, lastOperators(model.bytes, output)) };
}

/** A film that reaches a model for bytes with fewer grey levels was scaled wrongly. */
const FEWEST_LEVELS = 128;

/** A bundle's mean and std are those of samples from 0 to 1. */
export function inputOf(
  {
    width,
    height,
    channels,
    layout,
    range,
    mean,
    std,
  }: Pick<ImportSettings, 'width' | 'height' | 'channels' | 'layout' | 'range' | 'mean' | 'std'>,
  bytes: boolean,
): Bundle['input'] {
  const [black, white] = range;
  const span = white - black;
  if (span <= 0 || std.some((value) => value <= 0)) {
    throw refused(
      `expected a range from low to high and an std above 0, got ${range.join(' to ')} and ${std.join(', ')}`,
    );
  }
  const input = {
    ...{ width, height, channels, layout },
    mean: mean.map((value) => (value - black) / span),
    std: std.map((value) => value / span),
  };
  const ends = input.mean.flatMap((value, i) => {
    const scale = input.std[i] ?? input.std[0] ?? 1;
    return [-value / scale, (1 - value) / scale];
  });
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (bytes && (low < -0.5 || high >= 255.5 || high - low < FEWEST_LEVELS)) {
    throw refused(
      `it takes bytes, but black and white would reach it as ${ends.map((end) => end.toFixed(1)).join(' and ')}: ` +
        'leave --range, --mean and --std out',
    );
  }
  return input;
}

/** Made-up images beside the film, none of one grey level: models that scale by minimum and maximum fail on those. */
const PROBES = 4;

/**
 * The model with the float32 input and the one output that the stage wants, and what it answers to some images: the
 * film in the first row.
 */
async function adapt(
  model: OnnxClassifier,
  film: PreparedFilms,
  input: Bundle['input'],
  { labels, output: wanted }: Pick<ImportSettings, 'labels' | 'output'>,
  engine: Engine,
): Promise<{ bytes: Uint8Array; output: string; rows: number[][] }> {
  const usable = model.outputs.filter(({ dtype }) => isConvertible(dtype));
  if (wanted !== undefined && !usable.some(({ name }) => name === wanted)) {
    throw refused(`there is no output "${wanted}" of numbers: the outputs are ${listed(model.outputs)}`);
  }
  const probes = probesOf(film);
  const answers = await run(engine, adaptClassifier(model.bytes, model.input, usable), probes, input);
  const found = usable.map((info, i) => ({ ...info, film: answers[0]?.[i]?.dims ?? [] }));
  const fitting = found.filter(
    ({ name, film: dims }) =>
      (wanted === undefined || name === wanted) &&
      dims.length > 0 &&
      dims.reduce((product, dim) => product * dim, 1) === labels.length,
  );
  const named = (['probabilities', 'logits'] as const)
    .map((name) => fitting.find((each) => each.name === name))
    .find((each) => each !== undefined);
  const chosen = fitting.length === 1 ? fitting[0] : named;
  if (chosen === undefined) {
    const all = found
      .map(({ name, dtype, film: dims }) => `${name} ${dtype} [${dims.join(', ')}]`)
      .join('; ');
    throw refused(
      fitting.length === 0
        ? `expected one number for each of the ${labels.length} labels, it gives ${all || listed(model.outputs)}`
        : `expected one output with a number for each of the ${labels.length} labels, it has ${all}: choose with --output`,
    );
  }
  const at = usable.findIndex(({ name }) => name === chosen.name);
  const rows = answers.map((answer) => Array.from(answer[at]?.data ?? [], Number));
  if (!(rows[0] ?? []).every(Number.isFinite)) {
    throw refused('its answer to the film is not finite: are range, mean and std right?');
  }
  const fits = model.input.dtype === 'float32' && chosen.dtype === 'float32' && chosen.film.length === 2;
  const bytes =
    fits && model.outputs.length === 1 ? model.bytes : adaptClassifier(model.bytes, model.input, [chosen]);
  return { bytes, output: chosen.name, rows };
}

/** The film, and made-up images of its size: a ramp, a spot, and noise. */
function probesOf(film: PreparedFilms): PreparedFilms {
  const area = film.width * film.height;
  const white = film.data instanceof Uint16Array ? 65535 : 255;
  const random = seededRandom(7);
  const draw: ((x: number, y: number) => number)[] = [
    (x) => x / film.width,
    (x, y) => Math.exp(-((x - film.width / 2) ** 2 + (y - film.height / 2) ** 2) / area),
    () => random(),
    (x, y) => (x % 7 === 0 || y % 5 === 0 ? random() : 0),
  ];
  const data = blankLike(film.data, (1 + PROBES) * area);
  data.set(film.data);
  draw.slice(0, PROBES).forEach((level, i) => {
    for (let p = 0; p < area; p++) {
      data[(1 + i) * area + p] = Math.round(white * level(p % film.width, Math.floor(p / film.width)));
    }
  });
  return { ...film, data };
}

/** The outputs for each image alone, in the order of the model's outputs. */
async function run(
  engine: Engine,
  bytes: Uint8Array,
  images: PreparedFilms,
  input: Bundle['input'],
): Promise<HostTensors[string][][]> {
  const session = await engine.load(bytes, { name: 'imported', device: 'cpu' });
  try {
    const [first] = session.inputs;
    const answers = [];
    for (let i = 0; i <= PROBES; i++) {
      const answer = await session.run({ [first?.name ?? '']: imagesOf(images, Uint32Array.of(i), input) });
      answers.push(session.outputs.flatMap(({ name }) => answer[name] ?? []));
    }
    return answers;
  } catch (cause) {
    const gone = unanswered(cause);
    if (gone !== undefined) throw gone;
    throw refused(
      `it does not run on ${input.layout} images of ${input.width}×${input.height}×${input.channels}: ${messageOf(cause)}`,
      cause,
    );
  } finally {
    // Rejects when the engine is gone, which is the error already.
    await session.dispose().catch(() => undefined);
  }
}

/** The refusal of a model that has not answered in time, or has ended its process; undefined for other errors. */
function unanswered(cause: unknown): RxrayError | undefined {
  if (!(cause instanceof EngineError) || cause.code !== 'worker-gone') return undefined;
  return refused(`it gives no answer: ${cause.message} \`--timeout\` gives it more time.`, cause);
}

interface Meaning {
  readonly activation: Activation;
  readonly multiLabel: boolean;
  /** By what it was decided, for the person who imports it. */
  readonly decided: string;
}

/**
 * What the model's numbers are: as the settings say; else as the last operators and the answers to several images show.
 * Throws `IMPORT_REFUSED` where the settings contradict the answers, or where these leave it open.
 */
function meaningOf(
  { activation, multiLabel, labels }: Pick<ImportSettings, 'labels' | 'activation' | 'multiLabel'>,
  all: readonly (readonly number[])[],
  operators: readonly string[],
): Meaning {
  const rows = all.filter((row) => row.every(Number.isFinite));
  const within = rows.every((row) => row.every((value) => value >= -1e-3 && value <= 1 + 1e-3));
  const sumsToOne = rows.every((row) => Math.abs(row.reduce((a, b) => a + b, 0) - 1) < 1e-2);
  const shown = (rows[0] ?? []).map((value) => value.toPrecision(3)).join(', ');
  const one = labels.length === 1;
  if (activation !== undefined) {
    if (activation === 'none' && !within) {
      throw refused(`with --activation none its numbers are probabilities, but it gives ${shown}`);
    }
    if (activation === 'softmax' && one) {
      throw refused('a softmax over one label is always 1: say --activation sigmoid, or none');
    }
    if (activation === 'softmax' && multiLabel === true) {
      throw refused(
        'with a softmax one label excludes the others: leave --multi-label out, or say --activation sigmoid',
      );
    }
    const several = activation === 'sigmoid' || (activation === 'none' && (one || !sumsToOne));
    return { activation, multiLabel: multiLabel ?? several, decided: 'as you said' };
  }
  if (within && sumsToOne && !one && multiLabel !== true) {
    return { activation: 'none', multiLabel: false, decided: 'its numbers sum to 1' };
  }
  if (within && operators.some((type) => type.endsWith('Sigmoid'))) {
    return { activation: 'none', multiLabel: multiLabel ?? true, decided: 'its graph ends in a sigmoid' };
  }
  if (operators.includes('LogSoftmax') && !one) {
    return { activation: 'softmax', multiLabel: false, decided: 'its graph ends in a log-softmax' };
  }
  const say =
    'say --activation softmax (logits of one choice), sigmoid (logits of findings that may occur together) or none (probabilities)';
  if (!within && operators.some((type) => /Sigmoid$|^Softmax$/.test(type))) {
    throw refused(
      `its graph ends in a sigmoid or softmax, but its numbers are no probabilities (${shown}; percents?): leave out what follows it in the export, or ${say}`,
    );
  }
  if (one) throw refused(`one label alone, and nothing shows what its number is (${shown}): ${say}`);
  if (within) {
    throw refused(
      `its numbers lie between 0 and 1 and do not sum to 1 (${shown}), which may mean either: ${say}`,
    );
  }
  if (multiLabel === true) {
    return { activation: 'sigmoid', multiLabel, decided: 'its numbers are logits, of findings as you said' };
  }
  if (areFindings(labels)) {
    throw refused(
      `its labels are findings that may occur together, and its numbers are logits (${shown}): ${say}`,
    );
  }
  return {
    activation: 'softmax',
    multiLabel: false,
    decided:
      'its numbers are logits; if its labels may occur together, import it again with --activation sigmoid',
  };
}

/** In words: what the stage makes of the model's numbers. */
export function meaningInWords({
  activation,
  multiLabel,
}: Pick<Bundle, 'activation' | 'multiLabel'>): string {
  const of = multiLabel ? 'independent findings' : 'one label';
  return activation === 'none' ? `probabilities of ${of}` : `logits of ${of} (${activation ?? 'softmax'})`;
}

function cardOf(bundle: Omit<Bundle, 'files'>): string {
  const { labels, input } = bundle;
  return importedCard(
    bundle,
    `A classifier from elsewhere, of ${input.width}×${input.height} films: ${labels.join(', ')}. Its numbers are read as ${meaningInWords(bundle)}.`,
  );
}

function listed(values: readonly ValueInfo[]): string {
  return values.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`).join('; ');
}

export function refused(message: string, cause?: unknown): RxrayError {
  return new RxrayError('IMPORT_REFUSED', message, { cause });
}
