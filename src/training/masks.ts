import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { messageOf, RxrayError } from '../core/errors.js';
import type { PreprocessingStep } from '../models/bundle.js';
import type { Film } from './film.js';
import {
  named,
  prepareFilms,
  resolveChain,
  type IntegerSamples,
  type PreparedFilms,
  type ResolvedStep,
} from './preprocess.js';
import type { Recipe } from './recipe.js';

/** Stages that move pixels: they are applied to masks too. */
const GEOMETRY = new Set(['crop', 'resize']);
/** Stages that only change grey levels: they are not applied to masks. */
const GREY_LEVELS = new Set(['clahe', 'equalize', 'normalize']);

/**
 * The masks of films (`details.mask`) through the same geometry as the films: N × H × W, 8 bit, in the films' order.
 * `moved`: a step that the films get behind `decode`. Throws `TRAINING_DATA` where one cannot be read, or where a stage is not known to leave pixels in their places.
 */
export async function prepareMasks(
  films: readonly Film[],
  chain: readonly PreprocessingStep[],
  {
    registry,
    baseDir,
    cacheDir,
    log,
    rxray,
    moved,
  }: Pick<Recipe, 'registry' | 'baseDir' | 'cacheDir' | 'log' | 'rxray'> & {
    readonly moved?: ResolvedStep | undefined;
  },
): Promise<PreparedFilms> {
  const unmoved = await resolveChain([{ use: 'decode', with: {} }, ...geometryOf(chain)], registry, baseDir);
  const steps = moved === undefined ? unmoved : unmoved.toSpliced(1, 0, moved);
  const masks = await Promise.all(films.map(maskOf));
  const { prepared, unreadable } = await prepareFilms(masks, steps, { cacheDir, baseDir, log, rxray });
  if (unreadable.length > 0) {
    throw new RxrayError('TRAINING_DATA', `masks that cannot be read: ${named(unreadable, Infinity)}`);
  }
  if (prepared.channels !== 1 || !(prepared.data instanceof Uint8Array)) {
    throw new RxrayError('TRAINING_DATA', 'masks must be grey images of 8 bit, white where the structure is');
  }
  return prepared;
}

/** A mask that a resize has softened: 255 from half of the range on, else 0. */
export function binary(mask: IntegerSamples): Uint8Array {
  return Uint8Array.from(mask, (level) => (level > 127 ? 255 : 0));
}

function geometryOf(chain: readonly PreprocessingStep[]): PreprocessingStep[] {
  const unknown = chain.find(({ use }) => use !== 'decode' && !GEOMETRY.has(use) && !GREY_LEVELS.has(use));
  if (unknown !== undefined) {
    throw new RxrayError(
      'TRAINING_DATA',
      `masks cannot follow the stage \`${unknown.use}\`: the chain may have decode, ${[...GEOMETRY, ...GREY_LEVELS].join(', ')}`,
    );
  }
  return chain.filter(({ use }) => GEOMETRY.has(use));
}

async function maskOf(film: Film): Promise<Film> {
  const path = film.details?.mask ?? '';
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new RxrayError(
      'TRAINING_DATA',
      `the mask of ${film.name}, ${path}, cannot be read: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  });
  return {
    ...film,
    path,
    name: `mask of ${film.name}`,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}
