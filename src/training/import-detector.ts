import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Detection } from '../core/frame.js';
import type { Engine, ValueInfo } from '../engine/index.js';
import type { Bundle } from '../models/bundle.js';
import { importedCard, UNKNOWN } from './card.js';
import { openModel } from './evaluation/score.js';
import {
  inputOf,
  prepareTrial,
  readModel,
  refused,
  type ImportServices,
  type ImportSettings,
  type OnnxInput,
} from './import-classifier.js';
import { phantomCheck } from './phantom-check.js';
import { requireBundlePlace, writeBundle } from './write-bundle.js';

/** A detector from elsewhere, as torchvision exports it. */
export interface OnnxDetector {
  readonly bytes: Uint8Array;
  readonly images: OnnxInput;
  /** Names of its outputs. */
  readonly outputs: Readonly<Record<'boxes' | 'scores' | 'labels', string>>;
  /** SHA-256 of the files that it was read from, by name. */
  readonly origin: Readonly<Record<string, string>>;
}

/**
 * Reads a model that gives boxes [D,4] (corners in pixels of its input), scores [D] and labels [D] (int64) for one image;
 * undefined where it does not. Throws `IMPORT_REFUSED` where it does, and takes something else than one float32 image.
 */
export async function openOnnxDetector(path: string, engine: Engine): Promise<OnnxDetector | undefined> {
  const unreadable = (cause: unknown): RxrayError =>
    cause instanceof RxrayError ? cause : refused(`${path} cannot be loaded: ${messageOf(cause)}`, cause);
  const { bytes, origin } = await readModel(path).catch((cause: unknown) => {
    throw unreadable(cause);
  });
  const session = await engine.load(bytes, { name: 'imported', device: 'cpu' }).catch((cause: unknown) => {
    throw unreadable(cause);
  });
  const { inputs, outputs } = session;
  await session.dispose();
  const found = outputsOf(outputs);
  if (found === undefined) return undefined;
  const [input, ...others] = inputs as readonly ValueInfo[];
  const dims = input?.dims.slice(-3) ?? [];
  const [channels, height, width] = dims;
  const batch = input?.dims.length === 4 ? input.dims[0] : 1;
  if (
    input?.dtype !== 'float32' ||
    others.length > 0 ||
    dims.length !== 3 ||
    (channels !== 1 && channels !== 3) ||
    (typeof batch === 'number' && batch !== 1)
  ) {
    throw refused(
      `expected a detector of one float32 image, [3,H,W] or [1,3,H,W]; ${path} takes ${inputs.map((each) => `${each.name} ${each.dtype} [${each.dims.join(', ')}]`).join('; ')}`,
    );
  }
  const size = (dim: unknown): number | undefined => (typeof dim === 'number' && dim > 0 ? dim : undefined);
  return {
    bytes,
    origin,
    outputs: found,
    images: { layout: 'NCHW', width: size(width), height: size(height), channels, bytes: false },
  };
}

/** The outputs by their names, or where those say nothing by their types and dimensions. */
function outputsOf(outputs: readonly ValueInfo[]): OnnxDetector['outputs'] | undefined {
  const names = ['boxes', 'scores', 'labels'] as const;
  const named = (name: string): ValueInfo | undefined => outputs.find((output) => output.name === name);
  const boxes =
    named('boxes') ??
    outputs.find(({ dtype, dims }) => dtype === 'float32' && dims.length === 2 && dims[1] === 4);
  const scores =
    named('scores') ?? outputs.find(({ dtype, dims }) => dtype === 'float32' && dims.length === 1);
  const labels =
    named('labels') ?? outputs.find(({ dtype, dims }) => dtype.startsWith('int') && dims.length === 1);
  if (boxes === undefined || scores === undefined || labels === undefined || outputs.length < names.length)
    return undefined;
  return { boxes: boxes.name, scores: scores.name, labels: labels.name };
}

/** Makes a bundle of a detector from elsewhere, and shows it a film. Throws `IMPORT_REFUSED`; `out` is then unchanged. */
export async function importDetector(
  model: OnnxDetector,
  settings: Pick<
    ImportSettings,
    | 'labels'
    | 'width'
    | 'height'
    | 'channels'
    | 'range'
    | 'mean'
    | 'std'
    | 'chain'
    | 'name'
    | 'license'
    | 'source'
  > & { readonly thresholds: Readonly<Record<string, number>> | undefined },
  out: string,
  film: string | undefined,
  services: ImportServices,
): Promise<{ bundle: Bundle; result: Detection }> {
  const { registry, engine, log, rxray } = services;
  await requireBundlePlace(out);
  const input = inputOf({ ...settings, layout: 'NCHW' }, false);
  const temporary = await mkdtemp(join(tmpdir(), 'rxray-import-'));
  try {
    const { prepared, chain } = await prepareTrial(settings.chain, input, film, temporary, services);
    const described: Omit<Bundle, 'files'> = {
      format: 1,
      kind: 'detector',
      name: settings.name,
      architecture: { name: 'onnx', outputs: model.outputs, origin: model.origin },
      createdAt: new Date().toISOString(),
      rxray,
      license: settings.license,
      input,
      preprocessing: chain,
      labels: [...settings.labels],
      ...(settings.thresholds !== undefined && { thresholds: settings.thresholds }),
      check: await phantomCheck({ registry, baseDir: process.cwd(), log, rxray }, chain, input),
      metrics: {},
      data: { name: UNKNOWN, license: UNKNOWN, source: settings.source, fingerprint: '', counts: {} },
      training: {},
    };
    // The serving stage must accept it before an earlier bundle is replaced.
    const trial = join(temporary, 'bundle');
    await writeBundle(trial, described, { model: model.bytes }, cardOf(described));
    const stage = await openModel(trial, 'detector', {}, { registry, engine, log, stateDir: temporary });
    const [result] = await stage.score([{ ...prepared, channels: 1 }]).finally(() => stage.dispose());
    if (result === undefined) throw refused('the stage gave no result');
    const bundle = await writeBundle(out, described, { model: model.bytes }, cardOf(described));
    return { bundle, result: result as Detection };
  } catch (cause) {
    throw cause instanceof RxrayError ? cause : refused(messageOf(cause), cause);
  } finally {
    await rm(temporary, { recursive: true });
  }
}

function cardOf(bundle: Omit<Bundle, 'files'>): string {
  const { labels, input } = bundle;
  return importedCard(
    bundle,
    `A detector from elsewhere, of ${input.width}×${input.height} films: it finds boxes of ${labels.join(', ')}.`,
  );
}
