import type { HostTensor } from '../engine/index.js';
import type { Random } from '../models/random.js';
import { augment, type Augmentation } from './augment.js';
import { filmOfBatch } from './match-histogram.js';
import type { PreparedFilms } from './preprocess.js';

/** Films, each varied by random numbers of its own, as [N,H,W,1], −1 … 1. */
export function augmentedBatch(
  films: PreparedFilms,
  chosen: readonly number[],
  augmentation: Augmentation,
  randomOf: (film: number) => Random,
): HostTensor {
  const { width, height } = films;
  const area = width * height;
  const data = new Float32Array(chosen.length * area);
  chosen.forEach((film, i) => {
    const pixels = data.subarray(i * area, (i + 1) * area);
    const random = randomOf(film);
    const source = filmOfBatch(films, film, chosen, augmentation, random);
    augment(source, width, height, augmentation, random, pixels);
  });
  for (let p = 0; p < data.length; p++) data[p] = 2 * (data[p] ?? 0) - 1;
  return { data, dims: [chosen.length, height, width, 1] };
}
