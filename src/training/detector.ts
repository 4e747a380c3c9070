import { scalar, type Engine, type HostTensor, type HostTensors } from '../engine/index.js';
import { anchorsOf, type Corners } from '../models/anchors.js';
import { BACKGROUND, BETWEEN, encodeBoxes, matchAnchors } from '../models/box-coding.js';
import { boxesByImage, suppressionFeeds, type NetworkBox, type Suppression } from '../models/detections.js';
import {
  initRetinanet,
  retinanetEvalStep,
  retinanetTrainStep,
  type RetinanetOptions,
} from '../models/index.js';
import type { BoxLoss } from '../models/retinanet.js';
import type { Augmentation } from './augment.js';
import { stepsPerEpoch, trainAveraged, type AveragedEpoch } from './averaged-training.js';
import { BOX_NUMBERS, type BoxInImage } from './batch-layout.js';
import { Batches } from './batches.js';
import { statisticsOf } from './classifier.js';
import { detectionFigures, type DetectedFilm, type LabelledBox } from './evaluation/detection-figures.js';
import type { TrainingHooks } from './hooks.js';
import type { InitialWeights } from './initial-weights.js';
import { imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';
import { scheduled, type Schedule } from './schedule.js';

export interface DetectorSettings {
  readonly depth: 18 | 34 | 50;
  /** Channels of the backbone's first stage. */
  readonly width: number;
  /** Channels of the pyramid and the heads. */
  readonly channels: number;
  readonly headLayers: number;
  /** Side of the smallest anchor in pixels. Default: 32, or an eighth of a smaller image. */
  readonly anchorSize?: number;
  readonly boxLoss: BoxLoss;
  readonly epochs: number;
  readonly batchSize: number;
  /** Adam's, at the peak of the schedule. */
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  readonly patience: number;
  readonly seed: number;
  readonly augmentation: Augmentation;
}

export interface DetectorData {
  /** Grey and square. */
  readonly films: PreparedFilms;
  /** The boxes of each film, in its pixels. */
  readonly boxes: readonly (readonly BoxInImage[])[];
  readonly labels: readonly string[];
  /** Indices into both. */
  readonly train: Uint32Array;
  readonly val: Uint32Array;
}

export interface DetectorEpoch extends AveragedEpoch {
  readonly learningRate: number;
  readonly classLoss: number;
  readonly boxLoss: number;
  /** Mean average precision of the validation films at an overlap of a half. */
  readonly valMap50: number;
}

export interface DetectorOutcome {
  readonly architecture: RetinanetOptions;
  /** Averaged weights of the best epoch. */
  readonly parameters: HostTensors;
  readonly bestEpoch: number;
  readonly history: readonly DetectorEpoch[];
  readonly interrupted: boolean;
}

/** How boxes are chosen where a detector is judged: as torchvision and COCO do. */
export const JUDGED: Suppression = { scoreThreshold: 0.05, iouThreshold: 0.5, maxDetections: 100 };

/** What the network is made like; its statistics are those of the training films. */
export function architectureOf(
  settings: Pick<DetectorSettings, 'depth' | 'width' | 'channels' | 'headLayers' | 'anchorSize'>,
  inputSize: number,
  classes: number,
): RetinanetOptions {
  const {
    depth,
    width,
    channels,
    headLayers,
    anchorSize = Math.min(32, Math.round(inputSize / 8)),
  } = settings;
  return { depth, width, channels, headLayers, anchorSize, inputSize, classes };
}

/** Trains a RetinaNet; returns its averaged weights of the epoch with the best mAP@0.5 on the validation films. */
export async function trainDetector(
  engine: Engine,
  { films, boxes, labels, train, val }: DetectorData,
  settings: DetectorSettings,
  hooks: TrainingHooks<DetectorEpoch>,
  start?: InitialWeights,
): Promise<DetectorOutcome> {
  const { seed, epochs, augmentation } = settings;
  const side = films.width;
  const batchSize = Math.min(settings.batchSize, train.length);
  const steps = stepsPerEpoch(train.length, batchSize);
  const architecture: RetinanetOptions = {
    ...architectureOf(settings, side, labels.length),
    ...(start?.statistics ?? statisticsOf(films, train)),
  };
  const anchors = anchorsOf(side, architecture.anchorSize);
  const trainStep = retinanetTrainStep(architecture, {
    batchSize,
    boxLoss: settings.boxLoss,
    optimizer: { kind: 'adam', weightDecay: settings.weightDecay },
  });
  const evaluated = engine.createState();
  const evaluation = await engine.load(retinanetEvalStep(architecture), {
    state: evaluated,
    name: 'retinanet validation',
  });
  const rateAt = scheduled(settings, steps);

  async function valMap50(parameters: HostTensors): Promise<number> {
    await evaluated.set(parameters);
    const found = await detect(films, val, batchSize, (images) =>
      evaluation.step({ images, ...suppressionFeeds(JUDGED) }),
    );
    return detectionFigures(comparedWith(found, val, boxes, labels), labels).map50 ?? 0;
  }

  const outcome = await trainAveraged<DetectorEpoch, 'classLoss' | 'boxLoss'>(
    engine,
    {
      name: 'retinanet',
      trainStep,
      initial: start?.parameters ?? initRetinanet(architecture, seed),
      identity: { ...settings, labels, films: train.length, size: side, init: start?.from },
      seed,
      epochs,
      batchSize,
      patience: settings.patience,
      films: train,
      batches: new Batches({ films, boxes, augmentation, mixUp: 0, seed }),
      reports: ['loss', 'classLoss', 'boxLoss'],
      feeds: (batch, _rows, epoch, step) => ({
        images: { data: batch.images, dims: [batchSize, side, side, 1] },
        ...targetsOf(batch.boxes, batchSize, anchors, labels.length, settings.boxLoss),
        lr: scalar(rateAt(epoch, step)),
      }),
      judge: async (parameters, { epoch, sums, idle, seconds }) => ({
        epoch,
        learningRate: rateAt(epoch, steps - 1),
        loss: sums.loss / steps,
        classLoss: sums.classLoss / steps,
        boxLoss: sums.boxLoss / steps,
        valMap50: await valMap50(parameters),
        idle,
        seconds,
      }),
      scoreOf: (row) => row.valMap50,
    },
    hooks,
  );
  await evaluation.dispose();
  await evaluated.dispose();
  return { architecture, ...outcome };
}

/** The boxes of the chosen films, as `run` finds them in a batch of images. */
export async function detect(
  films: PreparedFilms,
  chosen: Uint32Array,
  batchSize: number,
  run: (images: HostTensor) => Promise<HostTensors>,
): Promise<NetworkBox[][]> {
  const found: NetworkBox[][] = [];
  for (let from = 0; from < chosen.length; from += batchSize) {
    const part = chosen.subarray(from, from + batchSize);
    const outputs = await run(imagesOf(films, part, unscaledInput(films)));
    found.push(...boxesByImage(outputs, part.length, JUDGED.maxDetections));
  }
  return found;
}

/** Found boxes beside the true ones. */
export function comparedWith(
  found: readonly (readonly NetworkBox[])[],
  chosen: Uint32Array,
  boxes: readonly (readonly BoxInImage[])[],
  labels: readonly string[],
): DetectedFilm[] {
  const named = <B extends { readonly label: number }>({ label, ...box }: B) => ({
    ...box,
    label: labels[label] ?? '',
  });
  return found.map((each, i) => ({
    found: each.map(named),
    truth: (boxes[chosen[i] ?? -1] ?? []).map((box): LabelledBox => named(box)),
  }));
}

/**
 * What the training step takes of a batch's boxes.
 *
 * @param boxes As the batch has them: of each film the same number of places, NaN where there is no box.
 */
export function targetsOf(
  boxes: Float32Array,
  films: number,
  anchors: Corners,
  classes: number,
  boxLoss: BoxLoss,
): HostTensors {
  const count = anchors.length / 4;
  const targets = {
    classes: { data: new Float32Array(films * count * classes), dims: [films, count, classes] },
    counted: { data: new Float32Array(films * count).fill(1), dims: [films, count] },
    objects: { data: new Float32Array(films * count), dims: [films, count] },
    boxes: { data: new Float32Array(films * count * 4), dims: [films, count, 4] },
  };
  const places = boxes.length / films;
  for (let film = 0; film < films; film++) {
    const mine: number[] = [];
    const labels: number[] = [];
    for (let at = film * places; at < (film + 1) * places; at += BOX_NUMBERS) {
      const [x0 = NaN, y0 = 0, x1 = 0, y1 = 0, label = 0] = boxes.subarray(at, at + BOX_NUMBERS);
      if (Number.isNaN(x0)) break;
      mine.push(x0, y0, x1, y1);
      labels.push(label);
    }
    const matches = matchAnchors(anchors, Float32Array.from(mine));
    // Anchors without a box have themselves: any value that is finite will do.
    const matched = anchors.slice();
    matches.forEach((box, a) => {
      const row = film * count + a;
      if (box === BETWEEN) targets.counted.data[row] = 0;
      if (box === BETWEEN || box === BACKGROUND) return;
      targets.classes.data[row * classes + (labels[box] ?? 0)] = 1;
      targets.objects.data[row] = 1;
      matched.set(mine.slice(4 * box, 4 * box + 4), 4 * a);
    });
    const at = film * count * 4;
    targets.boxes.data.set(boxLoss === 'giou' ? matched : encodeBoxes(matched, anchors), at);
  }
  return targets;
}
