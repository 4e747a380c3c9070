import type { Engine, HostTensors } from '../engine/index.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import { writeBundle } from './write-bundle.js';
import { exportResnet, type ResnetExport, type ResnetOptions } from '../models/index.js';
import { modelCard } from './card.js';
import { classifierMetrics, type LabelledFilms } from './classifier.js';
import { usualHealthyLabels } from './labels.js';
import { phantomCheck } from './phantom-check.js';
import { calibrateOnShifts, type ShiftedFilms } from './select-shifts.js';
import { predict } from './predict.js';
import type { PreparedFilms } from './preprocess.js';
import { common, type Recipe } from './recipe.js';

/** Films for one run of the exported file. */
const BATCH = 32;

/** One trained network, or several of the same architecture that are averaged. */
export interface TrainedClassifier {
  readonly architecture: ResnetOptions;
  readonly members: readonly HostTensors[];
  readonly storage: ResnetExport;
  readonly chain: PreprocessingStep[];
  readonly films: PreparedFilms;
  readonly val: LabelledFilms;
  /** Altered validation films, which the calibration is fitted on as well. */
  readonly shifted?: readonly ShiftedFilms[];
  /** What the bundle records of how it was trained. */
  readonly training: Readonly<Record<string, unknown>>;
}

/** Exports a classifier, evaluates and calibrates the exported file on the validation films, and writes its bundle. */
export async function finishClassifier(
  recipe: Recipe,
  engine: Engine,
  { architecture, members, storage, chain, films, val, shifted = [], training }: TrainedClassifier,
): Promise<Bundle> {
  const { classes } = recipe.dataset;
  const model = exportResnet(members, architecture, storage).bytes;
  const session = await engine.load(model, { name: 'resnet' });
  const run = (judged: PreparedFilms, index: Uint32Array): Promise<Float32Array> =>
    predict(judged, index, { classes, batchSize: BATCH }, (images) => session.run({ images }));
  const probabilities = await run(films, val.index);
  const versions = [probabilities];
  for (const each of shifted) versions.push(await run(each.films, Uint32Array.from(val.index.keys())));
  await session.dispose();

  const described = common(recipe, chain, films);
  const { mirror = false } = storage;
  const bundle: Omit<Bundle, 'files'> = {
    ...described,
    kind: 'classifier',
    architecture: { name: 'resnet', ...architecture, members: members.length, mirror },
    labels: [...classes],
    check: await phantomCheck(recipe, chain, described.input),
    activation: 'none',
    healthy: usualHealthyLabels(classes),
    calibration: calibrateOnShifts(versions, val.label, classes),
    metrics: classifierMetrics(probabilities, val.label, classes),
    training,
  };
  return writeBundle(recipe.out, bundle, { model }, modelCard(bundle, recipe.about.limits));
}
