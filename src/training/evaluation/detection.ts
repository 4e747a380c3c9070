import { RxrayError } from '../../core/errors.js';
import type { Detection, Image } from '../../core/frame.js';
import { boxesInImages, boxLabels } from '../boxes.js';
import { JUDGED } from '../detector.js';
import type { Film, Split } from '../film.js';
import { byName, type UnreadableByName } from '../preprocess.js';
import { resample } from './bootstrap.js';
import {
  detectionFigures,
  type DetectedFilm,
  type DetectionFigures,
  type LabelledBox,
} from './detection-figures.js';
import { BOOTSTRAP, type EvaluationRequest } from './evaluate.js';
import { chosen, picturesOf, preparedFilms } from './films.js';
import { filmGroups } from './film-groups.js';
import { openModel, type ModelServices } from './score.js';

/** A film, the boxes that the model found and the ones that were given, in pixels of the prepared film. */
export interface DetectedPicture extends DetectedFilm {
  readonly film: Film;
  /** After the preprocessing. */
  readonly image: Image;
}

export interface DetectorEvaluation {
  readonly kind: 'detector';
  readonly split: Split | 'all';
  readonly films: readonly DetectedPicture[];
  readonly figures: DetectionFigures;
  /** The same figures of the films that a column of the manifest says the same of. */
  readonly groups: readonly {
    readonly column: string;
    readonly value: string;
    readonly figures: DetectionFigures;
  }[];
  /** The mean of the given boxes of each label, found on every film: what a model must beat. */
  readonly floor: DetectionFigures;
  readonly unreadable: readonly UnreadableByName[];
  readonly bootstrap: {
    readonly resamples: number;
    readonly seed: number;
    readonly unit: 'patient' | 'film';
  };
}

/**
 * Compares a detector's boxes (score 0.05 and more) with given ones, at the network's size. Throws `TRAINING_DATA` where
 * the films' boxes have other labels than the model.
 */
export async function evaluateDetector(
  request: EvaluationRequest,
  services: ModelServices,
): Promise<DetectorEvaluation> {
  const { bundle, dir, onProgress } = request;
  const { labels } = bundle;
  if (request.method !== undefined || request.normal !== undefined || request.shifts === true) {
    throw new RxrayError('TRAINING_DATA', '--method, --normal and --shifts are not for a detector');
  }
  const { films: asked, split, unreadable: unopened } = chosen(request.dataset, request.split);
  const unknown = boxLabels(asked).filter((label) => !labels.includes(label));
  if (unknown.length > 0) {
    throw new RxrayError(
      'TRAINING_DATA',
      `the data have boxes of ${unknown.join(', ')}, the model finds ${labels.join(', ')}`,
    );
  }
  const { films, prepared, unreadable } = await preparedFilms(asked, request, services);
  const truth = boxesInImages(films, prepared, labels);
  const images = picturesOf(prepared, films.length);
  const { scoreThreshold, iouThreshold, maxDetections } = JUDGED;
  const model = await openModel(dir, bundle.kind, { scoreThreshold, iouThreshold, maxDetections }, services);
  const results = await model
    .score(images, {
      onProgress: (done) => {
        onProgress('scoring', done, films.length);
      },
    })
    .finally(() => model.dispose());
  const detected = films.map((film, i): DetectedPicture => {
    const { boxes: found } = results[i] as Detection;
    const given = (truth[i] ?? []).map(({ label, ...box }): LabelledBox => ({
      ...box,
      label: labels[label] ?? '',
    }));
    return { film, image: images[i] as Image, found, truth: given };
  });
  const resamples = resample(
    films.map((film) => film.patient),
    BOOTSTRAP,
  );
  return {
    kind: 'detector',
    split,
    films: detected,
    figures: detectionFigures(detected, labels, resamples),
    floor: detectionFigures(atMeanPlace(detected, labels), labels, resamples),
    groups: filmGroups(films).map(({ column, value, films: members }) => ({
      column,
      value,
      figures: detectionFigures(
        members.flatMap((i) => detected[i] ?? []),
        labels,
      ),
    })),
    unreadable: [...unopened, ...unreadable].map(byName),
    bootstrap: {
      ...BOOTSTRAP,
      unit: films.some((film) => film.patient !== film.name) ? 'patient' : 'film',
    },
  };
}

/** The same films, with one box of each label where the mean of the given ones is. */
function atMeanPlace(films: readonly DetectedFilm[], labels: readonly string[]): DetectedFilm[] {
  const found = labels.flatMap((label) => {
    const given = films.flatMap(({ truth }) => truth.filter((box) => box.label === label));
    if (given.length === 0) return [];
    const mean = (of: (box: LabelledBox) => number): number =>
      given.reduce((sum, box) => sum + of(box), 0) / given.length;
    return [
      {
        x: mean(({ x }) => x),
        y: mean(({ y }) => y),
        width: mean(({ width }) => width),
        height: mean(({ height }) => height),
        ...{ label, score: 1 },
      },
    ];
  });
  return films.map(({ truth }) => ({ found, truth }));
}
