import { Engine } from '../../src/engine/index.js';
import type { Bundle } from '../../src/models/bundle.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import {
  exportAnogan,
  exportEncoder,
  exportResnet,
  initDcgan,
  initEncoder,
  initResnet,
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
  const { search, features, generator } = exportAnogan(initDcgan(options, 1), options);
  const encoder = exportEncoder(initEncoder(options, 2), options);
  await writeBundle(dir, bundle, { search, features, generator, encoder }, 'toy');
}

/** An untrained network with a memory of made-up patches, and ten reference scores. */
export async function toyPatchcore(dir: string, other: Partial<Bundle> = {}): Promise<void> {
  const network = {
    name: 'resnet',
    depth: 18,
    width: 4,
    inputSize: 32,
    classes: 2,
    zeroInitGamma: false,
  } as const;
  const options: PatchcoreOptions = { network, layers: ['stage1'] };
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
  await writeBundle(dir, bundle, { model: exportPatchcore(initResnet(network, 1), memory, options) }, 'toy');
}

/** Services with an engine, as model stages want them. */
export function withEngine(engine: Engine, baseDir: string): TestServices {
  return testServices({
    id: 'model',
    baseDir,
    get: (service) => {
      if ((service as unknown) === Engine) return engine as never;
      throw new Error(`no service ${String(service)}`);
    },
  });
}
