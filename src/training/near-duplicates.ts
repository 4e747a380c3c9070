import type { PreprocessingStep } from '../models/bundle.js';
import { filmAt, type PreparedFilms } from './preprocess.js';

/** The input of {@link nearDuplicates}: each film as a grey image of 17 × 16. */
export const THUMBNAIL_CHAIN: readonly PreprocessingStep[] = [
  { use: 'decode', with: { color: 'grey' } },
  { use: 'resize', with: { width: 17, height: 16 } },
];

/** A pair of films that show the same, as indices. */
export type Pair = readonly [number, number];

/**
 * Of 256. Films saved again, in another size, format or brightness, differ in 0–6 bits; of the 13 million
 * pairs among 5,190 films of different children, none in fewer than 12.
 */
const MOST_BITS = 8;

/**
 * Films that are copies of each other although their files differ: their difference hashes (one bit for
 * every two neighbours in a row, set where the right one is brighter) are nearly the same. Copies that
 * were turned, mirrored or cropped are not found.
 *
 * Compares every film with every other: 5,000 films take a tenth of a second, 100,000 a minute.
 */
export function nearDuplicates(thumbnails: PreparedFilms, count: number): Pair[] {
  const words = 8;
  const hashes = new Uint32Array(count * words);
  for (let i = 0; i < count; i++) hashes.set(differenceHash(thumbnails, i), i * words);
  const pairs: Pair[] = [];
  for (let a = 0; a < count; a++) {
    for (let b = a + 1; b < count; b++) {
      let bits = 0;
      for (let word = 0; word < words && bits <= MOST_BITS; word++) {
        bits += ones((hashes[a * words + word] ?? 0) ^ (hashes[b * words + word] ?? 0));
      }
      if (bits <= MOST_BITS) pairs.push([a, b]);
    }
  }
  return pairs;
}

/** 256 bits. An image without any contrast hashes to zeros. */
function differenceHash(thumbnails: PreparedFilms, i: number): Uint32Array {
  const { width, height } = thumbnails;
  const pixels = filmAt(thumbnails, i);
  const hash = new Uint32Array(((width - 1) * height) / 32);
  for (let y = 0, bit = 0; y < height; y++) {
    for (let x = 0; x < width - 1; x++, bit++) {
      const at = y * width + x;
      if ((pixels[at + 1] ?? 0) > (pixels[at] ?? 0))
        hash[bit >>> 5] = (hash[bit >>> 5] ?? 0) | (1 << (bit & 31));
    }
  }
  return hash;
}

function ones(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
