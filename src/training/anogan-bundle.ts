import { join } from 'node:path';
import { RxrayError } from '../core/errors.js';
import type { Engine } from '../engine/index.js';
import {
  ANOGAN_METHODS,
  type AnoganMethod,
  type AnomalyScore,
  type SearchSettings,
} from '../models/anomaly-scorer.js';
import { writeBundle, type Bundle } from '../models/bundle.js';
import { exportAnogan, exportEncoder, turnLatentSpace } from '../models/index.js';
import { referenceOf } from '../models/reference.js';
import {
  ANOGAN_INPUT,
  anoganMetrics,
  scoreFilms,
  trainAnogan,
  type AnoganEpoch,
  type AnoganSettings,
} from './anogan.js';
import { modelCard } from './card.js';
import type { Film } from './dataset.js';
import { trainEncoder, type EncoderEpoch } from './encoder.js';
import type { TrainingHooks } from './hooks.js';
import { seededRandom, shuffled } from '../models/random.js';
import { checkpointDir, common, prepare, wrongSize, type Made, type Recipe } from './recipe.js';

/** Share of the training normals that the GAN does not see: their scores are the reference. */
const REFERENCE_SHARE = 0.15;

/** Trains an AnoGAN on the normal films alone, and an encoder for it, and writes its bundle. */
export async function makeAnogan(
  recipe: Recipe,
  engine: Engine,
  normal: string,
  settings: AnoganSettings,
  hooks: Omit<TrainingHooks<AnoganEpoch>, 'checkpointDir'>,
  encoderHooks: Pick<TrainingHooks<EncoderEpoch>, 'onStep' | 'onEpoch'> = {},
): Promise<Made> {
  const { classes } = recipe.dataset;
  if (!classes.includes(normal)) {
    throw new RxrayError(
      'TRAINING_DATA',
      `there is no class "${normal}": the data have ${classes.join(', ')}`,
    );
  }
  // Of the training films, abnormal ones are of no use here.
  const wanted = (film: Film): boolean => film.split === 'val' || film.class === normal;
  const training = recipe.dataset.films.filter((film) => film.split === 'train' && film.class === normal);
  const held = heldOutPatients(training, settings.seed);
  requireEnough(training, held, normal, settings.batchSize);
  const { films, prepared, chain } = await prepare(recipe, ['train', 'val'], wanted, hooks.signal);
  if (prepared.width !== 64 || prepared.height !== 64) throw wrongSize(prepared, '64×64');

  const where = (test: (film: Film) => boolean): Uint32Array =>
    Uint32Array.from(films.flatMap((film, i) => (test(film) ? [i] : [])));
  const val = where((film) => film.split === 'val');
  const data = {
    films: prepared,
    normals: where((film) => film.split === 'train' && !held.has(film.patient)),
    reference: where((film) => film.split === 'train' && held.has(film.patient)),
    val: { index: val, abnormal: Array.from(val, (i) => films[i]?.class !== normal) },
  };
  const outcome = await trainAnogan(engine, data, settings, {
    ...hooks,
    checkpointDir: checkpointDir(recipe),
  });
  if (outcome.interrupted) return undefined;

  const { architecture } = outcome;
  const { onStep: _step, onEpoch: _epoch, ...stop } = hooks;
  const encoder =
    settings.encoder &&
    (await trainEncoder(engine, prepared, data.normals, architecture, outcome.parameters, settings.encoder, {
      ...stop,
      ...encoderHooks,
      checkpointDir: join(checkpointDir(recipe), 'encoder'),
    }));
  if (encoder?.interrupted === true) return undefined;
  // Out of time before the first epoch: no encoder is better than an untrained one.
  const encoded = encoder !== undefined && encoder.history.length > 0;
  const parameters = turnLatentSpace(encoded ? encoder.parameters : outcome.parameters);

  const methods = encoded ? ANOGAN_METHODS : (['search'] as const);
  const total = methods.length * (data.reference.length + val.length);
  let before = 0;
  const score = async (index: Uint32Array, search: SearchSettings): Promise<AnomalyScore[]> => {
    const scores = await scoreFilms(engine, architecture, parameters, prepared, index, search, (done) => {
      recipe.onPhase('score', before + done, total);
    });
    before += index.length;
    return scores;
  };
  const reference: NonNullable<Bundle['reference']> = {};
  const metrics: Record<string, unknown> = { films: val.length, referenceFilms: data.reference.length };
  for (const method of methods) {
    const how = settingsOf(method, settings);
    const normals = await score(data.reference, { method, ...how });
    reference[method] = referenceOf(
      normals.map((found) => found.anomalyScore),
      how,
    );
    metrics[method] = anoganMetrics(await score(val, { method, ...how }), data.val.abnormal);
  }
  const bundle: Omit<Bundle, 'files'> = {
    ...common(recipe, chain, prepared),
    kind: 'anogan',
    architecture: { name: 'dcgan', ...architecture },
    labels: [],
    input: ANOGAN_INPUT,
    reference,
    metrics,
    training: {
      ...settings,
      normal,
      films: data.normals.length,
      ...(outcome.bestEpoch > 0 && { bestEpoch: outcome.bestEpoch }),
      history: outcome.history,
      ...(encoded && { encoderHistory: encoder.history }),
    },
  };
  // The discriminator itself is not needed: its features and logits are in a file of their own.
  const { search, features, generator } = exportAnogan(parameters, architecture);
  const files = {
    search,
    features,
    generator,
    ...(encoded && { encoder: exportEncoder(parameters, architecture) }),
  };
  return writeBundle(recipe.out, bundle, files, modelCard(bundle, recipe.about.limits));
}

/** How a method scores: the encoder's reconstruction is taken as it is, or is the start of a short search. */
function settingsOf(
  method: AnoganMethod,
  { search, refineSteps }: AnoganSettings,
): Omit<SearchSettings, 'method'> {
  if (method === 'search') return search;
  return { ...search, steps: method === 'encoder' ? 0 : refineSteps, restarts: 1 };
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
