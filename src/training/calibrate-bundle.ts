import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { RxrayError } from '../core/errors.js';
import type { Anomaly, Classification } from '../core/frame.js';
import { readBundleFile, type Bundle } from '../models/bundle.js';
import { temper } from '../models/calibration.js';
import { calibrationInForce } from '../models/calibration-in-force.js';
import { FALSE_POSITIVE_RATE, referenceOf } from '../models/reference.js';
import type { Dataset } from './dataset.js';
import { calibrate } from './evaluation/calibrate.js';
import { labelOf, normalOf, same, type EvaluationRequest } from './evaluation/evaluate.js';
import { chosen, picturesOf, preparedFilms } from './evaluation/films.js';
import { openModel, type Model, type ModelServices } from './evaluation/score.js';
import { wilson } from '../models/wilson.js';
import { byName, type UnreadableByName } from './preprocess.js';
import { writeBundle } from './write-bundle.js';

export interface CalibrationRequest extends Pick<
  EvaluationRequest,
  'dir' | 'bundle' | 'dataset' | 'split' | 'normal' | 'cacheDir' | 'baseDir' | 'rxray' | 'onProgress'
> {
  /** The new bundle's folder. */
  readonly out: string;
  /** The films' name on the card: that of their folder or manifest. */
  readonly source: string;
  /** Share of the normal films that the threshold calls abnormal. */
  readonly falsePositiveRate?: number;
}

export interface Calibrated {
  readonly bundle: Bundle;
  readonly own: NonNullable<Bundle['ownCalibration']>;
  readonly unreadable: readonly UnreadableByName[];
}

/**
 * Writes a bundle with the same weights (hard links where the disk has them) and thresholds of one's own films: the one
 * that calls the given share of the normal films abnormal, for an anomaly model the percentiles too, and for a classifier,
 * where films of several of its classes are given, the temperature. Throws `TRAINING_DATA` where the films do not fit.
 */
