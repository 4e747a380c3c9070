import { z } from 'zod';
import { imageOf, type Anomaly, type Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { Engine } from '../engine/engine.js';
import type { HostTensor } from '../engine/host-tensor.js';
import { readInitializers } from '../engine/onnx.js';
import { resize } from '../imaging/kernels.js';
import type { Bundle } from '../models/bundle.js';
import { inputTensor } from '../models/input-tensor.js';
import { patchScores, PATCH_SCORES, type PatchScore } from '../models/patch-scorer.js';
import { relativeScoreOf } from '../models/reference.js';
import { ANOMALY_COLUMNS } from './shared/anomaly.js';
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

const options = z.strictObject(modelOptions);

export default defineStage({
  name: 'patchcore',
  summary: 'Scores how far the patches of an image are from those of normal images, with a map.',
  options,
  examples: [
    {
      title: 'Chest films, after `unet` and `crop: { to: lungs }`',
      with: { bundle: './models/chest-patchcore' },
    },
  ],
  runsIn: 'main',
  needs: { engine: Engine },
  keepsPixels: true,
  needsPixels: true,
  columns: () => ANOMALY_COLUMNS,
  lint: (settings, context) => lintBundle(settings.bundle, 'patchcore', context),
  async create(settings, { id, engine, log, resolve: absolute }) {
    const dir = absolute(settings.bundle);
    const opened = await openBundle(dir, 'patchcore', id);
    const bytes = await openBundleFile(dir, opened, 'model', id);
    const score = z.enum(PATCH_SCORES).parse(opened.architecture.score);
    const open = (): Promise<Network> =>
      settings.runtime === 'tensorflow'
        ? openTensorflow(opened, bytes)
        : openOnnx(bytes, engine, id, settings.device);
    const { network, memory } = await orDamaged(dir, 'model', id, async () => {
      const { memory: patches } = readInitializers(bytes);
      if (patches === undefined) throw new Error('it has no "memory"');
      return { network: await RebuiltOnce.open(open, log, id), memory: patches };
    });
    return {
      device: engine,
      columns: ANOMALY_COLUMNS,
      async processBatch(frames) {
        requireSize(frames, opened, id);
        const images = inputTensor(frames.map(imageOf), opened.input);
        const distances = await network.use((current) => current.distances(images));
        const scores = patchScores(distances, memory, score);
        return frames.map((frame, i) => {
          const found = requireAnswer(scores[i], (each) => each.anomalyScore, {
            model: opened.name,
            component: id,
          });
          return { ...frame, results: { ...frame.results, [id]: anomaly(found, opened) } };
        });
      },
      dispose: () => network.dispose(),
    };
  },
});

interface Network {
  /** images [N,S,S,1] → distances [N,patches,M]. */
  distances(images: HostTensor): Promise<HostTensor>;
  dispose(): Promise<void>;
}

async function openOnnx(
  bytes: Uint8Array,
  engine: Engine,
  id: string,
  device: z.output<typeof options>['device'],
): Promise<Network> {
  const session = await engine.load(bytes, { name: id, device });
  return {
    async distances(images) {
      const { distances } = await session.run({ images });
      if (distances === undefined) throw new Error('the network returns no "distances"');
      return distances;
    },
    dispose: () => session.dispose(),
  };
}

async function openTensorflow({ architecture }: Bundle, bytes: Uint8Array): Promise<Network> {
  const { TensorflowRuntime } = await import('../models/tensorflow-runtime.js');
  return TensorflowRuntime.open(architecture, [bytes]);
}

/** The result on the frame. */
function anomaly({ anomalyScore, rawSum, map }: PatchScore, { input, reference }: Bundle): Anomaly {
  const known = reference?.patchcore;
  return {
    kind: 'anomaly',
    anomalyScore,
    rawSum,
    ...relativeScoreOf(anomalyScore, known),
    map: pictureOf(map, input, known?.threshold ?? Math.max(...map) / 2),
  };
}

/** The distances d over the film, 8 bit, 255 · d ÷ (d + threshold): mid grey is the threshold of the whole film. */
function pictureOf(map: Float32Array, { width, height }: Bundle['input'], threshold: number): Image {
  const side = Math.sqrt(map.length);
  const grey = Uint8ClampedArray.from(map, (distance) => (255 * distance) / (distance + (threshold || 1)));
  return resize(
    { width: side, height: side, channels: 1, data: Uint8Array.from(grey) },
    width,
    height,
    'linear',
  );
}
