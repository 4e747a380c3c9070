import type { Engine } from '../../src/engine/index.js';
import { type HostTensors } from '../../src/engine/index.js';
import type { Bundle } from '../../src/models/bundle.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import {
  exportAnogan,
  exportEncoder,
  exportResnet,
  exportRetinanet,
  exportUnet,
  filled,
  initDcgan,
  initEncoder,
  initResnet,
  initRetinanet,
  initUnet,
  normalNoise,
  seededRandom,
} from '../../src/models/index.js';
import { exportPatchcore, type PatchcoreOptions } from '../../src/models/patch-core.js';
import { referenceOf } from '../../src/models/reference.js';
import { testServices, type TestServices } from '../../src/testing.js';

/** What every bundle of the tests says where a test says nothing else. */
export function bundleOf(other: Partial<Bundle> & Pick<Bundle, 'kind' | 'input'>): Omit<Bundle, 'files'> {
  return {
    format: 1,
    name: 'toy',
    architecture: {},
    createdAt: '2026-01-01T00:00:00.000Z',
    rxray: '0.1.0',
    license: 'Apache-2.0',
    preprocessing: [],
    labels: [],
    metrics: {},
    data: { name: 'toy', license: 'CC0-1.0', source: 'made up', fingerprint: '', counts: {} },
    training: {},
    ...other,
  };
}

