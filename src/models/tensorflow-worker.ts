import * as tf from '@tensorflow/tfjs-core';
import {
  loadTensorFlow,
  readInitializers,
  runtimeOn,
  type HostTensor,
  type HostTensors,
  type TensorFlowRuntime,
} from '../engine/index.js';
import { DCGAN_IMAGE_SIZE, discriminatorFeatures, type DcganOptions } from './dcgan.js';
import { encode } from './izi-encoder.js';
import { anomalyLosses, searchStep } from './latent-search.js';
import { ForwardPass } from './layers.js';
import { patchDistances, type PatchcoreOptions } from './patch-core.js';
import { resnetClassify, type ResnetOptions } from './resnet.js';
import { unetSegment, type UnetOptions } from './unet.js';

/** A task of the runtime for its thread. */
export type TensorflowTask =
  | {
      readonly do: 'open';
      readonly architecture: Readonly<Record<string, unknown>>;
      /** ONNX files whose constants are the weights. */
      readonly files: readonly Uint8Array[];
    }
  | { readonly do: 'classify' | 'features' | 'encode' | 'distances' | 'segment'; readonly images: HostTensor }
  | { readonly do: 'search'; readonly feeds: HostTensors }
  | { readonly do: 'memory' };

interface Network {
  readonly runtime: TensorFlowRuntime;
  readonly architecture: Readonly<Record<string, unknown>>;
  readonly weights: Readonly<Record<string, tf.Tensor>>;
}

let opened: Network | undefined;

/** The main function of the thread: one task in, named tensors out. */
export default async function handle(task: TensorflowTask): Promise<HostTensors> {
  if (task.do === 'open') {
    opened = await open(task);
    return {};
  }
  if (opened === undefined) throw new Error('no network has been opened in this thread');
  const { runtime, architecture, weights } = opened;
  switch (task.do) {
    case 'classify':
      return runtime.run(
        ({ images }) =>
          resnetClassify(architecture as unknown as ResnetOptions, images as tf.Tensor4D, weights),
        { images: task.images },
        {},
      );
    case 'features':
      return runtime.run(
        ({ images }) => ({
          features: discriminatorFeatures(new ForwardPass(weights, false), images as tf.Tensor4D),
        }),
        { images: task.images },
        {},
      );
    case 'encode':
      return runtime.run(
        ({ images }) => ({ z: encode(new ForwardPass(weights, false), images as tf.Tensor4D) }),
        { images: task.images },
        {},
      );
    case 'distances':
      return runtime.run(
        ({ images }) => ({
          distances: patchDistances(
            architecture as unknown as PatchcoreOptions,
            weights,
            images as tf.Tensor4D,
          ),
        }),
        { images: task.images },
        {},
      );
    case 'segment':
      return runtime.run(
        ({ images }) => unetSegment(architecture as unknown as UnetOptions, images as tf.Tensor4D, weights),
        { images: task.images },
        {},
      );
    case 'search':
      return search(opened, task.feeds);
    case 'memory':
      return { tensors: { data: Int32Array.of(tf.memory().numTensors), dims: [] } };
  }
}

async function open({ architecture, files }: Extract<TensorflowTask, { do: 'open' }>): Promise<Network> {
  const runtime = await openRuntime();
  const constants = Object.assign({}, ...files.map(readInitializers)) as HostTensors;
  const weights = Object.fromEntries(
    Object.entries(constants).flatMap(([name, { data, dims }]) =>
      data instanceof Float32Array ? [[name, tf.tensor(data, [...dims], 'float32')]] : [],
    ),
  );
  return { runtime, architecture, weights };
}

/**
 * Native TensorFlow, or an error with the install line. Tests name TensorFlow.js' CPU backend in the environment: it is
 * hundreds of times slower, so it is never used by default.
 */
async function openRuntime(): Promise<TensorFlowRuntime> {
  if (process.env.RXRAY_TENSORFLOW !== 'cpu') return loadTensorFlow();
  await import('@tensorflow/tfjs-backend-cpu');
  return runtimeOn('cpu');
}

function search({ runtime, architecture, weights }: Network, feeds: HostTensors): Promise<HostTensors> {
  const options = architecture as unknown as DcganOptions;
  const { steps, ...tensors } = feeds;
  return runtime.run(
    ({ z, m, v, t, ...fixed }) => {
      let moving = { z, m, v, t } as Record<string, tf.Tensor>;
      for (let step = 0; step < Number(steps?.data[0]); step++) {
        const before = moving;
        moving = tf.tidy(() => searchStep(options, { ...fixed, ...before }, weights));
        if (step > 0) tf.dispose(before);
      }
      const { x, fx } = fixed as Record<'x' | 'fx', tf.Tensor>;
      const found = anomalyLosses(options, weights, x, fx, moving.z as tf.Tensor);
      return {
        ...Object.fromEntries(Object.entries(moving).map(([name, tensor]) => [`next/${name}`, tensor])),
        ...found,
        residualMean: tf.div(found.residual, DCGAN_IMAGE_SIZE ** 2),
        discriminationMean: tf.div(found.discrimination, 4 * 4 * 8 * options.width),
      };
    },
    tensors,
    {},
  );
}
