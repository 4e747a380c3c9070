import type { HostTensor, HostTensors } from '../engine/index.js';
import { imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';

/**
 * The probabilities of some films, films × classes, by a network that takes `batchSize` of them at a time.
 *
 * @param index Of the films to predict, in this order.
 */
export async function predict(
  films: PreparedFilms,
  index: Uint32Array,
  { classes, batchSize }: { readonly classes: readonly string[]; readonly batchSize: number },
  run: (images: HostTensor) => Promise<HostTensors>,
): Promise<Float32Array> {
  const probabilities = new Float32Array(index.length * classes.length);
  for (let from = 0; from < index.length; from += batchSize) {
    const part = index.subarray(from, from + batchSize);
    const out = await run(imagesOf(films, part, unscaledInput(films)));
    probabilities.set(out.probabilities?.data as Float32Array, from * classes.length);
  }
  return probabilities;
}