/** An untrained ResNet of 32×32 films and three labels. */
export async function toyClassifier(dir: string, other: Partial<Bundle> = {}): Promise<void> {
  const options = { depth: 18, width: 4, inputSize: 32, classes: 3, zeroInitGamma: false } as const;
  const bundle = bundleOf({
    kind: 'classifier',
    input: { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
    architecture: { name: 'resnet', ...options },
    labels: ['bacterial', 'normal', 'viral'],
    ...other,
  });
  await writeBundle(dir, bundle, { model: exportResnet(initResnet(options, 1), options).bytes }, 'toy');
}

/** An untrained AnoGAN and encoder, with ten reference scores. */
export async function toyAnogan(dir: string, other: Partial<Bundle> = {}): Promise<void> {
  const tenths = Array.from({ length: 10 }, (_, i) => i / 10);
  const options = { width: 2, zDim: 10 };
  const bundle = bundleOf({
    kind: 'anogan',
    input: { width: 64, height: 64, channels: 1, layout: 'NHWC', mean: [0.5], std: [0.5] },
    architecture: { name: 'dcgan', ...options },
    reference: {
      search: referenceOf(tenths, { steps: 12, lambda: 0.1, learningRate: 0.05, restarts: 2 }),
      encoder: referenceOf(tenths, { lambda: 0.1 }),
      refine: referenceOf(tenths, { steps: 3, lambda: 0.1, learningRate: 0.05 }),
    },
    ...other,
  });
  const { search, features } = exportAnogan(initDcgan(options, 1), options);
  const encoder = exportEncoder(initEncoder(options, 2), options);
  await writeBundle(dir, bundle, { search, features, encoder }, 'toy');
}

/** A network that costs next to nothing. */
export const TOY_RESNET = {
  name: 'resnet',
  depth: 18,
  width: 4,
  inputSize: 32,
  classes: 2,
  zeroInitGamma: false,
} as const;

/** An untrained network with a memory of made-up patches, and ten reference scores. */
export async function toyPatchcore(dir: string, other: Partial<Bundle> = {}): Promise<void> {
  const options: PatchcoreOptions = { network: TOY_RESNET, layers: ['stage1'] };
  const random = seededRandom(3);
  const memory = {
    mean: normalNoise([4], random),
    projection: normalNoise([4, 3], random),
    memory: normalNoise([64, 5, 3], random),
  };
  const bundle = bundleOf({
    kind: 'patchcore',
    input: { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
    architecture: { name: 'patchcore', ...options, score: 'mean' },
    reference: {
      patchcore: referenceOf(
        Array.from({ length: 10 }, (_, i) => i / 10),
        {},
      ),
    },
    ...other,
  });
  await writeBundle(
    dir,
    bundle,
    { model: exportPatchcore(initResnet(TOY_RESNET, 1), memory, options) },
    'toy',
  );
}

/**
 * An untrained U-Net of 32×32 films whose last layer is replaced: it finds whatever is darker than `below` (0–1), or
 * with no number nothing at all.
 */
export async function toySegmenter(dir: string, below?: number, other: Partial<Bundle> = {}): Promise<void> {
  const options = { width: 2, poolings: 1, inputSize: 32, batchNorm: false, mean: 0, std: 1 } as const;
  const parameters = darknessDetector(initUnet(options, 1), below ?? -1);
  const bundle = bundleOf({
    kind: 'segmenter',
    input: { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
    architecture: { name: 'unet', ...options },
    preprocessing: [
      { use: 'decode', with: {} },
      { use: 'resize', with: { width: 32, height: 32 } },
    ],
    ...other,
  });
  await writeBundle(dir, bundle, { model: exportUnet(parameters, options).bytes }, 'toy');
}

/**
 * A RetinaNet of 32×32 films that finds an "opacity" with a score of 0.9 at every place, whatever it is shown. The first of
 * equal boxes, and so the only one with `maxDetections: 1`, is x 0, y 0, width 10, height 10.
 */
export async function toyDetector(dir: string, other: Partial<Bundle> = {}): Promise<void> {
  const options = {
    depth: 18,
    width: 2,
    inputSize: 32,
    classes: 2,
    channels: 4,
    headLayers: 1,
    anchorSize: 16,
  } as const;
  const parameters = initRetinanet(options, 1);
  const logit = (p: number): number => Math.log(p / (1 - p));
  for (const name of ['head/classes/logits/kernel', 'head/boxes/deltas/kernel']) {
    parameters[name] = filled(parameters[name]?.dims ?? [], 0);
  }
  const bias = filled([9 * 2], logit(0.001));
  // The square of the middle size, 20 pixels, of the second label.
  bias.data[4 * 2 + 1] = logit(0.9);
  parameters['head/classes/logits/bias'] = bias;
  const bundle = bundleOf({
    kind: 'detector',
    input: { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
    architecture: { name: 'retinanet', ...options },
    preprocessing: [
      { use: 'decode', with: {} },
      { use: 'resize', with: { width: 32, height: 32 } },
    ],
    labels: ['mass', 'opacity'],
    ...other,
  });
  await writeBundle(dir, bundle, { model: exportRetinanet(parameters, options) }, 'toy');
}

/** Weights with which a U-Net passes the image through unchanged and answers 100 · (below − grey). */
function darknessDetector(parameters: HostTensors, below: number): HostTensors {
  const zero = Object.fromEntries(
    Object.entries(parameters).map(([name, { dims }]) => [name, filled(dims, 0)]),
  );
  const set = (name: string, index: number, value: number): void => {
    const tensor = zero[name];
    if (tensor === undefined) throw new Error(`no parameter ${name}`);
    tensor.data[index] = value;
  };
  /** The centre of a 3×3 filter [3,3,in,out] that takes channel `from` into channel 0. */
  const pass = (name: string, from: number): void => {
    const [, , channelsIn = 1, channels = 1] = zero[`${name}/kernel`]?.dims ?? [];
    set(`${name}/kernel`, (4 * channelsIn + from) * channels, 1);
  };
  pass('down0/conv1', 0);
  pass('down0/conv2', 0);
  // The skip comes behind the two channels from below.
  pass('up0/conv1', 2);
  pass('up0/conv2', 0);
  set('logits/kernel', 0, -100);
  set('logits/bias', 0, 100 * below);
  return zero;
}

/** Services with an engine, as model stages want them. */
export function withEngine(engine: Engine, baseDir: string): TestServices & { readonly engine: Engine } {
  return { ...testServices({ id: 'model', baseDir }), engine };
}
