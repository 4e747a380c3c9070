import { dirname, isAbsolute, join } from 'node:path';
import sharp from 'sharp';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import type { Film } from '../film.js';

/** A blacked-out part, and the resulting images. */
export interface Blackout {
  readonly name: string;
  readonly images: readonly Image[];
}

/** Side of the centre, as a share of the film's: about half of its area. */
const CENTRE = 0.7;

/**
 * The films with their centre black, with their border black, and, where the manifest's column `mask` names an image of
 * the lungs (white on black), with the lungs black and with all else black. A model that still works without the lungs
 * uses something else (a marker, the shape of the image).
 */
export async function blackouts(films: readonly Film[], images: readonly Image[]): Promise<Blackout[]> {
  const inCentre = ({ width, height }: Image, p: number): boolean => {
    const [x, y] = [(p % width) + 0.5, Math.floor(p / width) + 0.5];
    return Math.abs(x / width - 0.5) < CENTRE / 2 && Math.abs(y / height - 0.5) < CENTRE / 2;
  };
  const found: Blackout[] = [
    { name: 'centre black', images: images.map((image) => black(image, (p) => inCentre(image, p))) },
    { name: 'border black', images: images.map((image) => black(image, (p) => !inCentre(image, p))) },
  ];
  if (films.every((film) => (film.details?.mask ?? '') !== '')) {
    const without: Image[] = [];
    const alone: Image[] = [];
    for (const [i, film] of films.entries()) {
      const image = images[i] as Image;
      const mask = await maskOf(film, image);
      without.push(black(image, (p) => (mask[p] ?? 0) > 127));
      alone.push(black(image, (p) => (mask[p] ?? 0) <= 127));
    }
    found.push({ name: 'lungs black', images: without }, { name: 'all but the lungs black', images: alone });
  }
  return found;
}

function black(image: Image, hidden: (pixel: number) => boolean): Image {
  const data = image.data.slice();
  for (let p = 0; p < image.width * image.height; p++) {
    if (hidden(p)) data.fill(0, p * image.channels, (p + 1) * image.channels);
  }
  return { ...image, data };
}

/**
 * As large as the film after preprocessing, 0 or 255. Its path is relative to the manifest, as the film's is.
 * Throws TRAINING_DATA where it cannot be read.
 */
async function maskOf(film: Film, { width, height }: Image): Promise<Uint8Array> {
  const mask = film.details?.mask ?? '';
  const root = film.path.endsWith(film.name) ? film.path.slice(0, -film.name.length) : dirname(film.path);
  try {
    return await sharp(isAbsolute(mask) ? mask : join(root, mask))
      .greyscale()
      .resize(width, height, { fit: 'fill', kernel: 'nearest' })
      .toColourspace('b-w')
      .raw()
      .toBuffer();
  } catch (cause) {
    throw new RxrayError(
      'TRAINING_DATA',
      `the mask of ${film.name}, ${mask}, cannot be read: ${messageOf(cause)}`,
      { cause },
    );
  }
}
