import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { RxrayError, messageOf } from '../core/errors.js';
import type { StageResult } from '../core/frame.js';
import type { Log } from '../core/plugin.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import type { Engine, EngineSession, HostTensors } from '../engine/index.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import { writeBundle } from './write-bundle.js';
import { openModel } from './evaluation/score.js';
import { phantomCheck, savePhantom } from './phantom-check.js';
import { imagesOf, prepareFilms, resolveChain, type PreparedFilms } from './preprocess.js';

/** What an ONNX file says of the images that it takes; undefined where it leaves that open. */
export interface OnnxInput {
  readonly layout: 'NHWC' | 'NCHW' | undefined;
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly channels: 1 | 3 | undefined;
}

/** What nobody but the model's maker knows. */
export interface ImportSettings {
  readonly labels: readonly string[];
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly layout: 'NHWC' | 'NCHW';
  /** What black and white are before `mean` and `std`: [0, 1], [0, 255], [-1024, 1024]. */
  readonly range: readonly [number, number];
  /** In units of the range, one for all channels or one each. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** The stages before the model. */
  readonly chain: readonly PreprocessingStep[];
  readonly name: string;
  /** Of the weights, SPDX. */
  readonly license: string;
  readonly source: string;
}

interface ImportServices {
  readonly registry: PluginRegistry;
  readonly engine: Engine;
  readonly log: Log;
  readonly rxray: string;
}

