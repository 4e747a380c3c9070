import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { RxrayError } from '../../core/errors.js';
import { imageOf, type Frame } from '../../core/frame.js';
import type { LintContext, LintMessage } from '../../core/plugin.js';
import {
  BundleError,
  readBundle,
  readBundleFile,
  type Bundle,
  type PreprocessingStep,
} from '../../models/bundle.js';

/** The options of every stage with a trained model. */
export const modelOptions = {
  bundle: z.string().describe('The folder of the trained model, with its bundle.json.'),
  device: z
    .enum(['auto', 'cpu', 'webgpu', 'cuda'])
    .default('auto')
    .describe('The device of ONNX Runtime: `auto` takes the fastest that works.'),
  runtime: z
    .enum(['onnx', 'tensorflow'])
    .default('onnx')
    .describe(
      '`tensorflow` runs the same network in TensorFlow.js, on @tensorflow/tfjs-node-gpu or -node where one is installed; slower.',
    ),
};

/** A bundle of the right kind, or `BUNDLE_NOT_FOUND` or `BUNDLE_DAMAGED`. */
export async function openBundle(dir: string, kind: Bundle['kind'], component: string): Promise<Bundle> {
  const bundle = await readBundle(dir).catch((error: unknown) => {
    throw asRxrayError(error, component);
  });
  if (bundle.kind !== kind) {
    throw new RxrayError('BUNDLE_DAMAGED', wrongKind(dir, bundle, kind), { component });
  }
  return bundle;
}

/** The bytes of one of the bundle's files, checked. Throws `BUNDLE_NOT_FOUND` or `BUNDLE_DAMAGED`. */
export async function openBundleFile(
  dir: string,
  bundle: Bundle,
  role: string,
  component: string,
): Promise<Uint8Array> {
  return readBundleFile(dir, bundle, role).catch((error: unknown) => {
    throw asRxrayError(error, component);
  });
}

/** Loads a model from bytes; errors are reported as `BUNDLE_DAMAGED`. */
export async function orDamaged<T>(
  dir: string,
  role: string,
  component: string,
  load: () => Promise<T>,
): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RxrayError('BUNDLE_DAMAGED', `the file for "${role}" in ${dir} cannot be loaded: ${why}`, {
      component,
      cause,
    });
  }
}

/** Throws `BUNDLE_SHAPE` unless every frame has the size that the model was trained on. */
export function requireSize(frames: readonly Frame[], { name, input }: Bundle, component: string): void {
  for (const frame of frames) {
    const { width, height } = imageOf(frame);
    if (width === input.width && height === input.height) continue;
    throw new RxrayError(
      'BUNDLE_SHAPE',
      `the model "${name}" was trained on ${input.width}×${input.height} pixels, the image has ${width}×${height}: ` +
        `put \`use: resize\` with \`{ width: ${input.width}, height: ${input.height} }\` before it`,
      { component },
    );
  }
}

/** Errors of the bundle, and differences between the graph's preprocessing and that of training. */
export async function lintBundle(
  path: string,
  kind: Bundle['kind'],
  { baseDir, preceding }: LintContext,
): Promise<LintMessage[]> {
  const dir = resolve(baseDir, path);
  let bundle: Bundle;
  try {
    bundle = await readBundle(dir);
    for (const role of Object.keys(bundle.files)) await readBundleFile(dir, bundle, role);
  } catch (error) {
    const { code, message } = asRxrayError(error, '');
    return [{ severity: 'error', code, option: ['bundle'], message }];
  }
  if (bundle.kind !== kind) {
    return [
      {
        severity: 'error',
        code: 'BUNDLE_DAMAGED',
        option: ['bundle'],
        message: wrongKind(dir, bundle, kind),
      },
    ];
  }
  return skew(preceding, bundle, baseDir);
}

