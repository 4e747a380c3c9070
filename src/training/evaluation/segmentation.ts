import { RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import type { Mask } from '../../imaging/mask-distance.js';
import type { Film, Split } from '../film.js';
import { binary, prepareMasks } from '../masks.js';
import { filmAt, imagesOf, resolveChain, type PreparedFilms, type UnreadableByName } from '../preprocess.js';
import { maskOf } from '../segmenter.js';
import { readBundleFile, type Bundle } from '../../models/bundle.js';
import type { EngineSession } from '../../engine/index.js';
import { resample, type Weights } from './bootstrap.js';
import { BOOTSTRAP, type EvaluationRequest } from './evaluate.js';
import { chosen, picturesOf, preparedFilms } from './films.js';
import { filmGroups } from './film-groups.js';
import type { ModelServices } from './score.js';
import { movesPixels } from './shift-stage.js';
import { ROTATIONS, SHIFTS, shiftedFilms } from './shifts.js';
import {
  agreement,
  segmentationFigures,
  type MaskAgreement,
  type SegmentationFigures,
} from './segmentation-figures.js';

/** A film, the mask that the model found and the one that was given. */
export interface SegmentedFilm {
  readonly film: Film;
  /** After the preprocessing. */
  readonly image: Image;
  readonly found: Mask;
  readonly truth: Mask;
  readonly agreement: MaskAgreement;
}

export interface SegmenterEvaluation {
  readonly kind: 'segmenter';
  readonly split: Split | 'all';
  readonly films: readonly SegmentedFilm[];
  readonly figures: SegmentationFigures;
  /** The same figures of the films that a column of the manifest says the same of. */
  readonly groups: readonly {
    readonly column: string;
    readonly value: string;
    readonly figures: SegmentationFigures;
  }[];
  /** With `shifts`: the same films altered, and the masks with them where pixels move. */
  readonly shifts?: readonly ShiftedMasks[];
  readonly unreadable: readonly UnreadableByName[];
  readonly bootstrap: {
    readonly resamples: number;
    readonly seed: number;
    readonly unit: 'patient' | 'film';
  };
}

export interface ShiftedMasks extends SegmentationFigures {
  readonly name: string;
}

const BATCH = 16;

/** Compares a segmenter's masks with given ones (`details.mask`), at the network's size. Throws `TRAINING_DATA`. */
export async function evaluateSegmenter(
  request: EvaluationRequest,
  services: ModelServices,
): Promise<SegmenterEvaluation> {
  const { bundle, dir, onProgress } = request;
  const { films: asked, split, unreadable: unopened } = chosen(request.dataset, request.split);
  if (request.method !== undefined || request.normal !== undefined) {
    throw new RxrayError('TRAINING_DATA', '--method and --normal are not for a segmenter');
  }
  const { films, prepared, unreadable } = await preparedFilms(asked, request, services);
  const masks = await prepareMasks(films, bundle.preprocessing, { ...services, ...request });
  const session = await services.engine.load(await readBundleFile(dir, bundle, 'model'), { name: 'unet' });
  let segmented: SegmentedFilm[];
  let shifts: ShiftedMasks[] | undefined;
  try {
    segmented = await segmentedFilms(session, { films, prepared, masks }, bundle, (done) => {
      onProgress('scoring', done, films.length);
    });
    if (request.shifts === true) shifts = await shifted(session, films, request, services);
  } finally {
    await session.dispose();
  }
  const all = segmented.map((each) => each.agreement);
  const resamples = byPatient(films);
  return {
    kind: 'segmenter',
    split,
    films: segmented,
    figures: segmentationFigures(all, resamples),
    groups: filmGroups(films).map(({ column, value, films: members }) => ({
      column,
      value,
      figures: segmentationFigures(members.flatMap((i) => all[i] ?? [])),
    })),
    ...(shifts !== undefined && { shifts }),
    unreadable: [...unopened, ...unreadable].map(({ film, reason }) => ({ film: film.name, reason })),
    bootstrap: {
      ...BOOTSTRAP,
      unit: films.some((film) => film.patient !== film.name) ? 'patient' : 'film',
    },
  };
}

interface PreparedPairs {
  readonly films: readonly Film[];
  readonly prepared: PreparedFilms;
  readonly masks: PreparedFilms;
}

async function segmentedFilms(
  session: EngineSession,
  { films, prepared, masks }: PreparedPairs,
  { input }: Bundle,
  onDone: (done: number) => void = () => undefined,
): Promise<SegmentedFilm[]> {
  const { width, height } = prepared;
  const area = width * height;
  const images = picturesOf(prepared, films.length);
  const segmented: SegmentedFilm[] = [];
  for (let from = 0; from < films.length; from += BATCH) {
    const part = Uint32Array.from(films.slice(from, from + BATCH), (_, i) => from + i);
    const { probabilities } = await session.run({ images: imagesOf(prepared, part, input) });
    part.forEach((index, i) => {
      const [film, image] = [films[index], images[index]];
      if (film === undefined || image === undefined) return;
      const all = probabilities?.data as Float32Array;
      const found = { width, height, data: maskOf(all.subarray(i * area, (i + 1) * area)) };
      const truth = { width, height, data: binary(filmAt(masks, index)) };
      segmented.push({ film, image, found, truth, agreement: agreement({ found, truth }) });
    });
    onDone(segmented.length);
  }
  return segmented;
}

async function shifted(
  session: EngineSession,
  films: readonly Film[],
  request: EvaluationRequest,
  services: ModelServices,
): Promise<ShiftedMasks[]> {
  const { bundle, baseDir, cacheDir, rxray, onProgress } = request;
  const { registry, log } = services;
  const options = { registry, baseDir, cacheDir, rxray, log };
  const chain = await resolveChain(bundle.preprocessing, registry, baseDir);
  const found: ShiftedMasks[] = [];
  for await (const shift of shiftedFilms(films, chain, options, [...SHIFTS, ...ROTATIONS])) {
    const { name, step, films: left, prepared, total } = shift;
    const moved = movesPixels(step?.with.kind) ? step : undefined;
    const masks = await prepareMasks(left, bundle.preprocessing, { ...options, moved });
    const segmented = await segmentedFilms(session, { films: left, prepared, masks }, bundle);
    const agreements = segmented.map((each) => each.agreement);
    found.push({ name, ...segmentationFigures(agreements, byPatient(left)) });
    onProgress('shifts', found.length, total);
  }
  return found;
}

const byPatient = (films: readonly Film[]): Weights[] =>
  resample(
    films.map((film) => film.patient),
    BOOTSTRAP,
  );
