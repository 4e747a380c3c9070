import { RxrayError } from '../core/errors.js';
import type { Engine } from '../engine/index.js';
import type { PreprocessingStep } from '../models/bundle.js';
import { initResnet, type ResnetExport } from '../models/index.js';
import {
  trainClassifier,
  type ClassifierEpoch,
  type ClassifierSettings,
  type LabelledFilms,
} from './classifier.js';
import type { Film, Split } from './film.js';
import { finishClassifier } from './finish-classifier.js';
import type { TrainingHooks } from './hooks.js';
import { initialWeights, type InitialWeights } from './initial-weights.js';
import type { PreparedFilms } from './preprocess.js';
import { claheVariants } from './clahe-variants.js';
import { shiftedValidation } from './select-shifts.js';
import { checkpointDir, prepare, wrongSize, type Made, type Recipe } from './recipe.js';

/** Trains a ResNet on all classes of the data and writes its bundle. */
export async function makeClassifier(
  recipe: Recipe,
  engine: Engine,
  settings: ClassifierSettings,
  { init, ...storage }: ResnetExport & { readonly init?: string },
  hooks: Omit<TrainingHooks<ClassifierEpoch>, 'checkpointDir'>,
): Promise<Made> {
  const { classes } = recipe.dataset;
  const { films, labelled, chain } = await classifierFilms(recipe, ['train', 'val'], hooks.signal);
  const data = {
    ...{ films, classes, train: labelled('train'), val: labelled('val') },
    ...(settings.select === 'shifts' && { shifted: await shiftedValidation(recipe) }),
    ...(settings.varyClahe === true && {
      variants: await claheVariants(recipe, ['train', 'val'], hooks.signal),
    }),
  };
  const start =
    init === undefined ? undefined : await initialClassifier(init, settings, films.width, classes.length);
  const outcome = await trainClassifier(
    engine,
    data,
    settings,
    { ...hooks, checkpointDir: checkpointDir(recipe) },
    start,
  );
  if (outcome.interrupted) return undefined;
  const { architecture, bestEpoch, history } = outcome;
  return finishClassifier(recipe, engine, {
    architecture,
    members: [outcome.parameters],
    storage,
    chain,
    films,
    val: data.val,
    ...(data.shifted && { shifted: data.shifted }),
    training: {
      command: recipe.command,
      ...settings,
      ...storage,
      ...(start && { init: start.from }),
      ...(bestEpoch > 0 && { bestEpoch }),
      history,
    },
  });
}

/** A bundle's weights; for other classes, the last layer stays random. */
function initialClassifier(
  dir: string,
  { depth, width, head, seed }: ClassifierSettings,
  inputSize: number,
  classes: number,
): Promise<InitialWeights> {
  const like = initResnet({ depth, width, head, inputSize, classes }, seed);
  return initialWeights(dir, 'classifier', like, (name) => name.startsWith('head/'));
}

/** The films of some splits through the chain, with their labels. Throws `TRAINING_DATA`. */
export async function classifierFilms(
  recipe: Recipe,
  splits: readonly Split[],
  signal?: AbortSignal,
): Promise<{
  readonly films: PreparedFilms;
  readonly labelled: (split: Split) => LabelledFilms;
  readonly chain: PreprocessingStep[];
}> {
  const { classes } = recipe.dataset;
  if (classes.length < 2) {
    throw new RxrayError(
      'TRAINING_DATA',
      `a classifier needs at least two classes, the data have ${classes.length}`,
    );
  }
  const { films, prepared, chain } = await prepare(recipe, splits, () => true, signal);
  if (prepared.width !== prepared.height) throw wrongSize(prepared, 'square ones');
  return { films: prepared, labelled: (split) => labelledFilms(films, classes, split), chain };
}

function labelledFilms(films: readonly Film[], classes: readonly string[], split: Split): LabelledFilms {
  const index = Uint32Array.from(films.flatMap((film, i) => (film.split === split ? [i] : [])));
  if (index.length === 0)
    throw new RxrayError('TRAINING_DATA', `the data have no films in the split "${split}"`);
  return { index, label: Uint8Array.from(index, (i) => classes.indexOf(films[i]?.class ?? '')) };
}
