import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { imageOf, type Classification } from '../core/frame.js';
import { defineStage, type Column, type Log } from '../core/plugin.js';
import { suspicionAt, type Judgement } from '../core/verdict.js';
import { Engine } from '../engine/engine.js';
import type { HostTensor, HostTensors, LoadOptions } from '../engine/index.js';
import { inParts, WEBGPU_BATCH } from '../models/in-parts.js';
import { temper } from '../models/calibration.js';
import { inputTensor } from '../models/input-tensor.js';
import { healthyLabels, readBundle, type Activation, type Bundle } from '../models/bundle.js';
import {
  lintBundle,
  modelOptions,
  openBundle,
  openBundleFile,
  orDamaged,
  requireSize,
} from './shared/bundle.js';
import { RebuiltOnce } from './shared/rebuilt-once.js';

const options = z.strictObject({
  ...modelOptions,
  precision: z
    .enum(['single', 'half'])
    .default('single')
    .describe(
      'Arithmetic on a GPU: `half` is about twice as fast, with results to 1e-3. The CPU always uses `single`.',
    ),
  topK: z.int().min(1).default(5).describe('Number of labels in `topK`, most probable first.'),
});

export default defineStage({
  name: 'resnet',
  summary: 'Classifies images with a trained bundle: any image classifier in ONNX, such as a ResNet.',
  options,
  examples: [{ title: 'Chest films', with: { bundle: './models/chest-resnet' } }],
  runsIn: 'main',
  needs: { engine: Engine },
  keepsPixels: true,
  needsPixels: true,
  lint: ({ bundle }, context) => lintBundle(bundle, 'classifier', context),
  columns: async ({ bundle }, { resolve }) => columnsOf(await readBundle(resolve(bundle))),
  async create({ bundle: path, device, runtime, precision, topK }, { id, log, engine, resolve }) {
    const dir = resolve(path);
    const bundle = await openBundle(dir, 'classifier', id);
    const meaning = {
      ...bundle,
      healthy: healthyLabels(bundle),
      threshold: bundle.calibration?.binary?.threshold,
    };
    const bytes = await openBundleFile(dir, bundle, 'model', id);
    const network =
      runtime === 'tensorflow'
        ? await openTensorflow(bundle, bytes)
        : await orDamaged(dir, 'model', id, () => openOnnx(bytes, engine, { id, log, device, precision }));
    return {
      device: engine,
      columns: columnsOf(bundle),
      async processBatch(frames) {
        requireSize(frames, bundle, id);
        const outputs = await network.run(inputTensor(frames.map(imageOf), bundle.input));
        const rows = probabilitiesOf(outputs, frames.length, bundle, id);
        return frames.map((frame, i) => {
          const result = classify(rows[i] ?? [], meaning, topK);
          return { ...frame, results: { ...frame.results, [id]: result } };
        });
      },
      dispose: () => network.dispose(),
    };
  },
});

/** The columns of a bundle's results. */
function columnsOf({ multiLabel, labels }: Pick<Bundle, 'multiLabel' | 'labels'>): Column[] {
  const answer = multiLabel ? ['positives'] : ['label', 'probability'];
  return [
    ...[...answer, 'score', 'threshold', 'abnormal', 'suspicion'].map((name) => ({ name, path: [name] })),
    ...labels.map((label) => ({ name: `p.${label}`, path: ['probabilities', label] })),
  ];
}

interface Classifier {
  /** Images in the format of the bundle's input → `probabilities`, or `logits`, or one output of any name. */
  run(images: HostTensor): Promise<HostTensors>;
  dispose(): Promise<void>;
}

async function openOnnx(
  bytes: Uint8Array,
  engine: Engine,
  {
    id,
    log,
    ...load
  }: Pick<LoadOptions, 'device' | 'precision'> & { readonly id: string; readonly log: Log },
): Promise<Classifier> {
  const network = await RebuiltOnce.open(() => engine.load(bytes, { name: id, ...load }), log, id);
  const [input] = network.current.inputs;
  if (input === undefined) throw new Error('it has no input');
  return {
    run: (images) =>
      network.use((session) => {
        const most = input.dims[0] === 1 ? 1 : session.device === 'webgpu' ? WEBGPU_BATCH : Infinity;
        return inParts(images, most, (part) => session.run({ [input.name]: part }));
      }),
    dispose: () => network.dispose(),
  };
}

async function openTensorflow({ architecture }: Bundle, bytes: Uint8Array): Promise<Classifier> {
  const { TensorflowRuntime } = await import('../models/tensorflow-runtime.js');
  const network = await TensorflowRuntime.open(architecture, [bytes]);
  return { run: (images) => network.classify(images), dispose: () => network.dispose() };
}

/** The bundle's description of its output. */
export type Meaning = Pick<Bundle, 'labels'> &
  Partial<Pick<Bundle, 'multiLabel' | 'thresholds'>> & {
    readonly healthy?: readonly string[];
    /** The film is abnormal if 1 − P(healthy) is above it. Default: 0.5. */
    readonly threshold?: number | undefined;
  };

