import type { Anomaly, Classification, Image, StageResult } from '../../core/frame.js';
import { RxrayError } from '../../core/errors.js';
import type { Engine } from '../../engine/index.js';
import { baselineScores } from '../../models/baselines.js';
import { healthyLabels, type Bundle } from '../../models/bundle.js';
import { inputTensor } from '../../models/input-tensor.js';
import type { Dataset } from '../dataset.js';
import type { Film, Split } from '../film.js';
import { byName, resolveChain, type UnreadableByName } from '../preprocess.js';
import { anomalyFigures, type AnomalyFigures, type ScoredFilms } from './anomaly-figures.js';
import type { BinaryQuestion } from './binary-figures.js';
import { resample, type Weights } from './bootstrap.js';
import { classifierFigures, type ClassifiedFilms, type ClassifierFigures } from './classifier-figures.js';
import { chosen, picturesOf, preparedFilms } from './films.js';
import { filmGroups } from './film-groups.js';
import { called, openGradCam } from './grad-cam.js';
import { lungEnergy, type LungEnergy } from './lung-energy.js';
import { lungMasks, type LungMasks } from './lung-masks.js';
import { openModel, type Model, type ModelServices } from './score.js';
import { shiftedFilms, shiftFigures, suiteOf, type ShiftFigures, type ShiftSuite } from './shifts.js';
import { blackouts } from './shortcuts.js';

export interface EvaluationRequest {
  /** Absolute. */
  readonly dir: string;
  readonly bundle: Bundle;
  readonly dataset: Dataset;
  /** Default: `test` where the data have one, else `val`, else all films. */
  readonly split: string | undefined;
  /** The class of healthy films; default: the bundle's. */
  readonly normal: string | undefined;
  /** How an AnoGAN scores; default: the stage's. */
  readonly method: string | undefined;
  readonly cacheDir: string;
  /** The folder that paths in the preprocessing are relative to. */
  readonly baseDir: string;
  readonly rxray: string;
  /** Also evaluates films with a part black, which takes two or three times as long. */
  readonly shortcuts: boolean;
  /** The folder of a segmenter that finds the lungs for them. Default: the manifest's column `mask`. */
  readonly lungs?: string | undefined;
  /** Also evaluates altered films, which takes about fifteen times as long. */
  readonly shifts?: boolean;
  readonly onProgress: (phase: 'preprocessing' | 'scoring' | 'shifts', done: number, total: number) => void;
}

interface Common {
  readonly films: readonly Film[];
  /** After the preprocessing. */
  readonly images: readonly Image[];
  /** As the stage gave them. */
  readonly results: readonly StageResult[];
  readonly split: Split | 'all';
  /** Names of films of the split that could not be read; they are in no figure. */
  readonly unreadable: readonly UnreadableByName[];
  readonly bootstrap: {
    readonly resamples: number;
    readonly seed: number;
    readonly unit: 'patient' | 'film';
  };
  /** The same figures with a part of every film black. */
  readonly shortcuts: readonly { readonly name: string; readonly figures: Figures }[];
  /** How much of the evidence lies in the lungs: of a classifier that rxray trained, where the lungs are known. */
  readonly lungEnergy?: LungEnergy;
  /** The same figures of the films that a column of the manifest says the same of. */
  readonly groups: readonly { readonly column: string; readonly value: string; readonly figures: Figures }[];
  /** Where it was asked for. */
  readonly suite?: ShiftSuite;
}

type Figures = ClassifierFigures | AnomalyFigures;

/** The result: films, outputs of the model, and figures. */
export type Evaluation =
  | (Common & {
      readonly kind: 'classifier';
      readonly said: ClassifiedFilms;
      readonly figures: ClassifierFigures;
    })
  | (Common & { readonly kind: 'anomaly'; readonly said: ScoredFilms; readonly figures: AnomalyFigures });

export const BOOTSTRAP = { resamples: 1000, seed: 1 } as const;

/**
 * Processes the films with the bundle's preprocessing and stage, as a graph does, and computes all figures. Throws
 * `TRAINING_DATA` if films or options do not match the bundle.
 */
