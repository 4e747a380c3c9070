import type { PluginRegistry } from '../core/plugins/registry.js';
import type { Log } from '../core/plugin.js';
import { RxrayError } from '../core/errors.js';
import { portableSteps, type Bundle, type PreprocessingStep } from '../models/bundle.js';
import { UNKNOWN, type About } from './card.js';
import type { Dataset } from './dataset.js';
import { validationFilms } from './evaluation/overlap.js';
import type { Film, Split } from './film.js';
import { named, prepareFilms, resolveChain, unscaledInput, type PreparedFilms } from './preprocess.js';

/** What every training starts from. */
export interface Recipe {
  readonly dataset: Dataset;
  readonly about: About;
  readonly chain: readonly PreprocessingStep[];
  /** The bundle's folder; its last part is the model's name. */
  readonly out: string;
  readonly name: string;
  readonly rxray: string;
  /** What repeats it, for the card. */
  readonly command: string;
  readonly registry: PluginRegistry;
  readonly baseDir: string;
  readonly cacheDir: string;
  readonly log: Log;
  readonly onPhase: (phase: 'preprocess' | 'score', done: number, total: number) => void;
}

/** The bundle that was written; undefined when the signal stopped the training before its end. */
export type Made = Bundle | undefined;

/** The chosen films through the chain, and the chain as the bundle records it. */
export async function prepare(
  recipe: Recipe,
  splits: readonly Split[],
  wanted: (film: Film) => boolean,
  signal: AbortSignal | undefined,
): Promise<{ films: Film[]; prepared: PreparedFilms; chain: PreprocessingStep[] }> {
  const { registry, baseDir, cacheDir, log, rxray } = recipe;
  const films = recipe.dataset.films.filter((film) => splits.includes(film.split) && wanted(film));
  const steps = await resolveChain(recipe.chain, registry, baseDir);
  const { prepared, unreadable } = await prepareFilms(films, steps, {
    cacheDir,
    baseDir,
    log,
    rxray,
    onProgress: (done, total) => {
      recipe.onPhase('preprocess', done, total);
    },
    ...(signal !== undefined && { signal }),
  });
  if (unreadable.length > 0) {
    // The files have been checked to be images before.
    const all = named(unreadable, Infinity);
    throw new RxrayError('TRAINING_DATA', `the preprocessing fails on ${unreadable.length} films: ${all}`);
  }
  if (prepared.channels !== 1) throw wrongSize(prepared, 'grey ones: give `decode` the option `color: grey`');
  return { films, prepared, chain: steps.map(({ url: _url, ...step }) => step) };
}

/** What a bundle of any kind says. */
export function common(
  { name, rxray, about, dataset, out }: Recipe,
  preprocessing: PreprocessingStep[],
  prepared: PreparedFilms,
): Pick<Bundle, 'format' | 'name' | 'createdAt' | 'rxray' | 'license' | 'input' | 'preprocessing' | 'data'> {
  return {
    format: 1,
    name,
    createdAt: new Date().toISOString(),
    rxray,
    license: about.weights ?? UNKNOWN,
    input: unscaledInput(prepared),
    preprocessing: portableSteps(preprocessing, out),
    data: {
      name: about.name,
      license: about.license,
      source: about.source,
      fingerprint: dataset.fingerprint,
      validation: validationFilms(dataset),
      counts: structuredClone(dataset.counts),
      ...(dataset.patients !== null && { patients: dataset.patients }),
    },
  };
}

/** Beside the bundle, which is replaced as a whole. */
export function checkpointDir({ out }: Pick<Recipe, 'out'>): string {
  return `${out}.checkpoint`;
}

export function wrongSize({ width, height, channels }: PreparedFilms, wanted: string): RxrayError {
  return new RxrayError(
    'TRAINING_DATA',
    `the preprocessing makes images of ${width}×${height}×${channels}, this network takes ${wanted}`,
  );
}