/** A film's label, its probability, and the best labels. `probabilities` are in the order of `labels`. */
export function classify(probabilities: readonly number[], meaning: Meaning, topK: number): Classification {
  const { labels, multiLabel = false, thresholds = {} } = meaning;
  const all = labels.map((label, i) => ({ label, probability: probabilities[i] ?? NaN }));
  const ranked = all.toSorted((a, b) => b.probability - a.probability);
  const positives = all
    .filter(({ label, probability }) => probability >= (thresholds[label] ?? DEFAULT_THRESHOLD))
    .map(({ label }) => label);
  return {
    kind: 'classification',
    label: ranked[0]?.label ?? '',
    probability: ranked[0]?.probability ?? NaN,
    probabilities: Object.fromEntries(all.map(({ label, probability }) => [label, probability])),
    ...(multiLabel && { positives }),
    topK: ranked.slice(0, topK),
    ...(multiLabel ? judgeFindings(all, meaning) : judgeHealth(all, meaning)),
  };
}

type Labelled = readonly { readonly label: string; readonly probability: number }[];

/** One label per film: abnormal if the probability of not being healthy is above the threshold. */
function judgeHealth(all: Labelled, { healthy = [], threshold = DEFAULT_THRESHOLD }: Meaning): Judgement {
  const known = all.filter(({ label }) => healthy.includes(label));
  if (known.length === 0) return UNJUDGED;
  const health = known.reduce((sum, { probability }) => sum + probability, 0);
  const score = Math.min(1, Math.max(0, 1 - health));
  return { abnormal: score > threshold, suspicion: suspicionAt(score, threshold), score, threshold };
}

/** Findings that may occur together: the one furthest above its threshold decides. */
function judgeFindings(all: Labelled, { healthy = [], thresholds = {} }: Meaning): Judgement {
  const [worst] = all
    .filter(({ label }) => !healthy.includes(label))
    .map(({ label, probability: score }) => {
      const threshold = thresholds[label] ?? DEFAULT_THRESHOLD;
      return { abnormal: score >= threshold, suspicion: suspicionAt(score, threshold), score, threshold };
    })
    .sort((a, b) => Number(b.abnormal) - Number(a.abnormal) || b.suspicion - a.suspicion);
  return worst ?? UNJUDGED;
}

const DEFAULT_THRESHOLD = 0.5;
const UNJUDGED: Judgement = { abnormal: null, suspicion: null, score: null, threshold: null };

/**
 * Probabilities per film, calibrated if the bundle has a calibration. Throws `BUNDLE_DAMAGED` if the output has not one
 * number per label, and `FRAME_STAGE` if it has not one row per film, or a number that is not finite: the host then
 * retries with fewer films, until the faulty one is alone.
 */
function probabilitiesOf(outputs: HostTensors, films: number, bundle: Bundle, component: string): number[][] {
  const { name, labels, calibration, multiLabel } = bundle;
  const given = outputs.probabilities;
  const tensor = given ?? outputs.logits ?? Object.values(outputs)[0];
  const [rows, classes] = tensor?.dims ?? [];
  if (!(tensor?.data instanceof Float32Array) || tensor.dims.length !== 2 || classes !== labels.length) {
    throw new RxrayError(
      'BUNDLE_DAMAGED',
      `the network of "${name}" returns [${tensor?.dims.join(', ') ?? ''}], expected one number for each of the ` +
        `${labels.length} labels (${labels.join(', ')})`,
      { component },
    );
  }
  const { data } = tensor;
  if (rows !== films) {
    throw noAnswer(component, `the network of "${name}" returned ${rows} rows for ${films} films`);
  }
  const activation = activationOf(bundle, given !== undefined);
  return Array.from({ length: films }, (_, i) => {
    const row = Array.from(data.subarray(i * classes, (i + 1) * classes));
    const probabilities = ACTIVATE[activation](row);
    const bad = probabilities.find((p) => !(p >= -ROUNDING && p <= 1 + ROUNDING));
    if (bad !== undefined) {
      const what = Number.isFinite(bad) ? 'which is not a probability' : 'which is not a number';
      throw noAnswer(component, `the network of "${name}" failed on this film: it returned ${bad}, ${what}`);
    }
    return calibration === undefined || multiLabel
      ? probabilities
      : temper(probabilities, calibration.temperature);
  });
}

/** Tolerance for probabilities beyond 0 and 1 by rounding. */
const ROUNDING = 1e-3;

function activationOf({ activation, architecture }: Bundle, namedProbabilities: boolean): Activation {
  if (activation !== undefined) return activation;
  return namedProbabilities || architecture.output === 'probabilities' ? 'none' : 'softmax';
}

const ACTIVATE: Readonly<Record<Activation, (row: readonly number[]) => number[]>> = {
  softmax,
  sigmoid: (row) => row.map((logit) => 1 / (1 + Math.exp(-logit))),
  none: (row) => [...row],
};

function noAnswer(component: string, message: string): RxrayError {
  return new RxrayError('FRAME_STAGE', message, { component });
}

/** exp(x) ÷ Σ exp(x), shifted by the maximum so that nothing overflows. */
export function softmax(logits: readonly number[]): number[] {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