export async function evaluate(request: EvaluationRequest, services: ModelServices): Promise<Evaluation> {
  const { bundle, dataset, method, onProgress } = request;
  if (bundle.multiLabel === true) {
    throw refused(
      `"${bundle.name}" reports several findings per film: it cannot be evaluated on films with one class each`,
    );
  }
  const { films: asked, split, unreadable: unopened } = chosen(dataset, request.split);
  // Before the films are prepared, which takes a while.
  const normal = normalOf(bundle, request.normal);
  if (bundle.kind === 'classifier') requireKnownClasses(asked, bundle, normal);
  const model = await openModel(request.dir, bundle.kind, method === undefined ? {} : { method }, services);
  try {
    const { films, prepared, unreadable } = await preparedFilms(asked, request, services);
    const images = picturesOf(prepared, films.length);
    const lungs = request.shortcuts ? await lungMasks(films, prepared, request, services) : undefined;
    const hidden = request.shortcuts ? blackouts(images, lungs) : [];
    const total = films.length * (1 + hidden.length);
    const { results, msPerFilm } = await timed(model, images, (done) => {
      onProgress('scoring', done, total);
    });
    const baselines =
      bundle.kind === 'classifier'
        ? {}
        : await baselineScores(services.engine, request.dir, bundle, inputTensor(images, bundle.input));
    const shortcuts = [];
    for (const { name, images: left } of hidden) {
      const begun = films.length * (1 + shortcuts.length);
      const seen = await model.score(left, {
        onProgress: (done) => {
          onProgress('scoring', begun + done, total);
        },
      });
      shortcuts.push({ name, ...figuresOf(films, seen, bundle, normal, msPerFilm) });
    }
    const groups = filmGroups(films).map(({ column, value, films: members }) => {
      const [mine, said] = [
        members.map((i) => films[i] as Film),
        members.map((i) => results[i] as StageResult),
      ];
      return { column, value, figures: figuresOf(mine, said, bundle, normal, msPerFilm).figures };
    });
    const unit = films.some((film) => film.patient !== film.name) ? 'patient' : 'film';
    const resamples = resample(
      films.map((film) => film.patient),
      BOOTSTRAP,
    );
    const suite = request.shifts === true && {
      suite: await shifted(films, request, services, model, (seen, members) =>
        figuresOf(
          members,
          seen,
          bundle,
          normal,
          msPerFilm,
          {},
          resample(
            members.map((film) => film.patient),
            BOOTSTRAP,
          ),
        ),
      ),
    };
    const judged = figuresOf(films, results, bundle, normal, msPerFilm, baselines, resamples);
    const energy =
      lungs !== undefined && judged.kind === 'classifier' && bundle.architecture.name === 'resnet'
        ? { lungEnergy: await energyIn(lungs, images, judged.said, request, services.engine, resamples) }
        : {};
    return {
      ...{ films, images, results, split, groups },
      ...suite,
      ...energy,
      unreadable: [...unopened, ...unreadable].map(byName),
      bootstrap: { ...BOOTSTRAP, unit },
      shortcuts: shortcuts.map(({ name, figures }) => ({ name, figures })),
      ...judged,
    };
  } finally {
    await model.dispose();
  }
}

/** Of the class that each film is called. */
async function energyIn(
  lungs: LungMasks,
  images: readonly Image[],
  { probabilities }: ClassifiedFilms,
  { dir, bundle }: EvaluationRequest,
  engine: Engine,
  resamples: readonly Weights[],
): Promise<LungEnergy> {
  const network = await openGradCam(dir, bundle, engine);
  try {
    const explained = await network.run([...images.keys()], images, called(probabilities));
    const maps = explained.map(({ map }) => map);
    return lungEnergy(maps, lungs, bundle.input, resamples);
  } finally {
    await network.dispose();
  }
}

/** The same films through every shift, scored and judged. */
async function shifted(
  films: readonly Film[],
  { bundle, cacheDir, baseDir, rxray, onProgress }: EvaluationRequest,
  { registry, log }: ModelServices,
  model: Model,
  judge: (results: readonly StageResult[], films: readonly Film[]) => { readonly figures: Figures },
): Promise<ShiftSuite> {
  const chain = await resolveChain(bundle.preprocessing, registry, baseDir);
  const found: ShiftFigures[] = [];
  for await (const shift of shiftedFilms(films, chain, { cacheDir, baseDir, log, rxray })) {
    const { name, prepared, films: left, total } = shift;
    const { figures } = judge(await model.score(picturesOf(prepared, left.length)), left);
    found.push(shiftFigures(name, figures.binary, 'ece' in figures ? figures : undefined));
    onProgress('shifts', found.length, total);
  }
  return suiteOf(found);
}