export async function calibrateBundle(
  request: CalibrationRequest,
  services: ModelServices,
): Promise<Calibrated> {
  const { dir, bundle, dataset, out, falsePositiveRate = FALSE_POSITIVE_RATE } = request;
  if (bundle.kind === 'segmenter' || bundle.kind === 'detector' || bundle.multiLabel === true) {
    throw new RxrayError('TRAINING_DATA', `"${bundle.name}" has no threshold of normal films`);
  }
  const { films: asked, unreadable: unopened } = chosen(dataset, request.split ?? 'all');
  const normal = normalOf(bundle, request.normal);
  if (normal === undefined)
    throw new RxrayError('TRAINING_DATA', 'name the class of healthy films (--normal)');
  const isNormal = ({ class: name }: { readonly class: string }): boolean => same(name, normal);
  if (!asked.some(isNormal)) {
    const classes = [...new Set(asked.map((film) => film.class))].join(', ');
    throw new RxrayError('TRAINING_DATA', `no film is of the class "${normal}": the films are of ${classes}`);
  }
  const wanted = { ...request, shortcuts: false, method: undefined };
  // An anomaly model is calibrated on normal films only.
  const used = bundle.kind === 'classifier' ? asked : asked.filter(isNormal);
  const { films, prepared, unreadable } = await preparedFilms(used, wanted, services);
  const normals = films.flatMap((film, i) => (isNormal(film) ? [i] : []));
  if (normals.length === 0)
    throw new RxrayError('TRAINING_DATA', `no film of the class "${normal}" can be read`);
  const images = picturesOf(prepared, films.length);
  const scored = async <R>(settings: Readonly<Record<string, unknown>>): Promise<R[]> => {
    const model: Model = await openModel(dir, bundle.kind, settings, services);
    try {
      const onProgress = (done: number): void => request.onProgress('scoring', done, images.length);
      return (await model.score(images, { onProgress })) as R[];
    } finally {
      await model.dispose();
    }
  };

  let changed: Partial<Bundle>;
  let temperature: 'fitted' | 'kept' | undefined;
  if (bundle.kind === 'classifier') {
    const before = bundle.calibration?.temperature ?? 1;
    const results = await scored<Classification>({});
    // As the network gives them.
    const rows = results.map(({ probabilities }) =>
      temper(
        bundle.labels.map((label) => probabilities[label] ?? 0),
        1 / before,
      ),
    );
    const truth = films.map((film) => labelOf(film, bundle.labels));
    temperature = !truth.includes(-1) && new Set(truth).size > 1 ? 'fitted' : 'kept';
    const fitted =
      temperature === 'fitted' ? calibrate(rows, truth, bundle.labels, normal) : bundle.calibration;
    const healthy = bundle.labels.indexOf(normal);
    const scores = normals.map(
      (i) => 1 - (temper(rows[i] ?? [], fitted?.temperature ?? before)[healthy] ?? 0),
    );
    const { threshold } = referenceOf(scores, {}, falsePositiveRate);
    const { ece } = fitted ?? {};
    changed = {
      calibration: {
        temperature: fitted?.temperature ?? before,
        films: fitted?.films ?? films.length,
        ...(ece && { ece }),
        binary: { normal, threshold },
      },
    };
  } else {
    const reference: NonNullable<Bundle['reference']> = {};
    for (const [method, { settings }] of Object.entries(bundle.reference ?? {})) {
      const results = await scored<Anomaly>(bundle.kind === 'anogan' ? { method } : {});
      const scores = normals.map((i) => results[i]?.anomalyScore ?? NaN);
      reference[method as keyof typeof reference] = referenceOf(scores, settings, falsePositiveRate);
    }
    changed = { reference };
  }

  const right = normals.length - Math.floor(falsePositiveRate * normals.length);
  const own: Calibrated['own'] = {
    data: request.source,
    fingerprint: dataset.fingerprint,
    films: films.length,
    normals: normals.length,
    ...patientsAmong(dataset, films),
    falsePositiveRate,
    specificity: wilson(right, normals.length),
    ...(temperature && { temperature }),
    createdAt: new Date().toISOString(),
    from: { name: bundle.name, createdAt: bundle.createdAt },
  };
  const next = { ...bundle, ...changed, name: basename(out), ownCalibration: own };
  const links: Record<string, string> = {};
  for (const [role, { path }] of Object.entries(bundle.files)) {
    // Damaged weights are not passed on.
    await readBundleFile(dir, bundle, role);
    links[role] = join(dir, path);
  }
  const card = await readFile(join(dir, 'README.md'), 'utf8').catch(() => `# ${bundle.name}\n`);
  const { files: _files, card: _card, ...described } = next;
  const written = await writeBundle(out, described, links, withSection(card, sectionOf(next, own)));
  return { bundle: written, own, unreadable: [...unopened, ...unreadable].map(byName) };
}

const HEADING = '## Calibrated on films of its place of use';

function sectionOf(bundle: Omit<Bundle, 'files'>, own: Calibrated['own']): string {
  const lines = [
    HEADING,
    `Replaces what training found, below. ${capital(calibrationInForce(bundle))}. The range in brackets is a 95 % interval ` +
      '(Wilson): expect new films of the same source to lie in it.',
    '',
    `- Films: ${own.films}, of them normal: ${own.normals}. Fingerprint: \`${own.fingerprint}\`.`,
    ...(own.patients === undefined ? [] : [`- Patients: ${own.patients}.`]),
    `- Asked for: ${(100 * own.falsePositiveRate).toFixed(1)} % of the normal films called abnormal.`,
    ...(own.temperature === undefined ? [] : [`- Temperature: ${own.temperature}.`]),
    `- Weights: those of ${own.from.name}, ${own.from.createdAt}.`,
    '',
    '',
  ];
  return lines.join('\n');
}

/** In front of the card's first section, in the place of an earlier one. */
function withSection(card: string, section: string): string {
  const [head = '', ...rest] = card.split(/^(?=## )/m);
  return [`${head.trimEnd()}\n\n`, section, ...rest.filter((part) => !part.startsWith(HEADING))].join('');
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function patientsAmong(
  { patients }: Dataset,
  films: readonly { readonly patient: string }[],
): { patients?: number } {
  return patients === null ? {} : { patients: new Set(films.map(({ patient }) => patient)).size };
}
