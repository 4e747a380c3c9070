import { RxrayError } from '../core/errors.js';
import type { PreprocessingStep } from '../models/bundle.js';
import { seededRandom, shuffled } from '../models/random.js';
import type { Film } from './film.js';
import type { PreparedFilms } from './preprocess.js';
import { prepare, type Recipe } from './recipe.js';

/** The films of a model that learns what is normal. Numbers are those of `films`. */
export interface NormalFilms {
  readonly films: PreparedFilms;
  /** Normal films that the model learns from: at least a batch. */
  readonly normals: Uint32Array;
  /** Normal films of other patients, not of the validation: their scores are the reference. */
  readonly reference: Uint32Array;
  readonly val: { readonly index: Uint32Array; readonly abnormal: readonly boolean[] };
}

/** Share of the normal training films that are held out: their scores are the reference. */
const REFERENCE_SHARE = 0.15;

/** Prepares the normal films of the training, and all of the validation. Throws `TRAINING_DATA`. */
export async function prepareNormals(
  recipe: Recipe,
  normal: string,
  { seed, batchSize }: { readonly seed: number; readonly batchSize: number },
  signal: AbortSignal | undefined,
): Promise<{ data: NormalFilms; chain: PreprocessingStep[] }> {
  const { classes } = recipe.dataset;
  if (!classes.includes(normal)) {
    throw new RxrayError(
      'TRAINING_DATA',
      `there is no class "${normal}": the data have ${classes.join(', ')}`,
    );
  }
  // Abnormal training films are not used.
  const wanted = (film: Film): boolean => film.split === 'val' || film.class === normal;
  const training = recipe.dataset.films.filter((film) => film.split === 'train' && film.class === normal);
  const held = heldOutPatients(training, seed);
  requireEnough(training, held, normal, batchSize);
  const { films, prepared, chain } = await prepare(recipe, ['train', 'val'], wanted, signal);
  const where = (test: (film: Film) => boolean): Uint32Array =>
    Uint32Array.from(films.flatMap((film, i) => (test(film) ? [i] : [])));
  const val = where((film) => film.split === 'val');
  return {
    chain,
    data: {
      films: prepared,
      normals: where((film) => film.split === 'train' && !held.has(film.patient)),
      reference: where((film) => film.split === 'train' && held.has(film.patient)),
      val: { index: val, abnormal: Array.from(val, (i) => films[i]?.class !== normal) },
    },
  };
}

/** Whole patients of the training normals, until the share is reached; never all of them. */
function heldOutPatients(training: readonly Film[], seed: number): Set<string> {
  const patients = [...new Set(training.map((film) => film.patient))].sort();
  const held = new Set<string>();
  let count = 0;
  for (const i of shuffled(patients.length, seededRandom(seed)).subarray(0, -1)) {
    if (count >= training.length * REFERENCE_SHARE) break;
    const patient = patients[i] ?? '';
    held.add(patient);
    count += training.filter((film) => film.patient === patient).length;
  }
  return held;
}

function requireEnough(
  training: readonly Film[],
  held: ReadonlySet<string>,
  normal: string,
  batchSize: number,
): void {
  const refuse = (reason: string): never => {
    throw new RxrayError('TRAINING_DATA', reason);
  };
  if (training.length === 0) refuse(`the data have no film of the class "${normal}" to train on`);
  if (held.size === 0) {
    refuse(
      `all ${training.length} films of the class "${normal}" are of one patient: expected two at least, ` +
        'one to learn from and one for the reference scores',
    );
  }
  const left = training.filter((film) => !held.has(film.patient)).length;
  if (left < batchSize) {
    refuse(
      `${left} films of the class "${normal}" are left to learn from, ${training.length - left} being held back ` +
        `for the reference scores: expected a batch of ${batchSize} at least (--batch)`,
    );
  }
}
