import type { Engine, HostTensors } from '../engine/index.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import { writeBundle } from './write-bundle.js';
import { exportResnet, type ResnetExport, type ResnetOptions } from '../models/index.js';
import { modelCard } from './card.js';
import { classifierMetrics, type LabelledFilms } from './classifier.js';
import { calibrate } from './evaluation/calibrate.js';
import { usualHealthyLabels } from './labels.js';
import { phantomCheck } from './phantom-check.js';
import { imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';
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
  /** What the bundle records of how it was trained. */
  readonly training: Readonly<Record<string, unknown>>;
}

/** Exports a classifier, evaluates and calibrates the exported file on the validation films, and writes its bundle. */
export async function finishClassifier(
  recipe: Recipe,
  engine: Engine,
  { architecture, members, storage, chain, films, val, training }: TrainedClassifier,
): Promise<Bundle> {
  const { classes } = recipe.dataset;
  const model = exportResnet(members, architecture, storage).bytes;
  const session = await engine.load(model, { name: 'resnet' });
  const probabilities = new Float32Array(val.index.length * classes.length);
  for (let from = 0; from < val.index.length; from += BATCH) {
    const part = val.index.subarray(from, from + BATCH);
    const out = await session.run({ images: imagesOf(films, part, unscaledInput(films)) });
    probabilities.set(out.probabilities?.data as Float32Array, from * classes.length);
  }
  await session.dispose();

  const described = common(recipe, chain, films);
  const rows = Array.from(val.label, (_, i) =>
    Array.from(probabilities.subarray(i * classes.length, (i + 1) * classes.length)),
  );
  const { mirror = false } = storage;
  const bundle: Omit<Bundle, 'files'> = {
    ...described,
    kind: 'classifier',
    architecture: { name: 'resnet', ...architecture, members: members.length, mirror },
    labels: [...classes],
    check: await phantomCheck(recipe, chain, described.input),
    activation: 'none',
    healthy: usualHealthyLabels(classes),
    calibration: calibrate(rows, val.label, classes),
    metrics: classifierMetrics(probabilities, val.label, classes),
    training,
  };
  return writeBundle(recipe.out, bundle, { model }, modelCard(bundle, recipe.about.limits));
}
