import { move, workerData } from 'piscina';
import { seededRandom } from '../models/random.js';
import { augment, mix, mixShares, movedBox, type Augmentation } from './augment.js';
import { BOX_NUMBERS, mostBoxes, type BoxInImage } from './batch-layout.js';
import { filmOfBatch } from './match-histogram.js';
import { filmAt, type PreparedFilms } from './preprocess.js';

/** The data of every thread. The films' samples are in shared memory. */
export interface BatchWorkerData {
  readonly films: PreparedFilms;
  /** The same films by other preprocessing: each time, one of all versions is drawn. */
  readonly variants?: readonly PreparedFilms[];
  /** A mask for each film, as large as it. */
  readonly masks?: PreparedFilms;
  /** The boxes of each film. */
  readonly boxes?: readonly (readonly BoxInImage[])[];
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

const { films, variants = [], masks, boxes, augmentation, mixUp, seed } = workerData as BatchWorkerData;
const versions = [films, ...variants];
const most = mostBoxes(boxes);

/**
 * The images of a batch, N × H × W × 1, 0–1, and behind them as many masks where films have any, and their boxes, moved
 * as they are. Every film of every epoch draws from a seed of its own.
 */
export default function makeBatch({ epoch, step, films: chosen }: BatchTask): Float32Array {
  const { width, height } = films;
  const area = width * height;
  const pixelsOf = area * (masks === undefined ? 1 : 2);
  const made = new Float32Array(chosen.length * (pixelsOf + most * BOX_NUMBERS));
  const images = made.subarray(0, chosen.length * area);
  chosen.forEach((film, i) => {
    const pixels = images.subarray(i * area, (i + 1) * area);
    const mask = masks && {
      source: filmAt(masks, film),
      target: made.subarray(images.length + i * area, images.length + (i + 1) * area),
    };
    const random = seededRandom(seed, epoch, film);
    const version = variants.length === 0 ? films : versions[Math.floor(random() * versions.length)];
    const source = filmOfBatch(version ?? films, film, chosen, augmentation, random);
    const map = augment(source, width, height, augmentation, random, pixels, mask);
    const moved = (boxes?.[film] ?? []).flatMap(({ label, ...box }) => {
      const to = movedBox(box, width, height, map);
      return to === undefined ? [] : [to.x, to.y, to.x + to.width, to.y + to.height, label];
    });
    const at = chosen.length * pixelsOf + i * most * BOX_NUMBERS;
    made.subarray(at, at + most * BOX_NUMBERS).fill(NaN);
    made.set(moved, at);
  });
  if (mixUp > 0) mix(images, mixShares(chosen.length, mixUp, seed, epoch, step));
  return move(made) as Float32Array;
}
