import { resolve } from 'node:path';
import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { imageOf, type Anomaly, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { Engine } from '../engine/engine.js';
import type { EngineSession } from '../engine/index.js';
import {
  ANOGAN_METHODS,
  onnxNetworks,
  scoreAnomalies,
  type AnoganMethod,
  type AnomalyScore,
  type SearchNetworks,
  type SearchSettings,
} from '../models/anomaly-scorer.js';
import { inputTensor } from '../models/input-tensor.js';
import { readBundle, type Bundle } from '../models/bundle.js';
import { relativeScoreOf, type Reference } from '../models/reference.js';
import { ANOMALY_COLUMNS } from './shared/anomaly.js';
import { requireAnswer } from './shared/answer.js';
import { RebuiltOnce } from './shared/rebuilt-once.js';
import {
  lintBundle,
  modelOptions,
  openBundle,
  openBundleFile,
  orDamaged,
  requireSize,
} from './shared/bundle.js';

const options = z.strictObject({
  ...modelOptions,
  method: z
    .enum(ANOGAN_METHODS)
    .default('search')
    .describe(
      '`search` searches the closest image from random starts; `encoder` takes the image that the encoder finds, in one pass; `refine` searches from there. The last two need a bundle with an encoder.',
    ),
  steps: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'Γ, the number of gradient steps of a search. Default: that of the reference scores (else 100, or 5 for `refine`).',
    ),
  lambda: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'λ in A = (1 − λ) · residual + λ · discrimination. Default: that of the reference scores (else 0.1).',
    ),
  learningRate: z
    .number()
    .positive()
    .optional()
    .describe('Learning rate of the search (Adam). Default: that of the reference scores (else 0.05).'),
  restarts: z
    .int()
    .min(1)
    .max(64)
    .optional()
    .describe(
      'Number of searches from different starts; the best one counts. Default: that of the reference scores (else 1).',
    ),
  tolerance: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'A search stops when ten steps have lowered its score by less than this share; 0: never. Default: that of the reference scores (else 0).',
    ),
});

type Settings = Required<SearchSettings>;

const FALLBACK: Record<AnoganMethod, Omit<Settings, 'method'>> = {
  search: { steps: 100, lambda: 0.1, learningRate: 0.05, restarts: 1, tolerance: 0 },
  encoder: { steps: 0, lambda: 0.1, learningRate: 0.05, restarts: 1, tolerance: 0 },
  refine: { steps: 5, lambda: 0.1, learningRate: 0.05, restarts: 1, tolerance: 0 },
};

/** The settings that a method's scores depend on. */
const MATTERS = {
  search: ['steps', 'lambda', 'learningRate', 'restarts', 'tolerance'],
  encoder: ['lambda'],
  refine: ['steps', 'lambda', 'learningRate', 'tolerance'],
} as const;

export default defineStage({
  name: 'anogan',
  summary: 'Scores how far an image is from normal ones, by searching the closest image of a generator.',
  options,
  examples: [
    { title: 'Chest films', with: { bundle: './models/chest-anogan' } },
    {
      title: 'In one pass, many times as fast',
      with: { bundle: './models/chest-anogan', method: 'encoder' },
    },
    { title: 'A longer search', with: { bundle: './models/chest-anogan', steps: 500, restarts: 3 } },
  ],
  runsIn: 'main',
  needs: { engine: Engine },
  keepsPixels: true,
  needsPixels: true,
  columns: () => ANOMALY_COLUMNS,
  async lint(settings, context) {
    const messages = await lintBundle(settings.bundle, 'anogan', context);
    if (messages.some(({ severity }) => severity === 'error')) return messages;
    const bundle = await readBundle(resolve(context.baseDir, settings.bundle));
    if (settings.method !== 'search' && bundle.files.encoder === undefined) {
      return [
        ...messages,
        { severity: 'error', code: 'BUNDLE_DAMAGED', option: ['method'], message: noEncoder(bundle) },
      ];
    }
    const { differs } = searchOf(settings, bundle);
    if (differs.length === 0) return messages;
    return [
      ...messages,
      { severity: 'warning', option: [], message: `no percentiles: ${differs.join('; ')}` },
    ];
  },
  async create({ bundle: path, device, runtime, ...wanted }, { id, engine, log, resolve: absolute }) {
    const dir = absolute(path);
    const bundle = await openBundle(dir, 'anogan', id);
    if (wanted.method !== 'search' && bundle.files.encoder === undefined) {
      throw new RxrayError('BUNDLE_DAMAGED', noEncoder(bundle), { component: id });
    }
    const { search, differs } = searchOf(wanted, bundle);
    if (differs.length > 0) log.warn({ stage: id }, `no percentiles: ${differs.join('; ')}`);
    const open = (): Promise<Networks> =>
      runtime === 'tensorflow'
        ? openTensorflow(dir, bundle, id, search.method)
        : openOnnx(dir, bundle, engine, id, device, search.method);
    const networks = await RebuiltOnce.open(open, log, id);
    const zDim = Number(bundle.architecture.zDim);
    const reference = differs.length > 0 ? undefined : bundle.reference?.[search.method];
    return {
      device: engine,
      columns: ANOMALY_COLUMNS,
      async processBatch(frames) {
        requireSize(frames, bundle, id);
        const images = inputTensor(frames.map(imageOf), bundle.input);
        const scores = await networks.use((all) => scoreAnomalies(all, images, zDim, search));
        const area = bundle.input.width * bundle.input.height;
        return frames.map((frame, i) => {
          const score = requireAnswer(scores[i], (each) => each.anomalyScore, {
            model: bundle.name,
            component: id,
          });
          const film = (images.data as Float32Array).subarray(i * area, (i + 1) * area);
          const result = anomaly(score, film, bundle.input, reference);
          return { ...frame, results: { ...frame.results, [id]: result } };
        });
      },
      dispose: () => networks.dispose(),
    };
  },
});

