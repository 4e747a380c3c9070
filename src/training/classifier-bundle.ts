import { RxrayError } from '../core/errors.js';
import type { Engine } from '../engine/index.js';
import { writeBundle, type Bundle } from '../models/bundle.js';
import { exportResnet } from '../models/index.js';
import { modelCard } from './card.js';
import {
  classifierMetrics,
  trainClassifier,
  type ClassifierEpoch,
  type ClassifierSettings,
  type LabelledFilms,
} from './classifier.js';
import type { Split } from './dataset.js';
import type { TrainingHooks } from './hooks.js';
import { checkpointDir, common, prepare, wrongSize, type Made, type Recipe } from './recipe.js';

/** Trains a ResNet on all classes of the data and writes its bundle. */
export async function makeClassifier(
  recipe: Recipe,
  engine: Engine,
  settings: ClassifierSettings,
  hooks: Omit<TrainingHooks<ClassifierEpoch>, 'checkpointDir'>,
): Promise<Made> {
  const { classes } = recipe.dataset;
  if (classes.length < 2) {
    throw new RxrayError(
      'TRAINING_DATA',
      `a classifier needs at least two classes, the data have ${classes.length}`,
    );
  }
  const { films, prepared, chain } = await prepare(recipe, ['train', 'val'], () => true, hooks.signal);
  if (prepared.width !== prepared.height) throw wrongSize(prepared, 'square ones');
  const labelled = (split: Split): LabelledFilms => {
    const index = Uint32Array.from(films.flatMap((film, i) => (film.split === split ? [i] : [])));
    const label = Uint8Array.from(index, (i) => classes.indexOf(films[i]?.class ?? ''));
    if (index.length === 0)
      throw new RxrayError('TRAINING_DATA', `the data have no films in the split "${split}"`);
    return { index, label };
  };
  const data = { films: prepared, classes, train: labelled('train'), val: labelled('val') };
  const outcome = await trainClassifier(engine, data, settings, {
    ...hooks,
    checkpointDir: checkpointDir(recipe),
  });
  if (outcome.interrupted) return undefined;

  const bundle: Omit<Bundle, 'files'> = {
    ...common(recipe, chain, prepared),
    kind: 'classifier',
    architecture: { name: 'resnet', ...outcome.architecture },
    labels: [...classes],
    metrics: classifierMetrics(outcome.probabilities, data.val.label, classes),
    training: { ...settings, bestEpoch: outcome.bestEpoch, history: outcome.history },
  };
  const model = exportResnet(outcome.parameters, outcome.architecture).bytes;
  return writeBundle(recipe.out, bundle, { model }, modelCard(bundle, recipe.about.limits));
}
