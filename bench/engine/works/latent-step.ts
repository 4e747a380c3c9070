import type * as tf from '@tensorflow/tfjs-core';
import { scalar, type HostTensors } from '../../../src/engine/index.js';
import { discriminatorFeatures, generate } from '../../../src/models/dcgan.js';
import {
  DCGAN_IMAGE_SIZE,
  exportAnogan,
  filled,
  initDcgan,
  normalNoise,
  seededRandom,
  type DcganOptions,
} from '../../../src/models/index.js';
import type { Work } from '../contender.js';
import { countFlops } from '../count-flops.js';
import { ours } from '../ours.js';
import { pytorch } from '../pytorch.js';

/** As many as the product takes between two looks at the clock. */
const STEPS = 10;
const Z_DIM = 100;

/** One step of Adam on the latent vectors of a batch of films: generator and feature network, forward and backward. */
export function latentStep(options: DcganOptions, batchSize: number): Work {
  const { width } = options;
  const parameters = initDcgan(options, 1);
  const bytes = (): Uint8Array => exportAnogan(parameters, options).search;
  return {
    name: `search: one AnoGAN latent step, DCGAN 64×64, width ${width}, batch ${batchSize}`,
    stepsARun: STEPS,
    flops: () => 2 * forwardFlops(parameters, options, batchSize),
    goals: { PyTorch: 0.33 },
    file: () => ({ bytes: bytes(), batchSize }),
    ours: (setting) => ours(bytes(), feeds(options, batchSize), setting),
    peers: async (setting) => [
      await pytorch('latent_search', { width, batch: batchSize, steps: STEPS }, setting),
    ],
  };
}

/** Operations of generator and feature network. */
function forwardFlops(parameters: HostTensors, options: DcganOptions, batchSize: number): number {
  return countFlops(
    (pass, { z }) => discriminatorFeatures(pass, generate(options, pass, z as tf.Tensor2D)),
    { z: [batchSize, Z_DIM] },
    parameters,
  );
}

function feeds({ width }: DcganOptions, batchSize: number): HostTensors {
  const random = seededRandom(2);
  const latent = [batchSize, Z_DIM];
  return {
    x: normalNoise([batchSize, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1], random, { std: 0.5 }),
    fx: normalNoise([batchSize, 4, 4, 8 * width], random),
    z: normalNoise(latent, random),
    m: filled(latent, 0),
    v: filled(latent, 0),
    t: scalar(0),
    steps: { data: BigInt64Array.of(BigInt(STEPS)), dims: [] },
    lr: scalar(0.01),
    lambda: scalar(0.1),
  };
}