/** The figures of any results for the films: of the films as they are, or blacked out in part. */
function figuresOf(
  films: readonly Film[],
  results: readonly StageResult[],
  bundle: Bundle,
  normal: string | undefined,
  msPerFilm: number,
  baselines: ScoredFilms['baselines'] = {},
  resamples: readonly Weights[] = [],
):
  | { readonly kind: 'classifier'; readonly said: ClassifiedFilms; readonly figures: ClassifierFigures }
  | { readonly kind: 'anomaly'; readonly said: ScoredFilms; readonly figures: AnomalyFigures } {
  if (bundle.kind === 'classifier') {
    const said = classified(films, results as readonly Classification[], bundle, normal);
    return { kind: 'classifier', said, figures: classifierFigures(said, resamples) };
  }
  const said = { ...scored(films, results as readonly Anomaly[], normal ?? 'normal'), msPerFilm, baselines };
  return { kind: 'anomaly', said, figures: anomalyFigures(said, resamples) };
}

/** The class of healthy films: as requested, from the bundle, or by its name. */
export function normalOf(bundle: Bundle, asked: string | undefined): string | undefined {
  if (bundle.kind !== 'classifier') {
    const { normal } = bundle.training;
    return asked ?? (typeof normal === 'string' ? normal : 'normal');
  }
  if (asked === undefined) {
    return healthyLabels(bundle)[0] ?? bundle.labels.find((label) => same(label, 'normal'));
  }
  const label = bundle.labels.find((name) => same(name, asked));
  if (label !== undefined) return label;
  throw refused(
    `the model has no label "${asked}" for normal films: its labels are ${bundle.labels.join(', ')}`,
  );
}

async function timed(
  model: Model,
  images: readonly Image[],
  onProgress: (done: number) => void,
): Promise<{ results: StageResult[]; msPerFilm: number }> {
  // The first run of a session allocates: it belongs to no film.
  await model.score(images.slice(0, 1));
  const began = performance.now();
  const results = await model.score(images, { onProgress });
  return { results, msPerFilm: (performance.now() - began) / images.length };
}

function classified(
  films: readonly Film[],
  results: readonly Classification[],
  { labels, calibration, ownCalibration }: Bundle,
  normal: string | undefined,
): ClassifiedFilms {
  const stored = calibration?.binary;
  const binary: BinaryQuestion | null =
    normal === undefined
      ? null
      : {
          normal,
          abnormal: films.map((film) => !same(film.class, normal)),
          ...(stored?.normal === normal
            ? {
                threshold: stored.threshold,
                thresholdFrom:
                  ownCalibration === undefined
                    ? 'the one that the bundle stores, chosen on its validation films'
                    : `the one that the bundle stores, calibrated on ${ownCalibration.data}`,
              }
            : { threshold: 0.5, thresholdFrom: '0.5, because the bundle stores none' }),
        };
  return {
    labels,
    truth: films.map((film) => labelOf(film, labels)),
    probabilities: results.map((result) => labels.map((label) => result.probabilities[label] ?? 0)),
    temperature: calibration?.temperature ?? 1,
    binary,
  };
}

function scored(
  films: readonly Film[],
  results: readonly Anomaly[],
  normal: string,
): Pick<ScoredFilms, 'scores' | 'binary'> {
  // The stage judges by the threshold of its scoring method.
  const threshold = results[0]?.threshold;
  return {
    scores: results.map((result) => result.anomalyScore),
    binary: {
      normal,
      abnormal: films.map((film) => !same(film.class, normal)),
      ...(typeof threshold === 'number'
        ? {
            threshold,
            thresholdFrom: 'the one that the bundle stores, from normal films that it was not trained on',
          }
        : {
            threshold: Infinity,
            thresholdFrom: 'none is stored in the bundle, so no film is called abnormal',
          }),
    },
  };
}

export function labelOf(film: Film, labels: readonly string[]): number {
  const exact = labels.indexOf(film.class);
  return exact >= 0 ? exact : labels.findIndex((label) => same(label, film.class));
}

function requireKnownClasses(films: readonly Film[], { labels }: Bundle, normal: string | undefined): void {
  const classes = [...new Set(films.map((film) => film.class))].sort();
  const unknown = classes.filter((name) => !labels.some((label) => same(label, name)));
  if (unknown.length === 0 || (normal !== undefined && classes.some((name) => same(name, normal)))) return;
  throw refused(`the data's classes are ${classes.join(', ')}, the model's labels ${labels.join(', ')}`);
}

export function same(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

function refused(message: string): RxrayError {
  return new RxrayError('TRAINING_DATA', message);
}