/** Settings of the search, and their differences from those of the reference scores. */
function searchOf(
  wanted: { readonly method: AnoganMethod } & { [K in keyof SearchSettings]?: SearchSettings[K] | undefined },
  bundle: Bundle,
): { search: Settings; differs: string[] } {
  const { method } = wanted;
  const reference = bundle.reference?.[method];
  const usual = { ...FALLBACK[method], ...(reference?.settings as Partial<SearchSettings> | undefined) };
  const search = {
    method,
    steps: wanted.steps ?? usual.steps,
    lambda: wanted.lambda ?? usual.lambda,
    learningRate: wanted.learningRate ?? usual.learningRate,
    restarts: wanted.restarts ?? usual.restarts,
    tolerance: wanted.tolerance ?? usual.tolerance,
  };
  if (reference === undefined) {
    return { search, differs: [`"${bundle.name}" has no reference scores for method: ${method}`] };
  }
  const differs = MATTERS[method]
    .filter((name) => search[name] !== usual[name])
    .map((name) => `${name} is ${search[name]}, the reference scores were made with ${usual[name]}`);
  return { search, differs };
}

function noEncoder({ name }: Bundle): string {
  return `"${name}" has no encoder: expected \`method: search\`, or a bundle that was trained with --encoder-epochs`;
}

type Networks = SearchNetworks & { dispose(): Promise<void> };

async function openOnnx(
  dir: string,
  bundle: Bundle,
  engine: Engine,
  id: string,
  device: 'auto' | 'cpu' | 'webgpu' | 'cuda',
  method: AnoganMethod,
): Promise<Networks> {
  const open = async (role: string): Promise<EngineSession> => {
    const bytes = await openBundleFile(dir, bundle, role, id);
    return orDamaged(dir, role, id, () => engine.load(bytes, { name: `${id} ${role}`, device }));
  };
  const encoder = method === 'search' ? undefined : await open('encoder');
  return onnxNetworks(await open('features'), await open('search'), encoder);
}

async function openTensorflow(
  dir: string,
  bundle: Bundle,
  id: string,
  method: AnoganMethod,
): Promise<Networks> {
  const { TensorflowRuntime } = await import('../models/tensorflow-runtime.js');
  const roles = ['search', 'features', ...(method === 'search' ? [] : ['encoder'])];
  const files = await Promise.all(roles.map((role) => openBundleFile(dir, bundle, role, id)));
  return TensorflowRuntime.open(bundle.architecture, files);
}

/** The result on the frame. `film` is as the network saw it; images are 8 bit. */
function anomaly(
  score: AnomalyScore,
  film: Float32Array,
  { width, height, mean, std }: Bundle['input'],
  reference: Reference | undefined,
): Anomaly {
  const { reconstruction, ...figures } = score;
  const grey = (value: number): number => 255 * (value * (std[0] ?? 1) + (mean[0] ?? 0));
  const image = (value: (i: number) => number): Image => ({
    width,
    height,
    channels: 1,
    data: Uint8Array.from(Uint8ClampedArray.from({ length: film.length }, (_, i) => value(i))),
  });
  return {
    kind: 'anomaly',
    ...figures,
    ...relativeScoreOf(score.anomalyScore, reference),
    reconstruction: image((i) => grey(reconstruction[i] ?? 0)),
    residual: image((i) => Math.abs(grey(film[i] ?? 0) - grey(reconstruction[i] ?? 0))),
  };
}
