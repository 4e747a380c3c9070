import * as tf from '@tensorflow/tfjs-core';
import {
  joinLoop,
  traceToGraph,
  traceToOnnx,
  writeOnnx,
  type HostTensors,
  type InputSpec,
  type TensorMap,
  type WeightStorage,
} from '../engine/index.js';
import {
  DCGAN_IMAGE_SIZE,
  discriminatorFeatures,
  discriminatorLogits,
  generate,
  ofNetwork,
  zDimOf,
  type DcganOptions,
} from './dcgan.js';
import { foldBatchNorm } from './fold-batch-norm.js';
import { ForwardPass } from './layers.js';
import { absoluteDifferencePerSample } from './losses.js';

/** The ONNX files of an AnoGAN, each for any batch size. */
export interface AnoganFiles {
  /** `images` [N,64,64,1] −1..1 → `features` [N,4,4,8·width], the fx of the search, and `logits` [N,1]. */
  readonly features: Uint8Array;
  /** The latent search; see {@link exportAnogan}. */
  readonly search: Uint8Array;
  /** `z` [N,zDim] → `images`. Batch normalisation unfolded: the weights can be read back. */
  readonly generator: Uint8Array;
  /** `images` → `logits` [N,1], `features`. Batch normalisation unfolded. */
  readonly discriminator: Uint8Array;
}

/** Names of the tensors that the search changes. */
const SEARCHED = ['z', 'm', 'v', 't'] as const;
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

/**
 * The networks of an AnoGAN (Schlegl et al. 2017, "Unsupervised Anomaly Detection with Generative Adversarial Networks…").
 *
 * `search` looks for the z whose image G(z) is closest to x, both networks frozen, by Adam on z:
 * inputs `x` [N,64,64,1] −1..1, `fx` (features of x), `z`, `m`, `v` [N,zDim], `t` [] (steps taken so far),
 * `steps` int64 [] (steps to take now), `lr` [], `lambda` [] (weight of the discrimination loss, 0.1 in the paper).
 * Outputs: `next/z`, `next/m`, `next/v`, `next/t`, and for the z reached: `reconstruction` [N,64,64,1],
 * `residual` [N] = Σ|x − G(z)|, `discrimination` [N] = Σ|f(x) − f(G(z))| (raw sums), `residualMean` and
 * `discriminationMean` [N] (the same per pixel and per feature).
 * The loss is a sum of per-sample terms: every image is searched as if it were alone.
 */
export function exportAnogan(
  parameters: HostTensors,
  options: DcganOptions,
  { half = false }: { readonly half?: boolean } = {},
): AnoganFiles {
  const storage = half ? 'half' : 'single';
  const image = [1, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1];
  const folded = foldBatchNorm(
    parameters,
    (name) => name.startsWith('generator/') && !name.includes('project'),
  );
  const metadata = (part: string): Record<string, string> => ({
    'rxray.model': `anogan-${part}`,
    'rxray.options': JSON.stringify(options),
  });
  const frozen = (variables: HostTensors, part: string) =>
    ({ variables, freeze: true, batch: 'symbolic', storage, metadata: metadata(part) }) as const;
  return {
    features: traceToOnnx(
      ({ images }, variables) => {
        const pass = new ForwardPass(variables, false);
        const features = discriminatorFeatures(pass, images as tf.Tensor4D);
        return { features, logits: discriminatorLogits(pass, features) };
      },
      { images: { shape: image } },
      frozen(ofNetwork(folded, 'discriminator'), 'features'),
    ).bytes,
    search: searchFile(folded, options, metadata('search'), storage),
    generator: traceToOnnx(
      ({ z }, variables) => ({
        images: generate(options, new ForwardPass(variables, false), z as tf.Tensor2D),
      }),
      { z: { shape: [1, zDimOf(options)] } },
      frozen(ofNetwork(parameters, 'generator'), 'generator'),
    ).bytes,
    discriminator: traceToOnnx(
      ({ images }, variables) => {
        const pass = new ForwardPass(variables, false);
        const features = discriminatorFeatures(pass, images as tf.Tensor4D);
        return { features, logits: discriminatorLogits(pass, features) };
      },
      { images: { shape: image } },
      frozen(ofNetwork(parameters, 'discriminator'), 'discriminator'),
    ).bytes,
  };
}

