import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { imageOf, type Image, type StageResult } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import type { HostTensor, HostTensors } from '../engine/host-tensor.js';
import { ThreadSession } from '../engine/thread-session.js';
import { findLungs, type Lung } from '../imaging/lungs.js';
import { clahe as equalise, toGrey } from '../imaging/kernels.js';
import { encodeRle, type CocoRle } from '../imaging/rle.js';
import type { Bundle } from '../models/bundle.js';
import { inputTensor } from '../models/input-tensor.js';
import clahe from './clahe.js';
import resize, { fitTo } from './resize.js';
import { lintBundle, modelOptions, openBundle, openBundleFile, orDamaged } from './shared/bundle.js';

const options = z.strictObject({
  bundle: z.string().describe('The folder of the trained U-Net, with its bundle.json.'),
  threshold: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe('A pixel belongs to the lungs if its probability is above this.'),
  runtime: modelOptions.runtime,
});

const COLUMNS = ['areaFraction', 'plausible', 'reason'].map((name) => ({ name, path: [name] }));

export default defineStage({
  name: 'unet',
  summary: 'Segments the lungs with a trained U-Net, and checks whether the result can be two lungs.',
  options,
  examples: [{ title: 'Chest films', with: { bundle: './models/chest-lungs' } }],
  keepsPixels: true,
  needsPixels: true,
  runsNativeCode: true,
  lint: ({ bundle }, context) => lintBundle(bundle, 'segmenter', context),
  columns: () => COLUMNS,
  async create({ bundle: path, threshold, runtime }, { id, resolve }) {
    const dir = resolve(path);
    const bundle = await openBundle(dir, 'segmenter', id);
    const bytes = await openBundleFile(dir, bundle, 'model', id);
    const network =
      runtime === 'tensorflow'
        ? await openTensorflow(bundle, bytes)
        : await orDamaged(dir, 'model', id, () => openOnnx(bytes));
    const prepare = preparationOf(bundle, dir, id);
    return {
      columns: COLUMNS,
      async process(frame) {
        const image = imageOf(frame);
        const { probabilities } = await network.run(inputTensor([prepare(image)], bundle.input));
        if (!(probabilities?.data instanceof Float32Array))
          throw new Error('the network returns no "probabilities"');
        if (!probabilities.data.every(Number.isFinite))
          throw new Error('the network answered with values that are not numbers');
        const result = segmentation(probabilities.data, bundle, image, threshold);
        return { ...frame, results: { ...frame.results, [id]: result } };
      },
      dispose: () => network.dispose(),
    };
  },
});

interface Segmenter {
  run(images: HostTensor): Promise<HostTensors>;
  dispose(): Promise<void>;
}

async function openOnnx(bytes: Uint8Array): Promise<Segmenter> {
  const session = await ThreadSession.open(bytes);
  return { run: (images) => session.run({ images }), dispose: () => session.dispose() };
}

async function openTensorflow({ architecture }: Bundle, bytes: Uint8Array): Promise<Segmenter> {
  const { TensorflowRuntime } = await import('../models/tensorflow-runtime.js');
  const network = await TensorflowRuntime.open(architecture, [bytes]);
  return { run: (images) => network.segment(images), dispose: () => network.dispose() };
}

/** One lung, in pixels of the stage's input. */
export interface FoundLung {
  readonly areaFraction: number;
  readonly box: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  readonly centroid: { readonly x: number; readonly y: number };
}

/** The result of the stage. Left and right are those of the image, as a viewer shows it. */
export interface Segmentation {
  readonly kind: 'segmentation';
  /** Share of the film that is lung. */
  readonly areaFraction: number;
  readonly left: FoundLung | null;
  readonly right: FoundLung | null;
  /** Whether these may be two lungs, by sizes and positions. */
  readonly plausible: boolean;
  /** The reasons against it; empty if plausible. */
  readonly reason: string;
  /** Size of the stage's input. */
  readonly film: { readonly width: number; readonly height: number };
  /** 255 for lung, else 0; of the network's size, to be stretched to the film's. */
  readonly mask: Image;
  /** The same as COCO's run-length encoding, of the mask's size. */
  readonly rle: CocoRle;
}

/** Probabilities of the network's size → the result on the frame. */
export function segmentation(
  probabilities: Float32Array,
  { input }: Pick<Bundle, 'input'>,
  { width, height }: Pick<Image, 'width' | 'height'>,
  threshold: number,
): Segmentation & StageResult {
  const size = { width: input.width, height: input.height };
  const above = Uint8Array.from(probabilities, (p) => (p > threshold ? 255 : 0));
  const { lungs, mask } = findLungs({ ...size, data: above });
  const inPixels = (lung: Lung | null): FoundLung | null =>
    lung && {
      areaFraction: places(lung.area, 4),
      box: {
        x: places(lung.box.x * width, 1),
        y: places(lung.box.y * height, 1),
        width: places(lung.box.width * width, 1),
        height: places(lung.box.height * height, 1),
      },
      centroid: { x: places(lung.centroid.x * width, 1), y: places(lung.centroid.y * height, 1) },
    };
  return {
    kind: 'segmentation',
    areaFraction: places(lungs.area, 4),
    left: inPixels(lungs.left),
    right: inPixels(lungs.right),
    plausible: lungs.plausible,
    reason: lungs.reason,
    film: { width, height },
    mask: { ...size, channels: 1, data: mask },
    rle: encodeRle({ ...size, data: mask }),
  };
}

/**
 * The steps of the bundle's preprocessing after `decode`, applied to a copy; the film itself is not changed. A film of
 * the network's size is used unchanged. Throws `BUNDLE_DAMAGED` for steps other than `clahe` and `resize`.
 */
function preparationOf(
  { name, input, preprocessing }: Bundle,
  dir: string,
  component: string,
): (film: Image) => Image {
  const steps = preprocessing
    .filter(({ use }) => use !== 'decode')
    .map(({ use, with: settings }): ((image: Image) => Image) => {
      if (use === 'resize') {
        const parsed = resize.options.parse(settings) as Parameters<typeof fitTo>[1];
        return (image) => fitTo(image, parsed);
      }
      if (use === 'clahe') {
        const { clipLimit, tileGridSize } = clahe.options.parse(settings) as {
          clipLimit: number;
          tileGridSize: number;
        };
        return (image) => equalise(image, clipLimit, tileGridSize);
      }
      throw new RxrayError(
        'BUNDLE_DAMAGED',
        `"${name}" in ${dir} was trained after the stage \`${use}\`; this stage supports only \`clahe\` and \`resize\``,
        { component },
      );
    });
  return (film) => {
    if (film.width === input.width && film.height === input.height) return film;
    return steps.reduce((image, step) => step(image), input.channels === 1 ? toGrey(film) : film);
  };
}

function places(value: number, count: number): number {
  return Number(value.toFixed(count));
}
