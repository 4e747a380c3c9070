import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { Tensor } from 'onnxruntime-node';
import type { Precision } from '../../../src/engine/protocol.js';
import { inParts, WEBGPU_BATCH } from '../../../src/models/in-parts.js';
import {
  exportResnet,
  initResnet,
  normalNoise,
  resnetForward,
  seededRandom,
  type ResnetOptions,
} from '../../../src/models/index.js';
import type { Work } from '../contender.js';
import { countFlops, trainedSize } from '../count-flops.js';
import { onnxFile } from '../onnx-file.js';
import { ours } from '../ours.js';
import { pytorch } from '../pytorch.js';
import { tfjs } from '../tfjs.js';

const EXPORTED = 'exported ONNX';

/** A classifier's answers to a batch of films, beside all peers or PyTorch alone; in half precision on a GPU where asked for. */
export function resnetInference(
  options: ResnetOptions,
  batchSize: number,
  others: 'all' | 'PyTorch' = 'all',
  precision: Precision = 'single',
): Work {
  const { depth, inputSize, classes } = options;
  const parameters = initResnet(options, 1);
  const dims = [batchSize, inputSize, inputSize, 1];
  const images = normalNoise(dims, seededRandom(2), { mean: 0.5, std: 0.25 });
  const forward = (pass: Parameters<typeof resnetForward>[1], x: tf.Tensor): tf.Tensor =>
    tf.softmax(resnetForward(options, pass, x as tf.Tensor4D));
  const bytes = (): Uint8Array => exportResnet(parameters, options).bytes;
  return {
    name: `inference: ResNet-${depth}, ${inputSize}×${inputSize}, batch ${batchSize}${precision === 'half' ? ', half precision' : ''}`,
    flops: () =>
      countFlops((pass, { images: x }) => forward(pass, x as tf.Tensor), { images: dims }, parameters),
    parameters: trainedSize(parameters),
    goals: { [EXPORTED]: 1.03, PyTorch: 0.85 },
    file: () => ({ bytes: bytes(), batchSize }),
    ours: (setting) => {
      const most = setting.device === 'webgpu' ? WEBGPU_BATCH : Infinity;
      return ours(bytes(), { images }, { ...setting, precision }, (session) =>
        inParts(images, most, (part) => session.run({ images: part })),
      );
    },
    async peers(setting) {
      const torch = await pytorch(
        'resnet_inference',
        { depth, size: inputSize, classes, batch: batchSize, half: precision === 'half' },
        setting,
      );
      if (others === 'PyTorch') return [torch];
      const peers = [
        torch,
        await tfjs('wasm', forward, parameters, images),
        await tfjs('tensorflow', forward, parameters, images),
      ];
      if ('missing' in torch) return [{ name: EXPORTED, missing: 'nobody to export it' }, ...peers];
      const path = join(setting.folder, `resnet-${depth}-${inputSize}.onnx`);
      await torch.exportOnnx(path);
      const feeds = {
        images: new Tensor('float32', images.data as Float32Array, [batchSize, 1, inputSize, inputSize]),
      };
      return [await onnxFile(EXPORTED, path, feeds, setting), ...peers];
    },
  };
}