/** One step of Adam on z; every tensor by name (x, fx, z, m, v, t, lr, lambda) → next z, m, v, t. */
export function searchStep(options: DcganOptions, inputs: TensorMap, parameters: TensorMap): TensorMap {
  const { x, fx, z, m, v, t, lr, lambda } = inputs as Record<
    'x' | 'fx' | 'z' | 'm' | 'v' | 't' | 'lr' | 'lambda',
    tf.Tensor
  >;
  const lossOf = (latent: tf.Tensor): tf.Scalar => {
    const { residual, discrimination } = anomalyLosses(options, parameters, x, fx, latent);
    return tf.sum(tf.add(tf.mul(residual, tf.sub(1, lambda)), tf.mul(discrimination, lambda)));
  };
  const gradient = tf.grad(lossOf)(z);
  const count = tf.add(t, 1);
  const nextM = tf.add(tf.mul(m, ADAM.beta1), tf.mul(gradient, 1 - ADAM.beta1));
  const nextV = tf.add(tf.mul(v, ADAM.beta2), tf.mul(tf.square(gradient), 1 - ADAM.beta2));
  const unbiased = tf.div(nextM, tf.sub(1, tf.pow(ADAM.beta1, count)));
  const spread = tf.sqrt(tf.div(nextV, tf.sub(1, tf.pow(ADAM.beta2, count))));
  const nextZ = tf.sub(z, tf.mul(lr, tf.div(unbiased, tf.add(spread, ADAM.epsilon))));
  return { z: nextZ, m: nextM, v: nextV, t: count };
}

/** Both losses per sample (raw sums, [N]) and the reconstruction of a latent vector. */
export function anomalyLosses(
  options: DcganOptions,
  parameters: TensorMap,
  x: tf.Tensor,
  fx: tf.Tensor,
  z: tf.Tensor,
): { residual: tf.Tensor; discrimination: tf.Tensor; reconstruction: tf.Tensor4D } {
  const pass = new ForwardPass(parameters, false);
  const reconstruction = generate(options, pass, z as tf.Tensor2D);
  return {
    reconstruction,
    residual: absoluteDifferencePerSample(x, reconstruction),
    discrimination: absoluteDifferencePerSample(fx, discriminatorFeatures(pass, reconstruction)),
  };
}

function searchFile(
  variables: HostTensors,
  options: DcganOptions,
  metadata: Record<string, string>,
  storage: WeightStorage,
): Uint8Array {
  const zDim = zDimOf(options);
  const fixed: Record<string, InputSpec> = {
    x: { shape: [1, DCGAN_IMAGE_SIZE, DCGAN_IMAGE_SIZE, 1] },
    fx: { shape: [1, 4, 4, 8 * options.width] },
  };
  const searched: Record<string, InputSpec> = {
    z: { shape: [1, zDim] },
    m: { shape: [1, zDim] },
    v: { shape: [1, zDim] },
    t: { shape: [] },
  };
  const scalars: Record<string, InputSpec> = { lr: { shape: [] }, lambda: { shape: [] } };
  const frozen = { variables, freeze: true, batch: 'symbolic' } as const;
  const body = traceToGraph(
    (inputs, parameters) => {
      const { z, m, v, t } = Object.fromEntries(
        SEARCHED.map((name) => [name, inputs[`loop/${name}`] as tf.Tensor]),
      );
      const next = searchStep(options, { ...inputs, z, m, v, t } as TensorMap, parameters);
      return Object.fromEntries(SEARCHED.map((name) => [`loop/next/${name}`, next[name] as tf.Tensor]));
    },
    {
      ...Object.fromEntries(SEARCHED.map((name) => [`loop/${name}`, searched[name] as InputSpec])),
      ...fixed,
      ...scalars,
    },
    { ...frozen, prefix: 'loop/' },
  );
  const result = traceToGraph(
    ({ x, fx, 'next/z': z }, parameters) => {
      const losses = anomalyLosses(options, parameters, x as tf.Tensor, fx as tf.Tensor, z as tf.Tensor);
      return {
        ...losses,
        residualMean: tf.div(losses.residual, DCGAN_IMAGE_SIZE ** 2),
        discriminationMean: tf.div(losses.discrimination, 4 * 4 * 8 * options.width),
      };
    },
    { ...fixed, 'next/z': searched['z'] as InputSpec },
    frozen,
  );
  const graph = joinLoop(result, body, { tripCount: 'steps', carried: SEARCHED });
  Object.assign(graph.metadata, metadata);
  return writeOnnx(graph, storage);
}
