import { z } from 'zod';
import { imageOf, type Anomaly, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { Engine } from '../engine/index.js';
import {
  scoreAnomalies,
  type AnomalyScore,
  type SearchNetworks,
  type SearchSettings,
} from '../models/anomaly-scorer.js';
import { inputTensor } from '../models/input-tensor.js';
import type { Bundle } from '../models/bundle.js';
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
  steps: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'Γ, the gradient steps of a search; the time grows with it. Default: as the reference scores were made (else 100).',
    ),
  lambda: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'λ in A = (1 − λ) · residual + λ · discrimination. Default: as the reference scores were made (else 0.1).',
    ),
  learningRate: z
    .number()
    .positive()
    .optional()
    .describe("Adam's, of the search. Default: as the reference scores were made (else 0.05)."),
  restarts: z
    .int()
    .min(1)
    .max(64)
    .optional()
    .describe(
      'Searches from different starts, of which the best counts; the time grows with it. Default: as the reference scores were made (else 1).',
    ),
});

const FALLBACK: SearchSettings = { steps: 100, lambda: 0.1, learningRate: 0.05, restarts: 1 };

export default defineStage({
  name: 'anogan',
  summary: 'Scores how far an image is from the normal ones, by searching a generator for its closest image.',
  options,
  examples: [
    { title: 'Chest films', with: { bundle: './models/chest-anogan' } },
    { title: 'A longer search', with: { bundle: './models/chest-anogan', steps: 500, restarts: 3 } },
  ],
  runsIn: 'main',
  async lint(settings, context) {
    const messages = await lintBundle(settings.bundle, 'anogan', context);
    return messages;
  },
  async create({ bundle: path, device, runtime, ...wanted }, { id, get, log, resolve }) {
    const dir = resolve(path);
    const bundle = await openBundle(dir, 'anogan', id);
    const { search, differs } = searchOf(wanted, bundle);
    if (differs.length > 0) log.warn({ stage: id }, `no percentiles: ${differs.join('; ')}`);
    const engine = get(Engine);
    const networks = await openNetworks(dir, bundle, runtime, engine, id, device);
    const reference = differs.length > 0 ? undefined : bundle.reference?.scores;
    return {
      device: engine,
      columns: ['anomalyScore', 'rawSum', 'percentile'].map((name) => ({ name, path: [name] })),
      async processBatch(frames) {
        requireSize(frames, bundle, id);
        const images = inputTensor(frames.map(imageOf), bundle.input);
        const scores = await scoreAnomalies(networks, images, networks.zDim, search);
        const area = bundle.input.width * bundle.input.height;
        return scores.flatMap((score, i) => {
          const frame = frames[i];
          if (frame === undefined) return [];
          const film = (images.data as Float32Array).subarray(i * area, (i + 1) * area);
          const result = anomaly(score, film, bundle.input, reference);
          return [{ ...frame, results: { ...frame.results, [id]: result } }];
        });
      },
      dispose: () => networks.dispose(),
    };
  },
});

/** Settings of the search, and in what they differ from those that the reference scores were made with. */
function searchOf(
  wanted: { [K in keyof SearchSettings]?: SearchSettings[K] | undefined },
  bundle: Bundle,
): { search: SearchSettings; differs: string[] } {
  const usual = { ...FALLBACK, ...(bundle.reference?.search as Partial<SearchSettings> | undefined) };
  const search = {
    steps: wanted.steps ?? usual.steps,
    lambda: wanted.lambda ?? usual.lambda,
    learningRate: wanted.learningRate ?? usual.learningRate,
    restarts: wanted.restarts ?? usual.restarts,
  };
  if (bundle.reference === undefined)
    return { search, differs: [`"${bundle.name}" has no reference scores`] };
  const names = ['steps', 'lambda', 'learningRate', 'restarts'] as const;
  const differs = names
    .filter((name) => search[name] !== usual[name])
    .map((name) => `${name} is ${search[name]}, the reference scores were made with ${usual[name]}`);
  return { search, differs };
}

async function openNetworks(
  dir: string,
  bundle: Bundle,
  runtime: 'onnx' | 'tensorflow',
  engine: Engine,
  id: string,
  device: 'auto' | 'cpu' | 'webgpu' | 'cuda',
): Promise<SearchNetworks & { readonly zDim: number; dispose(): Promise<void> }> {
  const open = async (role: string) => {
    const bytes = await openBundleFile(dir, bundle, role, id);
    return orDamaged(dir, role, id, () => engine.load(bytes, { name: `${id} ${role}`, device }));
  };
  const features = await open('features');
  const search = await open('search');
  const zDim = search.inputs.find((input) => input.name === 'z')?.dims[1];
  return {
    zDim: Number(zDim),
    async features(images) {
      const found = (await features.run({ images })).features;
      if (found === undefined)
        throw new Error(`the feature network of "${bundle.name}" returns no "features"`);
      return found;
    },
    search: (feeds) => search.run(feeds),
    async dispose() {
      await features.dispose();
      await search.dispose();
    },
  };
}

/** The result on the frame. `film` is as the network saw it; images are 8 bit. */
function anomaly(
  score: AnomalyScore,
  film: Float32Array,
  { width, height, mean, std }: Bundle['input'],
  reference: readonly number[] | undefined,
): Anomaly {
  const { reconstruction, ...figures } = score;
  const grey = (value: number): number => Math.round(255 * (value * (std[0] ?? 1) + (mean[0] ?? 0)));
  const image = (value: (i: number) => number): Image => ({
    width,
    height,
    channels: 1,
    data: Uint8ClampedArray_(film.length, value),
  });
  return {
    kind: 'anomaly',
    ...figures,
    percentile: reference === undefined ? null : percentileOf(score.anomalyScore, reference),
    reconstruction: image((i) => grey(reconstruction[i] ?? 0)),
    residual: image((i) => Math.abs(grey(film[i] ?? 0) - grey(reconstruction[i] ?? 0))),
  };
}

function Uint8ClampedArray_(length: number, value: (i: number) => number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Math.min(255, Math.max(0, value(i))));
}

/** Share of the reference below the score, 0–100; equal ones count half. `reference` is ascending. */
export function percentileOf(score: number, reference: readonly number[]): number {
  const below = reference.filter((other) => other < score).length;
  const equal = reference.filter((other) => other === score).length;
  return (100 * (below + equal / 2)) / reference.length;
}
