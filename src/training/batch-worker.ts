import { move, workerData } from 'piscina';
import { seededRandom } from '../models/random.js';
import { augment, mix, mixShares, type Augmentation } from './augment.js';
import { filmAt, type PreparedFilms } from './preprocess.js';

/** What every thread is given once. The films' samples lie in shared memory. */
export interface BatchWorkerData {
  readonly films: PreparedFilms;
  /** A mask for each film, as large as it. */
  readonly masks?: PreparedFilms;
  readonly augmentation: Augmentation;
  /** Of mix-up; 0: none. */
  readonly mixUp: number;
  readonly seed: number;
}

/** One batch: which films, for which step of which epoch. */
export interface BatchTask {
  readonly epoch: number;
  readonly step: number;
  readonly films: Uint32Array;
}

const { films, masks, augmentation, mixUp, seed } = workerData as BatchWorkerData;

/**
 * The images of a batch, N × H × W × 1, 0–1, and behind them as many masks where films have any. Every film
 * of every epoch draws from a seed of its own.
 */
export default function makeBatch({ epoch, step, films: chosen }: BatchTask): Float32Array {
  const { width, height } = films;
  const area = width * height;
  const made = new Float32Array(chosen.length * area * (masks === undefined ? 1 : 2));
  const images = made.subarray(0, chosen.length * area);
  chosen.forEach((film, i) => {
    const pixels = images.subarray(i * area, (i + 1) * area);
    const mask = masks && {
      source: filmAt(masks, film),
      target: made.subarray(images.length + i * area, images.length + (i + 1) * area),
    };
    augment(filmAt(films, film), width, height, augmentation, seededRandom(seed, epoch, film), pixels, mask);
  });
  if (mixUp > 0) mix(images, mixShares(chosen.length, mixUp, seed, epoch, step));
  return move(made) as Float32Array;
}
