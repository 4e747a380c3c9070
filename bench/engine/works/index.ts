import type { Work } from '../contender.js';
import { compilation } from './compilation.js';
import { latentStep } from './latent-step.js';
import { resnetInference } from './resnet-inference.js';
import { searchToQuality } from './search-to-quality.js';
import { dcganStep, resnetStep, unetStep } from './training-step.js';

const RESNET = { width: 64, classes: 4 };

/** The works, made only when their turn comes: their parameters fill the memory. */
export const WORKS: readonly (() => Work)[] = [
  ...[1, 8, 16].map((batch) => () => resnetInference({ ...RESNET, depth: 50, inputSize: 256 }, batch)),
  ...[64, 32].flatMap((width) => [8, 32].map((batch) => () => latentStep({ width }, batch))),
  searchToQuality,
  ...[8, 32].map((batch) => () => resnetStep({ ...RESNET, depth: 18, inputSize: 128 }, batch)),
  () => resnetStep({ ...RESNET, depth: 50, inputSize: 224 }, 8),
  () => dcganStep('discriminator', { width: 64 }, 64),
  () => dcganStep('generator', { width: 64 }, 64),
  () => unetStep({ width: 16, poolings: 4, inputSize: 128 }, 8),
  () => compilation({ ...RESNET, depth: 50, inputSize: 256 }),
];
