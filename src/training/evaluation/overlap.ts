import type { Bundle } from '../../models/bundle.js';
import type { Dataset } from '../dataset.js';
import { chosen } from './films.js';

/** How much of a film's SHA-256 a bundle keeps: enough to tell films apart. */
const DIGITS = 12;

/** What a bundle keeps of the films that it was chosen by: the beginnings of their SHA-256, sorted. */
export function validationFilms({ films }: Pick<Dataset, 'films'>): string[] {
  return films
    .filter(({ split }) => split === 'val')
    .map(({ sha256 }) => sha256.slice(0, DIGITS))
    .sort();
}

/**
 * Why figures on these films are too good, one sentence each: the model was trained on them, or they selected its epoch
 * or its threshold. `advice` ends each sentence. Only what the bundle records is found: bundles of earlier versions keep the fingerprint alone.
 */
export function overlaps(
  bundle: Bundle,
  dataset: Dataset,
  asked: string | undefined,
  advice = 'The figures are too good: evaluate it on films of other patients (`--split test`).',
): string[] {
  const { films, split } = chosen(dataset, asked);
  const { data, ownCalibration } = bundle;
  const warnings: string[] = [];
  const known = new Set(data.validation);
  const shared = films.filter(({ sha256 }) => known.has(sha256.slice(0, DIGITS))).length;
  const isTraining = data.fingerprint === dataset.fingerprint;
  if (isTraining && (split === 'train' || split === 'all')) {
    warnings.push(
      `The model was trained on ${split === 'all' ? 'some of these films' : 'these films'}. ${advice}`,
    );
  } else if (shared > 0 || (isTraining && split === 'val')) {
    const which = shared > 0 && shared < films.length ? `${shared} of these ${films.length}` : 'These';
    warnings.push(`${which} films helped to choose the model in the training. ${advice}`);
  }
  if (ownCalibration?.fingerprint === dataset.fingerprint) {
    warnings.push(`The threshold was calibrated on these films (${ownCalibration.data}). ${advice}`);
  }
  return warnings;
}
