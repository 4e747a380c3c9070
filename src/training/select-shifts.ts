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
    throw new RxrayError('TRAINING_DATA', 'shifts need a class of healthy films, such as "normal"');
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
 * What the shifts do to a network, at the temperature and the threshold of {@link calibrateOnShifts}.
 *
 * @param plain Films × classes, as the network gives them.
 */
export function suiteOfEpoch(
  plain: Float32Array,
  shifted: readonly { readonly name: string; readonly probabilities: Float32Array }[],
  labels: Uint8Array,
  classes: readonly string[],
): ShiftSuite {
  const [normal = ''] = usualHealthyLabels(classes);
  const healthy = classes.indexOf(normal);
  const all = [plain, ...shifted.map(({ probabilities }) => probabilities)];
  const { temperature, binary } = calibrateOnShifts(all, labels, classes);
  const abnormal = Array.from(labels, (label) => label !== healthy);
  const question = { normal, abnormal, threshold: binary?.threshold ?? 0.5, thresholdFrom: 'validation' };
  return suiteOf(
    shifted.map(({ name, probabilities }) => {
      const rows = rowsOf(probabilities, classes.length).map((row) => temper(row, temperature));
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

/**
 * The temperature and the threshold that do best on all versions of the validation films together: as they are, and
 * through every shift.
 *
 * @param versions Of each version films × classes, as the network gives them.
 */
export function calibrateOnShifts(
  versions: readonly Float32Array[],
  labels: Uint8Array,
  classes: readonly string[],
): ReturnType<typeof calibrate> {
  const rows = versions.flatMap((probabilities) => rowsOf(probabilities, classes.length));
  const truth = versions.flatMap(() => [...labels]);
  return calibrate(rows, truth, classes, usualHealthyLabels(classes)[0], versions.length);
}

function rowsOf(probabilities: Float32Array, classes: number): number[][] {
  return Array.from({ length: probabilities.length / classes }, (_, i) =>
    Array.from(probabilities.subarray(i * classes, (i + 1) * classes)),
  );
}

/** For choosing an epoch, 0–1: the mean of balanced accuracy, worst AUROC, worst specificity and 1 − worst calibration error. */
export function suiteScore(
  balancedAccuracy: number,
  { auroc, specificity, ece }: ShiftSuite['worst'],
): number {
  return (balancedAccuracy + (auroc?.value ?? 0) + (specificity?.value ?? 0) + 1 - (ece?.value ?? 1)) / 4;
}
