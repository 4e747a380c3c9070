import { float32Of, type HostTensors } from '../engine/index.js';
import { BATCH_NORM_EPSILON, batchNormParameters } from './layers.js';
import { filled } from './random.js';

/**
 * Folds frozen batch normalisation into the kernel before it: kernel' = kernel · γ/√(σ²+ε), bias' = β − μ · γ/√(σ²+ε).
 * The normalised axis is the one whose length fits γ: the last of a convolution, the third of a transposed convolution
 * ([h,w,out,in]), and for a dense layer that is reshaped to [h,w,C], the innermost part of its units.
 *
 * @param transposed Whether a 4-dimensional kernel of that name is a transposed convolution's.
 */
export function foldBatchNorm(parameters: HostTensors, transposed: (name: string) => boolean): HostTensors {
  const folded: HostTensors = {};
  for (const [name, tensor] of Object.entries(parameters)) {
    if (name.includes('/bn/')) continue;
    const layer = name.slice(0, name.lastIndexOf('/'));
    if (!name.endsWith('/kernel') || parameters[`${layer}/bn/gamma`] === undefined) {
      folded[name] = tensor;
      continue;
    }
    const [gamma, beta, mean, variance] = ['gamma', 'beta', 'movingMean', 'movingVariance'].map((part) =>
      float32Of(parameters, `${layer}/bn/${part}`),
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const scale = gamma.map(
      (value, channel) => value / Math.sqrt((variance[channel] ?? 0) + BATCH_NORM_EPSILON),
    );
    const channels = gamma.length;
    // Elements between two neighbours along the output axis.
    const inner = transposed(name) ? (tensor.dims.at(-1) ?? 1) : 1;
    const kernel = float32Of(parameters, name);
    folded[name] = {
      dims: tensor.dims,
      data: kernel.map((value, index) => value * (scale[Math.floor(index / inner) % channels] ?? 1)),
    };
    const units = tensor.dims.length === 2 ? (tensor.dims[1] ?? channels) : channels;
    folded[`${layer}/bias`] = {
      dims: [units],
      data: Float32Array.from({ length: units }, (_, unit) => {
        const channel = unit % channels;
        return (beta[channel] ?? 0) - (mean[channel] ?? 0) * (scale[channel] ?? 0);
      }),
    };
  }
  return folded;
}

/**
 * The other way round, for networks that expect batch normalisation: one that adds the layer's bias and changes nothing
 * else, to float32's precision.
 *
 * @param layers How many channels it normalises, by the names of the layers that expect one.
 */
export function unfoldBatchNorm(folded: HostTensors, layers: Readonly<Record<string, number>>): HostTensors {
  const biases = new Set(Object.keys(layers).map((layer) => `${layer}/bias`));
  const unfolded = Object.fromEntries(Object.entries(folded).filter(([name]) => !biases.has(name)));
  for (const [layer, channels] of Object.entries(layers)) {
    // A dense layer that is reshaped has the same biases at every place.
    const beta = float32Of(folded, `${layer}/bias`).slice(0, channels);
    const dims = [beta.length];
    Object.assign(unfolded, {
      ...batchNormParameters(`${layer}/bn`, beta.length),
      [`${layer}/bn/beta`]: { data: beta, dims },
      [`${layer}/bn/movingVariance`]: filled(dims, 1 - BATCH_NORM_EPSILON),
    });
  }
  return unfolded;
}
