import { RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import type { Dataset } from '../dataset.js';
import type { Film, Split } from '../film.js';
import { filmAt, prepareFilms, resolveChain, type PreparedFilms, type Preparation } from '../preprocess.js';
import type { EvaluationRequest } from './evaluate.js';
import type { ModelServices } from './score.js';

/** Prepared films as images: views. */
export function picturesOf(prepared: PreparedFilms, count: number): Image[] {
  const { width, height } = prepared;
  const channels = prepared.channels === 3 ? 3 : 1;
  return Array.from({ length: count }, (_, i) => ({ width, height, channels, data: filmAt(prepared, i) }));
}

/** The films of a split: of the one asked for, else `test` where the data have one, else `val`, else all. */
export function chosen(
  dataset: Dataset,
  asked: string | undefined,
): { films: Film[]; split: Split | 'all'; unreadable: Dataset['unreadable'] } {
  const splits = Object.keys(dataset.counts) as Split[];
  const split = asked ?? (['test', 'val'] as const).find((name) => splits.includes(name)) ?? 'all';
  const wanted = (film: { readonly split: Split | undefined }): boolean =>
    split === 'all' || film.split === split;
  const films = dataset.films.filter(wanted);
  const unreadable = dataset.unreadable.filter(({ film }) => wanted(film));
  if (films.length > 0) return { films, split: split as Split | 'all', unreadable };
  throw new RxrayError(
    'TRAINING_DATA',
    `no film is in the split "${split}": the data have ${splits.join(', ')}, or say \`all\``,
  );
}

/** Through the bundle's preprocessing, with those that could not be read. */
export async function preparedFilms(
  films: readonly Film[],
  { bundle, cacheDir, baseDir, rxray, onProgress }: EvaluationRequest,
  { registry, log }: ModelServices,
): Promise<Preparation<Film>> {
  const chain = await resolveChain(bundle.preprocessing, registry, baseDir);
  return prepareFilms(films, chain, {
    cacheDir,
    baseDir,
    log,
    rxray,
    onProgress: (done, total) => {
      onProgress('preprocessing', done, total);
    },
  });
}
