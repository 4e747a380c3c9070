import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { z } from 'zod';
import { referenceSchema } from './reference.js';

/** One stage of a preprocessing chain, as in YAML. */
const step = z.strictObject({
  id: z.string().optional().describe('What later steps name it by; its `use` unless given.'),
  use: z.string(),
  with: z.record(z.string(), z.unknown()).default({}),
});
export type PreprocessingStep = z.output<typeof step>;

/** A file of the bundle, by its name in the bundle's folder. */
const file = z.strictObject({
  path: z.string().regex(/^(?!\.\.?$)[^/\\]+$/, 'expected the name of a file in the folder of the bundle'),
  sha256: z.string(),
});
export type StoredFile = z.output<typeof file>;

/** How films are scored for anomaly: by an AnoGAN in one of three ways, or by a memory of patches. */
export const ANOMALY_METHODS = ['search', 'encoder', 'refine', 'patchcore'] as const;

/** What makes probabilities of a classifier's output. */
export const ACTIVATIONS = ['softmax', 'sigmoid', 'none'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/**
 * `bundle.json`: everything that is needed to use a trained model as it was trained.
 *
 * A network's input is N × H × W × C float32, made of the image's samples as
 * `(sample × scale − mean) ÷ std`, where `scale` is 1/255 for 8-bit and 1/65535 for 16-bit images.
 */
export const bundleSchema = z.strictObject({
  format: z.literal(1),
  kind: z.enum(['classifier', 'anogan', 'patchcore', 'segmenter', 'detector']),
  name: z.string(),
  architecture: z
    .record(z.string(), z.unknown())
    .describe('What rebuilds the network in TensorFlow.js: name and options.'),
  createdAt: z.string(),
  rxray: z.string().describe('The version that wrote it.'),
  license: z.string().describe('Licence of the weights (SPDX); `unknown` if none is stated.'),
  input: z.strictObject({
    width: z.int().positive(),
    height: z.int().positive(),
    channels: z.union([z.literal(1), z.literal(3)]),
    layout: z.enum(['NHWC', 'NCHW']).default('NHWC'),
    mean: z.array(z.number()).default([0]),
    std: z.array(z.number()).default([1]),
  }),
  preprocessing: z.array(step).describe('The stages before the model, as in the pipeline YAML.'),
  labels: z
    .array(z.string().refine((label) => label.trim() !== '', 'expected a label, got a blank one'))
    .refine((labels) => new Set(labels).size === labels.length, 'expected each label once')
    .default([]),
  activation: z
    .enum(ACTIVATIONS)
    .optional()
    .describe(
      'How probabilities are made of the numbers that a classifier gives: `softmax` over all labels, `sigmoid` of each, or `none`: ' +
        'they are probabilities. Absent: `none` for an output named `probabilities`, else `softmax`.',
    ),
  multiLabel: z
    .boolean()
    .optional()
    .describe('The labels are findings that may be present together: each has a probability of its own.'),
  thresholds: z
    .record(z.string(), z.number().min(0).max(1))
    .optional()
    .describe(
      'Multi-label: the probability from which a label counts as present. Detectors: the score from which a box of that label counts. 0.5 where none is given.',
    ),
  healthy: z
    .array(z.string())
    .optional()
    .describe('The labels, or for an anomaly model the classes, of healthy films.'),
  files: z
    .record(z.string(), file)
    .describe('By role: `model`; or `search`, `features`, `encoder`; `pca`, for comparison.'),
  card: file
    .optional()
    .describe('The model card as it was written: a card that was edited since is not replaced.'),
  reference: z
    .partialRecord(z.enum(ANOMALY_METHODS), referenceSchema)
    .optional()
    .describe('The scores of normal films, by the method that scores them.'),
  /** How a classifier's probabilities are calibrated, fitted on the validation films. */
  calibration: z
    .strictObject({
      temperature: z.number().positive().describe('Probabilities are softmax(logits ÷ temperature).'),
      films: z.int().positive().describe('How many it was fitted on.'),
      shifts: z.int().positive().optional().describe('Altered versions of each film that count as well.'),
      ece: z
        .strictObject({ before: z.number(), after: z.number() })
        .optional()
        .describe('Expected calibration error on those films.'),
      binary: z
        .strictObject({
          normal: z.string().describe('The label of healthy films.'),
          threshold: z
            .number()
            .min(0)
            .max(1)
            .describe('A film counts as abnormal where 1 − P(normal) is above it.'),
          plateau: z
            .tuple([z.number(), z.number()])
            .optional()
            .describe('The thresholds that did as well; the chosen one is three quarters up this range.'),
          balancedAccuracy: z.number().optional().describe('At the threshold, on those films.'),
        })
        .optional()
        .describe('Absent without a label of healthy films.'),
    })
    .optional(),
  ownCalibration: z
    .strictObject({
      data: z.string().describe('Name of the folder or manifest.'),
      fingerprint: z.string().describe("Of the films, as of the training's."),
      films: z.int().positive(),
      normals: z.int().positive(),
      patients: z.int().positive().optional().describe('How many; absent where the data do not say.'),
      falsePositiveRate: z
        .number()
        .min(0)
        .max(1)
        .describe('Share of the normal films that was to be called abnormal.'),
      specificity: z
        .strictObject({ value: z.number(), low: z.number(), high: z.number() })
        .describe('On the normal films, with its 95 % interval.'),
      temperature: z.enum(['fitted', 'kept']).optional().describe("Of a classifier's probabilities."),
      createdAt: z.string(),
      from: z
        .strictObject({ name: z.string(), createdAt: z.string() })
        .describe('The bundle whose weights these are.'),
    })
    .optional()
    .describe("Present if `rxray calibrate` has replaced training's thresholds by those of other films."),
  check: z
    .strictObject({
      phantom: z.record(z.string(), z.number()).describe('Which of our own phantom films, by its options.'),
      tensor: z.string().describe('SHA-256 of the input that the chain makes of it (little-endian float32).'),
    })
    .optional()
    .describe('Tells whether films still reach the network as in training.'),
  metrics: z.record(z.string(), z.unknown()).default({}),
  data: z.strictObject({
    name: z.string(),
    license: z.string(),
    source: z.string(),
    fingerprint: z.string().describe('SHA-256 over the sorted (path, SHA-256, class, split) of all films.'),
    patients: z.int().optional().describe('How many; absent where the data do not say.'),
    validation: z
      .array(z.string())
      .optional()
      .describe(
        'The validation films, by the first 12 digits of their SHA-256: `rxray evaluate` warns of them.',
      ),
    counts: z.record(z.string(), z.record(z.string(), z.number())).describe('Films by split and class.'),
  }),
  training: z
    .record(z.string(), z.unknown())
    .describe('Seed, epochs, schedule, augmentation: what repeats it.'),
});
export type Bundle = z.output<typeof bundleSchema>;

/** The labels of healthy films; none if the bundle does not say. */
export function healthyLabels({ healthy, calibration, training }: Omit<Bundle, 'files'>): readonly string[] {
  if (healthy !== undefined) return healthy;
  // Bundles of earlier versions say it in other places.
  const normal = calibration?.binary?.normal ?? training['normal'];
  return typeof normal === 'string' ? [normal] : [];
}

/** An error in a bundle; the caller adds the entry of the graph. */
export class BundleError extends Error {
  constructor(
    readonly reason: 'missing' | 'damaged',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'BundleError';
  }
}

/** Reads and checks `bundle.json` in `dir`. Throws {@link BundleError}. */
export async function readBundle(dir: string): Promise<Bundle> {
  const path = join(dir, 'bundle.json');
  let text: string;
  try {
    text = new TextDecoder().decode(await readRegularFile(path));
  } catch (cause) {
    throw new BundleError('missing', `no model bundle at ${dir}: ${path} cannot be read${whyOf(cause)}`, {
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new BundleError('damaged', `${path} is not valid JSON`, { cause });
  }
  const parsed = bundleSchema.safeParse(json);
  if (!parsed.success) {
    throw new BundleError(
      'damaged',
      `${path} is not a bundle of this version: ${z.prettifyError(parsed.error)}`,
    );
  }
  return {
    ...parsed.data,
    preprocessing: parsed.data.preprocessing.map((each) => withBundle(each, (path) => resolve(dir, path))),
  };
}

/** A step that uses a bundle itself (a lung mask) names it relative to the bundle that it belongs to: in memory, absolutely. */
function withBundle(each: PreprocessingStep, change: (path: string) => string): PreprocessingStep {
  const { bundle } = each.with;
  return typeof bundle === 'string' ? { ...each, with: { ...each.with, bundle: change(bundle) } } : each;
}

/** The steps as `bundle.json` in `dir` and the card name them. */
export function portableSteps(steps: readonly PreprocessingStep[], dir: string): PreprocessingStep[] {
  return steps.map((each) =>
    withBundle(each, (path) => (isAbsolute(path) ? relative(dir, path).replaceAll('\\', '/') : path)),
  );
}

/** The bytes of one of the bundle's files, checked against its recorded SHA-256. Throws {@link BundleError}. */
export async function readBundleFile(dir: string, bundle: Bundle, role: string): Promise<Uint8Array> {
  const entry = bundle.files[role];
  if (entry === undefined) {
    throw new BundleError(
      'damaged',
      `the bundle at ${dir} has no file for "${role}", only ${Object.keys(bundle.files).join(', ')}`,
    );
  }
  const path = join(dir, entry.path);
  let bytes: Uint8Array;
  try {
    bytes = await readRegularFile(path);
  } catch (cause) {
    throw new BundleError('missing', `${path}, named by bundle.json, cannot be read${whyOf(cause)}`, {
      cause,
    });
  }
  const found = sha256(bytes);
  if (found !== entry.sha256) {
    throw new BundleError(
      'damaged',
      `${path} is damaged: its SHA-256 is ${found}, bundle.json says ${entry.sha256}`,
    );
  }
  return bytes;
}

/** The bytes of a file; pipes and devices are refused. */
export async function readRegularFile(path: string): Promise<Uint8Array> {
  const handle = await open(
    path,
    process.platform === 'win32' ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NONBLOCK,
  );
  try {
    if (!(await handle.stat()).isFile()) throw new Error('it is not a regular file');
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

function whyOf(cause: unknown): string {
  return cause instanceof Error ? ` (${cause.message})` : '';
}

/** SHA-256 in hexadecimal, as a bundle records it. */
export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
