import { ORIGINAL_AUGMENTATION } from './augment.js';

/**
 * The classifier of the student project that rxray grew from, by the names of the command's options. It keeps the
 * project's mistakes, to measure their effects: the base is frozen and untrained, and training films, but not
 * validation films, are darkened to a fifth.
 */
export const originalPreset = {
  depth: 50,
  width: 64,
  head: 'flatten128',
  dropout: 0.3,
  freezeBase: true,
  optimizer: 'adam',
  lr: 0.001,
  schedule: 'constant',
  warmUp: 0,
  weightDecay: 0,
  labelSmoothing: 0,
  mixUp: 0,
  classWeights: true,
  epochs: 16,
  patience: 16,
  batch: 32,
  size: 256,
  augment: ORIGINAL_AUGMENTATION,
} as const;
