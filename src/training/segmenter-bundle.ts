import type { Engine } from '../engine/index.js';
import type { Bundle } from '../models/bundle.js';
import { exportUnet, initUnet } from '../models/index.js';
import { modelCard } from './card.js';
import type { Mask } from '../imaging/mask-distance.js';
import { resample, type Weights } from './evaluation/bootstrap.js';
import { agreement, segmentationFigures, type MaskAgreement } from './evaluation/segmentation-figures.js';
import { inSplit } from './film.js';
import type { TrainingHooks } from './hooks.js';
import { initialWeights } from './initial-weights.js';
import { binary, prepareMasks } from './masks.js';
import { phantomCheck } from './phantom-check.js';
import { filmAt, imagesOf, unscaledInput } from './preprocess.js';
import { checkpointDir, common, prepare, wrongSize, type Made, type Recipe } from './recipe.js';
import {
  architectureOf,
  maskOf,
  trainSegmenter,
  type SegmenterEpoch,
  type SegmenterSettings,
} from './segmenter.js';
import { writeBundle } from './write-bundle.js';

/** Films for one run of the exported file. */
const BATCH = 16;

/** How it is stored, and what it starts from. */
export interface SegmenterStorage {
  readonly half: boolean;
  /** The folder of a bundle whose weights it starts from. */
  readonly init?: string;
}

/** Trains a U-Net on films with masks and writes its bundle. */
export async function makeSegmenter(
  recipe: Recipe,
  engine: Engine,
  settings: SegmenterSettings,
  storage: SegmenterStorage,
  hooks: Omit<TrainingHooks<SegmenterEpoch>, 'checkpointDir'>,
): Promise<Made> {
  const { films, prepared, chain } = await prepare(recipe, ['train', 'val'], () => true, hooks.signal);
  const { width: side, height } = prepared;
  const step = 2 ** settings.poolings;
  if (side !== height || side % step !== 0)
    throw wrongSize(prepared, `squares of a multiple of ${step} pixels`);
  const masks = await prepareMasks(films, chain, recipe);
  const data = { films: prepared, masks, train: inSplit(films, 'train'), val: inSplit(films, 'val') };
  const start =
    storage.init === undefined
      ? undefined
      : await initialWeights(storage.init, 'segmenter', initUnet(architectureOf(settings, side), 0));
  const outcome = await trainSegmenter(
    engine,
    data,
    settings,
    { ...hooks, checkpointDir: checkpointDir(recipe) },
    start,
  );
  if (outcome.interrupted) return undefined;

  const { architecture, bestEpoch, history } = outcome;
  const model = exportUnet(outcome.parameters, architecture, storage).bytes;
  const session = await engine.load(model, { name: 'unet' });
  const area = side * side;
  const found: Uint8Array[] = [];
  for (let from = 0; from < data.val.length; from += BATCH) {
    const part = data.val.subarray(from, from + BATCH);
    const { probabilities } = await session.run({
      images: imagesOf(prepared, part, unscaledInput(prepared)),
    });
    part.forEach((_film, i) => {
      found.push(maskOf((probabilities?.data as Float32Array).subarray(i * area, (i + 1) * area)));
    });
  }
  await session.dispose();
  const truth = Array.from(data.val, (film) => binary(filmAt(masks, film)));
  const picture = (mask: Uint8Array): Mask => ({ width: side, height: side, data: mask });
  const described = common(recipe, chain, prepared);
  const bundle: Omit<Bundle, 'files'> = {
    ...described,
    kind: 'segmenter',
    architecture: { name: 'unet', ...architecture },
    check: await phantomCheck(recipe, chain, described.input),
    labels: [],
    metrics: segmentationMetrics(
      found.map((mask, i) => agreement({ found: picture(mask), truth: picture(truth[i] as Uint8Array) })),
      resample(Array.from(data.val, (film) => films[film]?.patient ?? '')),
    ),
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

/** As a card states them: values with their intervals. */
function segmentationMetrics(
  films: readonly MaskAgreement[],
  resamples: readonly Weights[],
): Record<string, unknown> {
  const figures = segmentationFigures(films, resamples);
  const names = ['dice', 'diceFifthPercentile', 'iou', 'hd95', 'assd'] as const;
  const stated = names.map((name) => {
    const [low, high] = figures.intervals[name] ?? [NaN, NaN];
    return [name, { value: figures[name], low, high }] as const;
  });
  return { films: films.length, ...Object.fromEntries(stated) };
}
