import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { imageOf, type Classification } from '../core/frame.js';
import { defineStage, type Log } from '../core/plugin.js';
import { Engine } from '../engine/engine.js';
import type { HostTensor, HostTensors } from '../engine/index.js';
import { temper } from '../models/calibration.js';
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
import { RebuiltOnce } from './shared/rebuilt-once.js';

const options = z.strictObject({
  ...modelOptions,
  topK: z
    .int()
    .min(1)
    .default(5)
    .describe('How many labels `topK` lists, most probable first; at most as many as there are.'),
});

export default defineStage({
  name: 'resnet',
  summary: 'Classifies images with a trained bundle: any image classifier in ONNX, such as a ResNet.',
  options,
  examples: [{ title: 'Chest films', with: { bundle: './models/chest-resnet' } }],
  runsIn: 'main',
  lint: ({ bundle }, context) => lintBundle(bundle, 'classifier', context),
  async create({ bundle: path, device, runtime, topK }, { id, log, get, resolve }) {
    const dir = resolve(path);
    const bundle = await openBundle(dir, 'classifier', id);
    const bytes = await openBundleFile(dir, bundle, 'model', id);
    const engine = get(Engine);
    const network =
      runtime === 'tensorflow'
        ? await openTensorflow(bundle, bytes)
        : await orDamaged(dir, 'model', id, () => openOnnx(bytes, engine, { id, log, device }));
    return {
      device: engine,
      columns: [
        { name: 'label', path: ['label'] },
        { name: 'probability', path: ['probability'] },
        ...bundle.labels.map((label) => ({ name: `p.${label}`, path: ['probabilities', label] })),
      ],
      async processBatch(frames) {
        requireSize(frames, bundle, id);
        const outputs = await network.run(inputTensor(frames.map(imageOf), bundle.input));
        const rows = probabilitiesOf(outputs, bundle, id);
        return frames.map((frame, i) => {
          const result = classify(rows[i] ?? [], bundle.labels, topK);
          return { ...frame, results: { ...frame.results, [id]: result } };
        });
      },
      dispose: () => network.dispose(),
    };
  },
});

interface Classifier {
  /** Images as the bundle's input says → `probabilities`, or `logits`, or one output of any name. */
  run(images: HostTensor): Promise<HostTensors>;
  dispose(): Promise<void>;
}

async function openOnnx(
  bytes: Uint8Array,
  engine: Engine,
  { id, log, device }: { id: string; log: Log; device: 'auto' | 'cpu' | 'webgpu' | 'cuda' },
): Promise<Classifier> {
  const network = await RebuiltOnce.open(() => engine.load(bytes, { name: id, device }), log, id);
  const [input] = network.current.inputs;
  if (input === undefined) throw new Error('it has no input');
  return {
    run: (images) =>
      network.use((session) =>
        input.dims[0] === 1
          ? oneByOne(images, (image) => session.run({ [input.name]: image }))
          : session.run({ [input.name]: images }),
      ),
    dispose: () => network.dispose(),
  };
}

/** For a network that was exported for a batch of one, as PyTorch does unless it is told otherwise. */
async function oneByOne(
  { data, dims }: HostTensor,
  run: (image: HostTensor) => Promise<HostTensors>,
): Promise<HostTensors> {
  const [count = 0, ...rest] = dims;
  const size = data.length / Math.max(1, count);
  const joined: Record<string, { data: Float32Array; dims: number[] }> = {};
  for (let i = 0; i < count; i++) {
    const image = { data: data.slice(i * size, (i + 1) * size), dims: [1, ...rest] };
    for (const [name, tensor] of Object.entries(await run(image))) {
      if (!(tensor.data instanceof Float32Array)) continue;
      const { length } = tensor.data;
      joined[name] ??= { data: new Float32Array(count * length), dims: [count, ...tensor.dims.slice(1)] };
      joined[name].data.set(tensor.data, i * length);
    }
  }
  return joined;
}

async function openTensorflow({ architecture }: Bundle, bytes: Uint8Array): Promise<Classifier> {
  const { TensorflowRuntime } = await import('../models/tensorflow-runtime.js');
  const network = await TensorflowRuntime.open(architecture, [bytes]);
  return { run: (images) => network.classify(images), dispose: () => network.dispose() };
}

/** A film's label, its probability, and the best labels. `probabilities` are in the order of `labels`. */
export function classify(
  probabilities: readonly number[],
  labels: readonly string[],
  topK: number,
): Classification {
  const ranked = labels
    .map((label, i) => ({ label, probability: probabilities[i] ?? 0 }))
    .sort((a, b) => b.probability - a.probability);
  return {
    kind: 'classification',
    label: ranked[0]?.label ?? '',
    probability: ranked[0]?.probability ?? 0,
    probabilities: Object.fromEntries(labels.map((label, i) => [label, probabilities[i] ?? 0])),
    topK: ranked.slice(0, topK),
  };
}

/**
 * Probabilities per film, calibrated where the bundle says how. An output named `probabilities` is taken
 * as it is, and so is that of an imported model which gives probabilities; others are logits.
 */
function probabilitiesOf(
  outputs: HostTensors,
  { name, labels, calibration, architecture }: Bundle,
  component: string,
): number[][] {
  const given = outputs.probabilities;
  const tensor = given ?? outputs.logits ?? Object.values(outputs)[0];
  const [films = 0, classes] = tensor?.dims ?? [];
  if (!(tensor?.data instanceof Float32Array) || tensor.dims.length !== 2 || classes !== labels.length) {
    throw new RxrayError(
      'BUNDLE_DAMAGED',
      `the network of "${name}" returns [${tensor?.dims.join(', ') ?? ''}], expected one number for each of the ` +
        `${labels.length} labels (${labels.join(', ')})`,
      { component },
    );
  }
  const ready = given !== undefined || architecture.output === 'probabilities';
  const { data } = tensor;
  return Array.from({ length: films }, (_, i) => {
    const row = Array.from(data.subarray(i * classes, (i + 1) * classes));
    const probabilities = ready ? row : softmax(row);
    return calibration === undefined ? probabilities : temper(probabilities, calibration.temperature);
  });
}

/** exp(x) ÷ Σ exp(x), shifted by the maximum so that nothing overflows. */
export function softmax(logits: readonly number[]): number[] {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
