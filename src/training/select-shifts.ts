import { RxrayError } from '../core/errors.js';
import { temper } from '../models/calibration.js';
import { binaryFigures } from './evaluation/binary-figures.js';
import { calibrate, expectedCalibrationError, reliability } from './evaluation/calibrate.js';
import { shiftedFilms, shiftFigures, suiteOf, type ShiftSuite } from './evaluation/shifts.js';
import { usualHealthyLabels } from './labels.js';
import { byName, resolveChain, type PreparedFilms } from './preprocess.js';
import type { Recipe } from './recipe.js';

/** The validation films as a shift changes them, in their order. */
export interface ShiftedFilms {
  readonly name: string;
  readonly films: PreparedFilms;
}

/** The validation films through every shift. Throws `TRAINING_DATA` where a film does not get through. */
export async function shiftedValidation(recipe: Recipe): Promise<ShiftedFilms[]> {
  if (usualHealthyLabels(recipe.dataset.classes).length === 0) {
    throw new RxrayError('TRAINING_DATA', '--select shifts needs a class of healthy films, such as "normal"');
  }
  const { registry, baseDir, cacheDir, log, rxray } = recipe;
  const films = recipe.dataset.films.filter((film) => film.split === 'val');
  const chain = await resolveChain(recipe.chain, registry, baseDir);
  const found: ShiftedFilms[] = [];
  for await (const shifted of shiftedFilms(films, chain, { cacheDir, baseDir, log, rxray })) {
    const [lost] = shifted.unreadable.map(byName);
    if (lost !== undefined) {
      throw new RxrayError('TRAINING_DATA', `${shifted.name}: ${lost.film}: ${lost.reason}`);
    }
    found.push({ name: shifted.name, films: shifted.prepared });
  }
  return found;
}

/**
 * What the shifts do to a network, at the temperature and the threshold that the films as they are would give it.
 *
 * @param plain Films × classes, as the network gives them.
 */
export function suiteOfEpoch(
  plain: Float32Array,
  shifted: readonly { readonly name: string; readonly probabilities: Float32Array }[],
  labels: Uint8Array,
  classes: readonly string[],
): ShiftSuite {
  const rowsOf = (probabilities: Float32Array): number[][] =>
    Array.from(labels, (_, i) =>
      Array.from(probabilities.subarray(i * classes.length, (i + 1) * classes.length)),
    );
  const [normal = ''] = usualHealthyLabels(classes);
  const healthy = classes.indexOf(normal);
  const { temperature, binary } = calibrate(rowsOf(plain), labels, classes, normal);
  const abnormal = Array.from(labels, (label) => label !== healthy);
  const question = { normal, abnormal, threshold: binary?.threshold ?? 0.5, thresholdFrom: 'validation' };
  return suiteOf(
    shifted.map(({ name, probabilities }) => {
      const rows = rowsOf(probabilities).map((row) => temper(row, temperature));
      const scores = rows.map((row) => 1 - (row[healthy] ?? 0));
      const ece = expectedCalibrationError(reliability(rows, labels));
      return shiftFigures(name, binaryFigures(scores, question), {
        ece,
        balancedAccuracy: null,
        intervals: {},
      });
    }),
  );
}

/** For choosing an epoch, 0–1: the mean of balanced accuracy, worst AUROC, worst specificity and 1 − worst calibration error. */
export function suiteScore(
  balancedAccuracy: number,
  { auroc, specificity, ece }: ShiftSuite['worst'],
): number {
  return (balancedAccuracy + (auroc?.value ?? 0) + (specificity?.value ?? 0) + 1 - (ece?.value ?? 1)) / 4;
}
