import { z } from 'zod';
import { imageOf, type Detection, type FoundBox, type Frame, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { suspicionAt } from '../core/verdict.js';
import { Engine } from '../engine/engine.js';
import type { EngineSession, HostTensor, HostTensors } from '../engine/index.js';
import { toFilm, viewOf } from '../imaging/view.js';
import type { Bundle } from '../models/bundle.js';
import { boxesByImage, suppressionFeeds, type NetworkBox, type Suppression } from '../models/detections.js';
import { inputTensor } from '../models/input-tensor.js';
import { requireAnswer } from './shared/answer.js';
import { RebuiltOnce } from './shared/rebuilt-once.js';
import {
  lintBundle,
  modelOptions,
  openBundle,
  openBundleFile,
  orDamaged,
  requireSize,
} from './shared/bundle.js';

const options = z.strictObject({
  bundle: modelOptions.bundle,
  device: modelOptions.device,
  scoreThreshold: z
    .number()
    .gt(0)
    .lt(1)
    .optional()
    .describe(
      "The score from which a box counts. Default: the bundle's, for each label the one that was best on its validation films; 0.5 where it has none.",
    ),
  iouThreshold: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe(
      'Of two boxes of one label whose intersection is more than this share of their union, the less sure one is dropped. An imported network has its own.',
    ),
  maxDetections: z.int().min(1).max(1000).default(100).describe('The most boxes of a film: the surest.'),
});

const COLUMNS = ['count', 'score', 'threshold', 'abnormal', 'suspicion', 'boxes'].map((name) => ({
  name,
  path: [name],
}));

export default defineStage({
  name: 'retinanet',
  summary: 'Finds boxes around what it was trained on, such as opacities, with a trained RetinaNet.',
  options,
  examples: [
    { title: 'As the bundle says', with: { bundle: './models/boxes' } },
    { title: 'Sure boxes only', with: { bundle: './models/boxes', scoreThreshold: 0.7 } },
  ],
  runsIn: 'main',
  needs: { engine: Engine },
  keepsPixels: true,
  needsPixels: true,
  columns: () => COLUMNS,
  lint: ({ bundle }, context) => lintBundle(bundle, 'detector', context),
  async create(settings, { id, log, engine, resolve }) {
    const dir = resolve(settings.bundle);
    const bundle = await openBundle(dir, 'detector', id);
    const bytes = await openBundleFile(dir, bundle, 'model', id);
    const network = await orDamaged(dir, 'model', id, () =>
      RebuiltOnce.open(() => engine.load(bytes, { name: id, device: settings.device }), log, id),
    );
    const thresholds = bundle.labels.map(
      (label) => settings.scoreThreshold ?? bundle.thresholds?.[label] ?? USUAL_THRESHOLD,
    );
    const suppression = { ...settings, scoreThreshold: Math.min(...thresholds) };
    return {
      device: engine,
      columns: COLUMNS,
      async processBatch(frames) {
        requireSize(frames, bundle, id);
        const images = frames.map(imageOf);
        const answers = await network.use((session) => ask(session, images, bundle, suppression));
        return frames.map((frame, i) => {
          const answer = requireAnswer(answers[i], scoreOf, { model: bundle.name, component: id });
          const result = detection(answer, frame, bundle.labels, thresholds, settings.maxDetections);
          return { ...frame, results: { ...frame.results, [id]: result } };
        });
      },
      dispose: () => network.dispose(),
    };
  },
});

/** Where neither the graph nor the bundle says from which score a box counts. */
const USUAL_THRESHOLD = 0.5;

/** What the network says of one image. */
interface Answer {
  readonly boxes: readonly NetworkBox[];
  /** The highest score of each label, also below the threshold. */
  readonly highest: readonly number[];
}

/** NaN where any number of the answer is not finite. */
function scoreOf({ boxes, highest }: Answer): number {
  const all = [
    ...highest,
    ...boxes.flatMap(({ x, y, width, height, score }) => [x, y, width, height, score]),
  ];
  return all.every(Number.isFinite) ? Math.max(...highest) : NaN;
}

/** One answer for each image. */
async function ask(
  session: EngineSession,
  images: readonly Image[],
  { input, labels, architecture }: Bundle,
  suppression: Suppression,
): Promise<Answer[]> {
  if (!session.outputs.some(({ name }) => name === 'films')) {
    // From elsewhere, with a suppression of its own: one image at a time.
    const answers: Answer[] = [];
    for (const image of images) {
      const outputs = renamed(await session.run(alone(session, image, input)), architecture.outputs);
      const [boxes = []] = boxesByImage(outputs, 1, Infinity);
      const unknown = boxes.find(({ label }) => labels[label] === undefined);
      if (unknown !== undefined) {
        throw new Error(
          `the network finds label ${unknown.label}; the bundle names ${labels.length}, from 0 on`,
        );
      }
      answers.push({
        boxes,
        highest: labels.map((_, label) =>
          boxes.reduce((most, box) => (box.label === label ? Math.max(most, box.score) : most), 0),
        ),
      });
    }
    return answers;
  }
  const outputs = await session.run({ images: inputTensor(images, input), ...suppressionFeeds(suppression) });
  return boxesByImage(outputs, images.length, Infinity).map((boxes, i) => ({
    boxes,
    highest: labels.map((_, label) => Number(outputs['highest']?.data[i * labels.length + label])),
  }));
}

/** Outputs under the names that a detector's have, from those that a bundle says an imported one has. */
function renamed(outputs: HostTensors, names: unknown): HostTensors {
  const known = z.record(z.string(), z.string()).safeParse(names).data ?? {};
  const pairs = Object.entries(known).flatMap(([name, its]) => {
    const tensor = outputs[its];
    return tensor === undefined ? [] : [[name, tensor] as const];
  });
  return { ...outputs, ...Object.fromEntries(pairs) };
}

/** One image as a network from elsewhere takes it: with a batch of one, or without. */
function alone(session: EngineSession, image: Image, input: Bundle['input']): HostTensors {
  const [info] = session.inputs;
  const { data, dims }: HostTensor = inputTensor([image], input);
  return { [info?.name ?? 'images']: { data, dims: info?.dims.length === 3 ? dims.slice(1) : dims } };
}

/** A network's answer to a frame's image → the result on the frame, in pixels of the film. */
export function detection(
  { boxes, highest }: Answer,
  frame: Frame,
  labels: readonly string[],
  thresholds: readonly number[],
  maxDetections: number,
): Detection {
  const image = imageOf(frame);
  const view = viewOf(image, frame.view);
  const counted = boxes
    .filter(({ label, score }) => score >= (thresholds[label] ?? 1))
    .slice(0, maxDetections)
    .map(({ label, score, ...box }): FoundBox => {
      const { x, y, width, height } = toFilm(box, image, view);
      return {
        ...{ x: places(x, 1), y: places(y, 1), width: places(width, 1), height: places(height, 1) },
        label: labels[label] ?? '',
        score: places(score, 4),
      };
    });
  const surest = highest
    .map((score, label) => ({ score, threshold: thresholds[label] ?? 1 }))
    .map((each) => ({ ...each, suspicion: suspicionAt(each.score, each.threshold) }))
    .reduce((a, b) => (b.suspicion > a.suspicion ? b : a));
  return {
    kind: 'detection',
    count: counted.length,
    boxes: counted,
    film: view.film,
    score: places(surest.score, 4),
    threshold: surest.threshold,
    abnormal: counted.length > 0,
    suspicion: surest.suspicion,
  };
}

function places(value: number, count: number): number {
  return Number(value.toFixed(count));
}