async function skew(
  preceding: LintContext['preceding'],
  { kind, name, input, preprocessing: recorded }: Bundle,
  baseDir: string,
): Promise<LintMessage[]> {
  // A stage that only adds results counts if training used its results, as `crop` uses a mask.
  const trainedOn = new Set(recorded.map(({ use }) => use));
  const graph = preceding.filter(({ use, keepsPixels }) => keepsPixels !== true || trainedOn.has(use));
  // The segmenter's stage applies these itself to a copy of a film of another size.
  const repeats = kind === 'segmenter' && !graph.some(({ use }) => use === 'resize');
  const preprocessing = repeats ? recorded.filter(({ use }) => use === 'decode') : recorded;
  const messages: LintMessage[] = [];
  const size = graph.map((step) => sizeOf(step.with)).findLast((found) => found !== undefined);
  if (size !== undefined && !repeats && (size.width !== input.width || size.height !== input.height)) {
    messages.push({
      severity: 'error',
      code: 'BUNDLE_SHAPE',
      option: [],
      message:
        `images have ${size.width}×${size.height} pixels here, but "${name}" was trained on ` +
        `${input.width}×${input.height}`,
    });
  }
  const warn = (message: string, stage?: Step, option: readonly string[] = []): void => {
    messages.push({
      severity: 'warning',
      code: 'CONFIG_PREPROCESSING',
      stage: stage?.id,
      option,
      message: `other preprocessing than in training: ${message}`,
    });
  };
  for (const [trained, here] of pairs(preprocessing, graph)) {
    if (here === undefined) {
      warn(`"${name}" was trained after \`${trained?.use}\`, which is missing here (or is in another order)`);
    } else if (trained === undefined) {
      warn(`"${name}" was trained without \`${here.use}\` (or with it in another order)`, here);
    } else {
      const settings = here.with as Readonly<Record<string, unknown>>;
      for (const [option, value] of Object.entries(trained.with)) {
        if (here.limits?.includes(option) === true) continue;
        if (isDeepStrictEqual(settings[option], value)) continue;
        const [is, was] = [settings[option], value].map((each) => JSON.stringify(each));
        const difference =
          typeof value === 'string' && option === 'bundle'
            ? await differenceOf(resolve(baseDir, String(settings.bundle)), value)
            : `is ${is} here and was ${was} for "${name}"`;
        if (difference !== undefined) warn(`${here.use}.${option} ${difference}`, here, [option]);
      }
    }
  }
  return messages;
}

/** How the bundle of a stage differs from the one in training; undefined if it is the same model, in any folder. */
async function differenceOf(here: string, trained: string): Promise<string | undefined> {
  try {
    const [mine, theirs] = await Promise.all(
      [here, trained].map(async (dir) => modelIn(await readBundle(dir))),
    );
    if (isDeepStrictEqual(mine, theirs)) return undefined;
    return `has another model than in training: ${here} here, ${trained} there`;
  } catch (error) {
    const { message } = asRxrayError(error, '');
    return `cannot be compared with the one in training: ${message}`;
  }
}

/** What a bundle makes of an image, without names, paths and figures. */
function modelIn({ files, input, preprocessing }: Bundle): object {
  const hashes = new Map(Object.entries(files).map(([role, { sha256 }]) => [role, sha256]));
  return { hashes, input, preprocessing };
}

function sizeOf(settings: unknown): { width: number; height: number } | undefined {
  const { width, height } = settings as { width?: unknown; height?: unknown };
  return typeof width === 'number' && typeof height === 'number' ? { width, height } : undefined;
}

type Step = LintContext['preceding'][number];
type Pair = readonly [trained: PreprocessingStep | undefined, here: Step | undefined];

/** Both chains side by side: the longest common subsequence of their stages, the rest alone. */
function pairs(trained: readonly PreprocessingStep[], here: readonly Step[]): Pair[] {
  const [a, ...as] = trained;
  const [b, ...bs] = here;
  if (a === undefined) return here.map((step) => [undefined, step]);
  if (b === undefined) return trained.map((step) => [step, undefined]);
  if (a.use === b.use) return [[a, b], ...pairs(as, bs)];
  const skipped: Pair[] = [[a, undefined], ...pairs(as, here)];
  const added: Pair[] = [[undefined, b], ...pairs(trained, bs)];
  return skipped.length <= added.length ? skipped : added;
}

const STAGE_OF: Readonly<Record<Bundle['kind'], string>> = {
  ...{
    classifier: 'resnet',
    anogan: 'anogan',
    patchcore: 'patchcore',
    segmenter: 'unet',
    detector: 'retinanet',
  },
};

function wrongKind(dir: string, bundle: Bundle, wanted: Bundle['kind']): string {
  return (
    `expected a bundle of kind "${wanted}", but ${dir} holds "${bundle.name}" of kind "${bundle.kind}": ` +
    `the stage for it is \`${STAGE_OF[bundle.kind]}\``
  );
}

function asRxrayError(error: unknown, component: string): RxrayError {
  if (!(error instanceof BundleError)) throw error;
  const code = error.reason === 'missing' ? 'BUNDLE_NOT_FOUND' : 'BUNDLE_DAMAGED';
  return new RxrayError(code, error.message, { component, cause: error });
}
