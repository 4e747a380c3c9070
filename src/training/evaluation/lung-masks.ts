import { dirname, isAbsolute, resolve } from 'node:path';
import sharp from 'sharp';
import { messageOf, RxrayError } from '../../core/errors.js';
import { existingPath } from '../../core/files.js';
import type { Image, StageResult, View } from '../../core/frame.js';
import { viewOf } from '../../imaging/view.js';
import { readBundle } from '../../models/bundle.js';
import type { Film } from '../film.js';
import { named, viewAt, type PreparedFilms } from '../preprocess.js';
import type { EvaluationRequest } from './evaluate.js';
import { picturesOf, preparedFilms } from './films.js';
import { openStage, type ModelServices } from './score.js';

/** The lungs of each film on the classifier's input: 1 for lung, else 0, row by row. */
export interface LungMasks {
  readonly masks: readonly Uint8Array[];
  /** `given` by the manifest's column `mask`, or the name of the model that found them. */
  readonly from: string;
  /** Films on which the model found no two plausible lungs; 0 for given masks. */
  readonly implausible: number;
}

/** A mask and the part of the film that it is of: lung above half of the range. */
export interface Placed {
  readonly mask: Pick<Image, 'width' | 'height' | 'data'>;
  readonly view: View;
}

/**
 * The lungs of films that are prepared for a classifier: found by the segmenter of `lungs` where the request names one,
 * else those of the manifest's column `mask`; undefined where a film has none. Throws TRAINING_DATA where a mask cannot
 * be read, or the bundle is no segmenter.
 */
export async function lungMasks(
  films: readonly Film[],
  prepared: PreparedFilms,
  request: EvaluationRequest,
  services: ModelServices,
): Promise<LungMasks | undefined> {
  if (request.lungs !== undefined) {
    const { found, name, implausible } = await predicted(films, request.lungs, request, services);
    const masks = found.map((mask, i) => laidOn(mask, prepared, viewAt(prepared, i)));
    return { masks, from: name, implausible };
  }
  if (!films.every((film) => (film.details?.mask ?? '') !== '')) return undefined;
  const masks: Uint8Array[] = [];
  for (const [i, film] of films.entries()) {
    masks.push(laidOn(await given(film), prepared, viewAt(prepared, i)));
  }
  return { masks, from: 'given', implausible: 0 };
}

/** By the stage that serves the segmenter, through its own preprocessing. */
async function predicted(
  films: readonly Film[],
  dir: string,
  request: EvaluationRequest,
  services: ModelServices,
): Promise<{ found: Placed[]; name: string; implausible: number }> {
  const bundle = await readBundle(dir);
  if (bundle.kind !== 'segmenter') {
    throw new RxrayError(
      'TRAINING_DATA',
      `--lungs: expected a segmenter, "${bundle.name}" is a ${bundle.kind}`,
    );
  }
  const { prepared, unreadable } = await preparedFilms(films, { ...request, bundle }, services);
  if (unreadable.length > 0) {
    throw new RxrayError(
      'TRAINING_DATA',
      `--lungs: films that "${bundle.name}" cannot take: ${named(unreadable)}`,
    );
  }
  const stage = await openStage(dir, bundle.kind, {}, services);
  try {
    const results = (await stage.score(picturesOf(prepared, films.length))) as (StageResult & {
      readonly mask: Image;
      readonly plausible: boolean;
    })[];
    return {
      found: results.map(({ mask }, i) => ({ mask, view: viewAt(prepared, i) })),
      name: bundle.name,
      implausible: results.filter(({ plausible }) => !plausible).length,
    };
  } finally {
    await stage.dispose();
  }
}

/** The mask of the whole film. Its path is relative to the manifest, as the film's is. */
async function given(film: Film): Promise<Placed> {
  const path = film.details?.mask ?? '';
  // The film's path may be in another Unicode form than its name.
  const parts = film.name.split(/[\\/]/).filter((part) => part !== '.');
  const isBelow = !isAbsolute(film.name) && !parts.includes('..');
  const root = isBelow ? resolve(film.path, ...parts.map(() => '..')) : dirname(film.path);
  try {
    const { data, info } = await sharp(await existingPath(path, root))
      .greyscale()
      .toColourspace('b-w')
      .raw()
      .toBuffer({ resolveWithObject: true });
    const mask = { width: info.width, height: info.height, data };
    return { mask, view: viewOf(mask, undefined) };
  } catch (cause) {
    throw new RxrayError(
      'TRAINING_DATA',
      `the mask of ${film.name}, ${path}, cannot be read: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** The mask at each pixel of a picture that shows `view` of the same film; 0 outside of the mask. */
export function laidOn(
  { mask, view: of }: Placed,
  { width, height }: Pick<PreparedFilms, 'width' | 'height'>,
  view: View,
): Uint8Array {
  // Both views as shares of the film: a given mask may have another size than its film.
  const along = (length: number, axis: 'x' | 'y', extent: 'width' | 'height'): number[] =>
    Array.from({ length }, (_, i) => {
      const share = (view[axis] + ((i + 0.5) / length) * view[extent]) / view.film[extent];
      return Math.floor(((share * of.film[extent] - of[axis]) / of[extent]) * mask[extent]);
    });
  const columns = along(width, 'x', 'width');
  const rows = along(height, 'y', 'height');
  const laid = new Uint8Array(width * height);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      const inside = row >= 0 && row < mask.height && column >= 0 && column < mask.width;
      laid[y * width + x] = inside && (mask.data[row * mask.width + column] ?? 0) > 127 ? 1 : 0;
    });
  });
  return laid;
}
