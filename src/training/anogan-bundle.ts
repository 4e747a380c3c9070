import { join } from 'node:path';
import type { Engine } from '../engine/index.js';
import {
  ANOGAN_METHODS,
  type AnoganMethod,
  type AnomalyScore,
  type SearchSettings,
} from '../models/anomaly-scorer.js';
import type { Bundle } from '../models/bundle.js';
import { writeBundle } from './write-bundle.js';
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
import { trainEncoder, type EncoderEpoch } from './encoder.js';
import type { TrainingHooks } from './hooks.js';
import { prepareNormals } from './normals.js';
import { exportPca, fitPca } from './pca.js';
import { checkpointDir, common, wrongSize, type Made, type Recipe } from './recipe.js';
import { readTrainedGan } from './trained-gan.js';

export interface AnoganBundleSettings extends AnoganSettings {
  /** A bundle whose generator and discriminator are kept: only the encoder and all scores are made again. */
  readonly generator?: string;
  /** Stores the weights in half precision; the arithmetic stays in single. */
  readonly half?: boolean;
}

/** Trains an AnoGAN on the normal films alone, and an encoder for it, and writes its bundle. */
export async function makeAnogan(
  recipe: Recipe,
  engine: Engine,
  normal: string,
  { generator: source, half = false, ...settings }: AnoganBundleSettings,
  hooks: Omit<TrainingHooks<AnoganEpoch>, 'checkpointDir'>,
  encoderHooks: Pick<TrainingHooks<EncoderEpoch>, 'onStep' | 'onEpoch'> = {},
): Promise<Made> {
  const given = source === undefined ? undefined : await readTrainedGan(source);
  // The reference films must be unseen by the generator: its seed selected them.
  const held = { ...settings, ...(given && { seed: given.seed }) };
  const { chain, data } = await prepareNormals(recipe, normal, held, hooks.signal);
  const { films: prepared, val } = data;
  if (prepared.width !== 64 || prepared.height !== 64) throw wrongSize(prepared, '64×64');

  const outcome =
    given ?? (await trainAnogan(engine, data, settings, { ...hooks, checkpointDir: checkpointDir(recipe) }));
  if ('interrupted' in outcome && outcome.interrupted) return undefined;

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
  // Stopped before the first epoch: an untrained encoder would be useless.
  const encoded = encoder !== undefined && encoder.history.length > 0;
  const networks = encoded ? encoder.parameters : outcome.parameters;
  const parameters = settings.principalAxes === false ? networks : turnLatentSpace(networks);

  const methods = encoded ? ANOGAN_METHODS : (['search'] as const);
  const total = methods.length * (data.reference.length + val.index.length);
  let before = 0;
  const score = async (index: Uint32Array, search: SearchSettings): Promise<AnomalyScore[]> => {
    const scores = await scoreFilms(engine, architecture, parameters, prepared, index, search, {
      half,
      onProgress: (done) => {
        recipe.onPhase('score', before + done, total);
      },
    });
    before += index.length;
    return scores;
  };
  const reference: NonNullable<Bundle['reference']> = {};
  const metrics: Record<string, unknown> = { films: val.index.length, referenceFilms: data.reference.length };
  for (const method of methods) {
    const how = settingsOf(method, settings);
    const normals = await score(data.reference, { method, ...how });
    reference[method] = referenceOf(
      normals.map((found) => found.anomalyScore),
      how,
    );
    metrics[method] = anoganMetrics(await score(val.index, { method, ...how }), val.abnormal);
  }
  const pca = exportPca(fitPca(prepared, data.normals, settings.seed));
  const bundle: Omit<Bundle, 'files'> = {
    ...common(recipe, chain, prepared),
    kind: 'anogan',
    architecture: { name: 'dcgan', ...architecture },
    labels: [],
    healthy: [normal],
    input: ANOGAN_INPUT,
    reference,
    metrics,
    training: {
      ...('training' in outcome
        ? { ...outcome.training, ...scoringOf(settings), generator: outcome.origin }
        : {
            ...settings,
            ...(outcome.bestEpoch > 0 && { bestEpoch: outcome.bestEpoch }),
            history: outcome.history,
          }),
      command: recipe.command,
      half,
      normal,
      films: data.normals.length,
      ...(encoded && { encoderHistory: encoder.history }),
    },
  };
  // The discriminator itself is not needed: its features and logits are in a file of their own.
  // The generator's weights are in the search.
  const { search, features } = exportAnogan(parameters, architecture, { half });
  const files = {
    search,
    features,
    pca,
    ...(encoded && { encoder: exportEncoder(parameters, architecture, { half }) }),
  };
  return writeBundle(recipe.out, bundle, files, modelCard(bundle, recipe.about.limits));
}

/** The settings of what comes after the generator. */
function scoringOf({
  search,
  refineSteps,
  principalAxes,
  encoderLambda,
  encoder,
}: AnoganSettings): Partial<AnoganSettings> {
  return {
    search,
    refineSteps,
    ...(principalAxes !== undefined && { principalAxes }),
    encoderLambda,
    ...(encoder && { encoder }),
  };
}

/** How a method scores: by the encoder's reconstruction, or by a short search from there. */
function settingsOf(
  method: AnoganMethod,
  { search, refineSteps, encoderLambda }: AnoganSettings,
): Omit<SearchSettings, 'method'> {
  if (method === 'search') return search;
  const steps = method === 'encoder' ? 0 : refineSteps;
  return { ...search, steps, lambda: encoderLambda, restarts: 1 };
}