/** Opens a model from elsewhere. Throws `IMPORT_REFUSED` unless it has one input of rank 4. */
export async function openOnnxClassifier(
  path: string,
  engine: Engine,
): Promise<{ bytes: Uint8Array; session: EngineSession; input: OnnxInput }> {
  let bytes: Uint8Array;
  let session: EngineSession;
  try {
    bytes = await readFile(path);
    session = await engine.load(bytes, { name: 'imported', device: 'cpu' });
  } catch (cause) {
    throw refused(`${path} cannot be loaded: ${messageOf(cause)}`, cause);
  }
  const [input, ...others] = session.inputs;
  if (input?.dims.length !== 4 || input.dtype !== 'float32' || others.length > 0) {
    const found = session.inputs.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`);
    throw refused(`expected one input of float32 images with 4 dimensions, ${path} has ${found.join('; ')}`);
  }
  const [batch, ...rest] = input.dims;
  if (typeof batch === 'number' && batch !== 1) {
    throw refused(
      `expected an input for any batch, or for batches of 1; ${path} takes batches of ${batch} only`,
    );
  }
  const isChannels = (dim: unknown): dim is 1 | 3 => dim === 1 || dim === 3;
  const layout = isChannels(rest[0]) ? 'NCHW' : isChannels(rest[2]) ? 'NHWC' : undefined;
  const size = layout === 'NHWC' ? rest.slice(0, 2) : rest.slice(1);
  const [height, width] = size.map((dim) =>
    typeof dim === 'number' && layout !== undefined ? dim : undefined,
  );
  const channels = [rest[0], rest[2]].find(isChannels);
  return { bytes, session, input: { layout, width, height, channels } };
}

/**
 * Makes a bundle of a classifier from elsewhere, and shows it a film: the one of `film`, or our phantom.
 * Throws `IMPORT_REFUSED` when what was said of it cannot be true.
 */
export async function importClassifier(
  { bytes, session }: { readonly bytes: Uint8Array; readonly session: EngineSession },
  settings: ImportSettings,
  out: string,
  film: string | undefined,
  services: ImportServices,
): Promise<{ bundle: Bundle; result: StageResult }> {
  const { registry, engine, log, rxray } = services;
  const input = inputOf(settings);
  const temporary = await mkdtemp(join(tmpdir(), 'rxray-import-'));
  try {
    const path = film === undefined ? await savePhantom(temporary) : resolve(film);
    const steps = await resolveChain(settings.chain, registry, process.cwd());
    const chain = steps.map(({ use, with: options }) => ({ use, with: options }));
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
    const output = await outputOf(session, prepared, input, settings.labels);
    const described: Omit<Bundle, 'files'> = {
      format: 1,
      kind: 'classifier',
      name: settings.name,
      architecture: { name: 'onnx', output },
      createdAt: new Date().toISOString(),
      rxray,
      license: settings.license,
      input,
      preprocessing: chain,
      labels: [...settings.labels],
      check: await phantomCheck({ registry, baseDir: process.cwd(), log, rxray }, chain, input),
      metrics: {},
      data: { name: 'unknown', license: 'unknown', source: settings.source, fingerprint: '', counts: {} },
      training: {},
    };
    // The stage that serves it has the last word, before an earlier bundle is replaced.
    const trial = join(temporary, 'bundle');
    await writeBundle(trial, described, { model: bytes }, cardOf(described));
    const model = await openModel(trial, 'classifier', {}, { registry, engine, log, stateDir: temporary });
    const [result] = await model.score([{ ...prepared, channels: 1 }]).finally(() => model.dispose());
    if (result === undefined) throw refused('the stage gave no result');
    return { bundle: await writeBundle(out, described, { model: bytes }, cardOf(described)), result };
  } catch (cause) {
    throw cause instanceof RxrayError ? cause : refused(messageOf(cause), cause);
  } finally {
    await rm(temporary, { recursive: true });
  }
}

/** A bundle's mean and std are those of samples from 0 to 1. */
function inputOf({ width, height, channels, layout, range, mean, std }: ImportSettings): Bundle['input'] {
  const [black, white] = range;
  const span = white - black;
  if (span <= 0 || std.some((value) => value <= 0)) {
    throw refused(
      `expected a range from low to high and an std above 0, got ${range.join(' to ')} and ${std.join(', ')}`,
    );
  }
  return {
    ...{ width, height, channels, layout },
    mean: mean.map((value) => (value - black) / span),
    std: std.map((value) => value / span),
  };
}

/** Shows it the film, and tells probabilities from logits by what comes out. */
async function outputOf(
  session: EngineSession,
  film: PreparedFilms,
  input: Bundle['input'],
  labels: readonly string[],
): Promise<'logits' | 'probabilities'> {
  const [name] = session.inputs.map((each) => each.name);
  let outputs: HostTensors;
  try {
    outputs = await session.run({ [name ?? '']: imagesOf(film, Uint32Array.of(0), input) });
  } catch (cause) {
    throw refused(
      `it does not run on ${input.layout} images of ${input.width}×${input.height}×${input.channels}: ${messageOf(cause)}`,
      cause,
    );
  }
  const tensor = outputs.probabilities ?? outputs.logits ?? Object.values(outputs)[0];
  const values = Array.from(tensor?.data ?? [], Number);
  if (values.length !== labels.length) {
    throw refused(
      `expected one number for each of the ${labels.length} labels, it gives [${tensor?.dims.join(', ') ?? ''}]`,
    );
  }
  if (!values.every(Number.isFinite))
    throw refused('its answer to the film is not finite: are range, mean and std right?');
  const sum = values.reduce((a, b) => a + b, 0);
  const shares = values.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) < 1e-3;
  return shares ? 'probabilities' : 'logits';
}

function cardOf({ name, labels, license, data, input, architecture }: Omit<Bundle, 'files'>): string {
  return [
    `# ${name}`,
    '',
    `A classifier from elsewhere, of ${input.width}×${input.height} films: ${labels.join(', ')}. Its output was taken to be ${String(architecture.output)}.`,
    '',
    '**Not a medical device.** It must not be used to diagnose or treat anybody.',
    '',
    `Source: ${data.source} Weights: ${license}. What it was trained on, and how well it does, is not known here: \`rxray evaluate\` judges it on films of your own.`,
    '',
  ].join('\n');
}

function refused(message: string, cause?: unknown): RxrayError {
  return new RxrayError('IMPORT_REFUSED', message, { cause });
}
