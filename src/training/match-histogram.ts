import type { Random } from '../models/random.js';
import { filmAt, type IntegerSamples, type PreparedFilms } from './preprocess.js';

/**
 * The samples of a film, with the probability `histogram` in the grey levels of one of its batch. Draws random numbers only if
 * that is on.
 */
export function filmOfBatch(
  films: PreparedFilms,
  film: number,
  batch: ArrayLike<number>,
  { histogram }: { readonly histogram: number },
  random: Random,
): IntegerSamples {
  const samples = filmAt(films, film);
  if (!(histogram > 0 && random() < histogram)) return samples;
  const other = batch[Math.floor(random() * batch.length)] ?? film;
  return matchHistogram(samples, filmAt(films, other));
}

/**
 * The image with the grey levels of another: each level becomes the one below which the reference has as large a share of its
 * pixels, interpolated between the reference's levels and rounded (as `match_histograms` of scikit-image, which does not round).
 * Both have the same sample type.
 */
export function matchHistogram(source: IntegerSamples, reference: IntegerSamples): IntegerSamples {
  const levels = reference instanceof Uint16Array ? 65536 : 256;
  const shares = cumulativeShares(reference, levels);
  const own = cumulativeShares(source, levels);
  const matched = new Float64Array(levels);
  // The reference's levels that occur on either side of the wanted share.
  let upper = shares.findIndex((share) => share > 0);
  let lower = upper;
  for (let level = 0; level < levels; level++) {
    const wanted = own[level] ?? 0;
    while ((shares[upper] ?? 1) < wanted) {
      lower = upper;
      do upper++;
      while (shares[upper] === shares[lower]);
    }
    const [below, above] = [shares[lower] ?? 0, shares[upper] ?? 1];
    matched[level] = above === below ? upper : lower + ((upper - lower) * (wanted - below)) / (above - below);
  }
  return source.map((level) => Math.round(matched[level] ?? 0));
}

/** By level: the share of samples that are at most so bright. */
function cumulativeShares(samples: IntegerSamples, levels: number): Float64Array {
  const shares = new Float64Array(levels);
  for (const level of samples) shares[level] = (shares[level] ?? 0) + 1;
  let sum = 0;
  for (let level = 0; level < levels; level++) {
    sum += shares[level] ?? 0;
    shares[level] = sum / samples.length;
  }
  return shares;
}
