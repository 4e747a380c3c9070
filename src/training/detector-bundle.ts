import { RxrayError } from '../core/errors.js';
import type { Engine } from '../engine/index.js';
import type { Bundle } from '../models/bundle.js';
import { suppressionFeeds } from '../models/detections.js';
import { exportRetinanet, initRetinanet, isPretrained } from '../models/index.js';
import { boxesInImages, boxLabels } from './boxes.js';
import { modelCard } from './card.js';
import {
  architectureOf,
  comparedWith,
  detect,
  JUDGED,
  trainDetector,
  type DetectorEpoch,
  type DetectorSettings,
} from './detector.js';
import { resample } from './evaluation/bootstrap.js';
import { bestThreshold, detectionFigures, type DetectionFigures } from './evaluation/detection-figures.js';
import { inSplit } from './film.js';
import type { TrainingHooks } from './hooks.js';
import { initialWeights } from './initial-weights.js';
import { phantomCheck } from './phantom-check.js';
import { checkpointDir, common, prepare, wrongSize, type Made, type Recipe } from './recipe.js';
import { writeBundle } from './write-bundle.js';

/** Films for one run of the exported file. */
const BATCH = 16;

/** How it is stored, and what it starts from. */
export interface DetectorStorage {
  readonly half: boolean;
  /** The folder of a bundle whose weights it starts from: a detector, or a classifier for the backbone. */
  readonly init?: string;
}

/** Trains a RetinaNet on films with boxes and writes its bundle. */
export async function makeDetector(
  recipe: Recipe,
  engine: Engine,
  settings: DetectorSettings,
  storage: DetectorStorage,
  hooks: Omit<TrainingHooks<DetectorEpoch>, 'checkpointDir'>,
): Promise<Made> {
  const { films, prepared, chain } = await prepare(recipe, ['train', 'val'], () => true, hooks.signal);
  const { width: side, height } = prepared;
  if (side !== height || side % 32 !== 0) throw wrongSize(prepared, 'squares of a multiple of 32 pixels');
  const labels = boxLabels(films);
  const data = {
    films: prepared,
    boxes: boxesInImages(films, prepared, labels),
    labels,
    train: inSplit(films, 'train'),
    val: inSplit(films, 'val'),
  };
  for (const split of ['train', 'val'] as const) {
    if (data[split].some((film) => (data.boxes[film] ?? []).length > 0)) continue;
    throw new RxrayError('TRAINING_DATA', `no film of the split "${split}" has a box`);
  }
  const start = storage.init === undefined ? undefined : await startOf(storage.init, settings, side, labels);
  const outcome = await trainDetector(
    engine,
    data,
    settings,
    { ...hooks, checkpointDir: checkpointDir(recipe) },
    start,
  );
  if (outcome.interrupted) return undefined;

  const { architecture, bestEpoch, history } = outcome;
  const model = exportRetinanet(outcome.parameters, architecture, storage);
  const session = await engine.load(model, { name: 'retinanet' });
  const found = await detect(prepared, data.val, BATCH, (images) =>
    session.run({ images, ...suppressionFeeds(JUDGED) }),
  );
  await session.dispose();
  const judged = comparedWith(found, data.val, data.boxes, labels);
  const patients = Array.from(data.val, (film) => films[film]?.patient ?? '');
  const described = common(recipe, chain, prepared);
  const bundle: Omit<Bundle, 'files'> = {
    ...described,
    kind: 'detector',
    architecture: { name: 'retinanet', ...architecture },
    check: await phantomCheck(recipe, chain, described.input),
    labels,
    thresholds: Object.fromEntries(labels.map((label) => [label, bestThreshold(judged, label)])),
    metrics: metricsOf(detectionFigures(judged, labels, resample(patients))),
    training: {
      command: recipe.command,
      ...settings,
      half: storage.half,
      ...(start && { init: start.from }),
      bestEpoch,
      history,
    },
  };
  return writeBundle(recipe.out, bundle, { model }, modelCard(bundle, recipe.about.limits));
}

/** Weights of another detector, or of a classifier for the backbone alone. */
async function startOf(init: string, settings: DetectorSettings, side: number, labels: readonly string[]) {
  const like = initRetinanet(architectureOf(settings, side, labels.length), settings.seed);
  return initialWeights(init, ['detector', 'classifier'], like, (name, kind) =>
    kind === 'classifier' ? !isPretrained(name) : name.startsWith('head/classes/logits'),
  );
}

/** As a card states them: values with their intervals. */
function metricsOf(figures: DetectionFigures): Record<string, unknown> {
  const names = {
    map50: 'mAP@0.5',
    map: 'mAP@0.5:0.95',
    mapRsna: 'mAP@0.4:0.75',
    sensitivityAt1: 'sensitivity at 1 false positive per film',
  } as const;
  const stated = Object.entries(names).map(([name, title]) => {
    const [low, high] = figures.intervals[name] ?? [NaN, NaN];
    return [title, { value: figures[name as keyof typeof names] ?? NaN, low, high }] as const;
  });
  return { films: figures.films, boxes: figures.boxes, ...Object.fromEntries(stated) };
}
