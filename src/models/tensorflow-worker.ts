import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs-core';
import { readInitializers, registerAllGradients, type HostTensor, type HostTensors } from '../engine/index.js';
import { DCGAN_IMAGE_SIZE, discriminatorFeatures, type DcganOptions } from './dcgan.js';
import { anomalyLosses, searchStep } from './latent-search.js';
import { ForwardPass } from './layers.js';
import { resnetForward, type ResnetOptions } from './resnet.js';

/** What the runtime asks of its thread. */
export type TensorflowTask =
  | {
      readonly do: 'open';
      /** The package that brings the backend. */
      readonly module: string;
      readonly architecture: Readonly<Record<string, unknown>>;
      /** ONNX files whose constants are the weights. */
      readonly files: readonly Uint8Array[];
    }
  | { readonly do: 'classify' | 'features'; readonly images: HostTensor }
  | { readonly do: 'search'; readonly feeds: HostTensors };

let architecture: Readonly<Record<string, unknown>> = {};
let weights: Record<string, tf.Tensor> = {};

/** The entry of the thread: one task in, named tensors out. */
export default async function handle(task: TensorflowTask): Promise<HostTensors> {
  switch (task.do) {
    case 'open':
      return open(task);
    case 'classify':
      return compute({ images: task.images }, ({ images }) => {
        const logits = resnetForward(
          architecture as unknown as ResnetOptions,
          new ForwardPass(weights, false),
          images as tf.Tensor4D,
        );
        return { logits, probabilities: tf.softmax(logits) };
      });
    case 'features':
      return compute({ images: task.images }, ({ images }) => ({
        features: discriminatorFeatures(new ForwardPass(weights, false), images as tf.Tensor4D),
      }));
    case 'search':
      return search(task.feeds);
  }
}

async function open(task: Extract<TensorflowTask, { do: 'open' }>): Promise<HostTensors> {
  // tfjs-node calls a function that Node 23 took away.
  const util = createRequire(import.meta.url)('node:util') as { isNullOrUndefined?: (value: unknown) => boolean };
  util.isNullOrUndefined ??= (value) => value === null || value === undefined;
  await import(task.module);
  await tf.setBackend(task.module.endsWith('backend-cpu') ? 'cpu' : 'tensorflow');
  registerAllGradients();
  architecture = task.architecture;
  const constants = Object.assign({}, ...task.files.map(readInitializers)) as HostTensors;
  weights = Object.fromEntries(
    Object.entries(constants).flatMap(([name, tensor]) =>
      tensor.data instanceof Float32Array ? [[name, tensorOf(tensor)]] : [],
    ),
  );
  return {};
}

async function search({ x, fx, z, m, v, t, steps, lr, lambda }: HostTensors): Promise<HostTensors> {
  const options = architecture as unknown as DcganOptions;
  const fixed = tensorsOf({ x, fx, lr, lambda });
  let moving = tensorsOf({ z, m, v, t });
  for (let step = 0; step < Number(steps?.data[0]); step++) {
    const next = tf.tidy(() => searchStep(options, { ...fixed, ...moving }, weights)) as typeof moving;
    tf.dispose(moving);
    moving = next;
  }
  const losses = tf.tidy(() => {
    const found = anomalyLosses(
      options,
      weights,
      fixed.x as tf.Tensor,
      fixed.fx as tf.Tensor,
      moving.z as tf.Tensor,
    );
    return {
      ...found,
      residualMean: tf.div(found.residual, DCGAN_IMAGE_SIZE ** 2),
      discriminationMean: tf.div(found.discrimination, 4 * 4 * 8 * options.width),
    };
  });
  const next = Object.fromEntries(Object.entries(moving).map(([name, tensor]) => [`next/${name}`, tensor]));
  const result = await hostTensors({ ...next, ...losses });
  tf.dispose([fixed, moving, losses]);
  return result;
}

async function compute(
  feeds: HostTensors,
  run: (inputs: Record<string, tf.Tensor>) => Record<string, tf.Tensor>,
): Promise<HostTensors> {
  const inputs = tensorsOf(feeds);
  const outputs = tf.tidy(() => run(inputs));
  const result = await hostTensors(outputs);
  tf.dispose([inputs, outputs]);
  return result;
}

function tensorsOf(tensors: Record<string, HostTensor | undefined>): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      if (tensor === undefined) throw new Error(`expected a tensor "${name}"`);
      return [name, tensorOf(tensor)];
    }),
  );
}

function tensorOf({ data, dims }: HostTensor): tf.Tensor {
  return tf.tensor(data as Float32Array, [...dims], 'float32');
}

async function hostTensors(tensors: Record<string, tf.Tensor>): Promise<HostTensors> {
  const read = Object.entries(tensors).map(async ([name, tensor]) => {
    return [name, { data: (await tensor.data()) as Float32Array, dims: tensor.shape }] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}
