import * as tf from '@tensorflow/tfjs-core';
import { traceToOnnx, type HostTensors, type TensorMap } from '../engine/index.js';
import { DCGAN_IMAGE_SIZE, discriminatorStages, type DcganOptions } from './dcgan.js';
import { ForwardPass } from './layers.js';
import { resnetStages, type ResnetOptions } from './resnet.js';

/** Layers whose features may describe a patch, from fine to coarse; each halves the image's side once more. */
export const PATCH_LAYERS = {
  /** 1/4, 1/8, 1/16 and 1/32 of the image's side. */
  resnet: ['stage1', 'stage2', 'stage3', 'stage4'],
  /** The discriminator of an AnoGAN: 1/2, 1/4, 1/8 and 1/16. */
  dcgan: ['down1', 'down2', 'down3', 'down4'],
} as const;
export type PatchLayer = (typeof PATCH_LAYERS)['resnet' | 'dcgan'][number];

/** A memory of normal patches in the features of a network (PatchCore, Roth et al. 2022, arXiv:2106.08265). */
export interface PatchcoreOptions {
  readonly network:
    ({ readonly name: 'resnet' } & ResnetOptions) | ({ readonly name: 'dcgan' } & DcganOptions);
  /** Whose features describe a patch; finer ones have more patches. */
  readonly layers: readonly PatchLayer[];
}

/** The grid of patches: rows × columns. */
export type PatchGrid = readonly [rows: number, columns: number];

/** Height and width of the images. */
export function patchcoreInputSize({ network }: PatchcoreOptions): number {
  return network.name === 'resnet' ? network.inputSize : DCGAN_IMAGE_SIZE;
}

/** The grid of the finest of the layers. */
export function patchGrid(options: PatchcoreOptions): PatchGrid {
  const halvings = Math.min(...depthsOf(options)) + (options.network.name === 'resnet' ? 2 : 1);
  const side = patchcoreInputSize(options) / 2 ** halvings;
  return [side, side];
}

/**
 * Images [N,S,S,1], 0..1 → locally aware patch features [N,rows,columns,C]: each layer averaged over 3 × 3
 * neighbours, brought to the grid of the finest one, side by side (section 3.1 of the paper).
 */
export function patchFeatures(
  options: PatchcoreOptions,
  pass: ForwardPass,
  images: tf.Tensor4D,
): tf.Tensor4D {
  const depths = depthsOf(options);
  const count = Math.max(...depths) + 1;
  const stages =
    options.network.name === 'resnet'
      ? resnetStages(options.network, pass, images, count)
      : discriminatorStages(pass, tf.sub(tf.mul(images, 2), 1), count);
  const [rows, columns] = patchGrid(options);
  const maps = depths.map((depth): tf.Tensor4D => {
    const map = tf.avgPool(stages[depth] as tf.Tensor4D, 3, 1, 'same');
    return map.shape[1] === rows ? map : tf.image.resizeBilinear(map, [rows, columns]);
  });
  return maps.length === 1 ? (maps[0] as tf.Tensor4D) : tf.concat(maps, 3);
}

/** `images` [N,S,S,1] 0..1 → `features` [N,rows,columns,C], at any batch size: what a memory is made of. */
export function exportPatchFeatures(parameters: HostTensors, options: PatchcoreOptions): Uint8Array {
  return traceToOnnx(
    ({ images }, variables) => ({
      features: patchFeatures(options, new ForwardPass(variables, false), images as tf.Tensor4D),
    }),
    { images: imagesOf(options) },
    {
      variables: backboneOf(parameters, options),
      freeze: true,
      batch: 'symbolic',
      metadata: metadataOf(options),
    },
  ).bytes;
}

/** What is remembered of the normal patches; made by training, part of the file. */
export interface PatchMemory {
  /** [C]: subtracted from the features. */
  readonly mean: HostTensors[string];
  /** [C,k]: onto the principal axes of the normal patches, each scaled to a variance of 1. */
  readonly projection: HostTensors[string];
  /** [positions,M,k]: the remembered patches; one list for each place of the grid, or one for all. */
  readonly memory: HostTensors[string];
}

/**
 * The whole model for any batch size: `images` [N,S,S,1] 0..1 → `distances` [N,rows·columns,M], the Euclidean
 * distance of every patch to every remembered one (of the same place, where each place has a list of its own).
 */
export function exportPatchcore(
  parameters: HostTensors,
  memory: PatchMemory,
  options: PatchcoreOptions,
  { half = false }: { readonly half?: boolean } = {},
): Uint8Array {
  const variables = { ...backboneOf(parameters, options), ...memory };
  return traceToOnnx(
    ({ images }, given) => ({ distances: patchDistances(options, given, images as tf.Tensor4D) }),
    { images: imagesOf(options) },
    {
      variables,
      freeze: true,
      batch: 'symbolic',
      storage: half ? 'half' : 'single',
      metadata: metadataOf(options),
    },
  ).bytes;
}

/**
 * Images [N,S,S,1], 0..1 → Euclidean distances [N,rows·columns,M] of every patch to every remembered one.
 *
 * @param given the network's parameters and the {@link PatchMemory}.
 */
export function patchDistances(options: PatchcoreOptions, given: TensorMap, images: tf.Tensor4D): tf.Tensor {
  const { mean, projection, memory } = given as Record<keyof PatchMemory, tf.Tensor>;
  const features = patchFeatures(options, new ForwardPass(given, false), images);
  const [n, rows, columns, channels] = features.shape;
  const axes = projection.shape[1] ?? 0;
  const [places = 1] = memory.shape;
  const flat = tf.reshape(tf.sub(features, mean), [n * rows * columns, channels]);
  const patches = tf.reshape(tf.matMul(flat, projection as tf.Tensor2D), [n, rows * columns, axes]);
  // With a list for each place, films are compared place by place: [places,N,k] against [places,M,k].
  const grouped =
    places === 1 ? tf.reshape(patches, [1, n * rows * columns, axes]) : tf.transpose(patches, [1, 0, 2]);
  const squares = tf.sum(tf.square(grouped), 2, true);
  const remembered = tf.reshape(tf.sum(tf.square(memory), 2), [places, 1, memory.shape[1] ?? 0]);
  const products = tf.matMul(grouped, memory, false, true);
  const found = tf.sqrt(tf.relu(tf.sub(tf.add(squares, remembered), tf.mul(products, 2))));
  return places === 1
    ? tf.reshape(found, [n, rows * columns, memory.shape[1] ?? 0])
    : tf.transpose(found, [1, 0, 2]);
}

/** From 0, for each of the layers. Throws a RangeError for one that the network does not have. */
function depthsOf({ network, layers }: PatchcoreOptions): number[] {
  const names: readonly PatchLayer[] = PATCH_LAYERS[network.name];
  return layers.map((layer) => {
    const depth = names.indexOf(layer);
    if (depth < 0) throw new RangeError(`expected layers among ${names.join(', ')}, got "${layer}"`);
    return depth;
  });
}

/** The layers that are used, and those before them. */
function backboneOf(parameters: HostTensors, options: PatchcoreOptions): HostTensors {
  const count = Math.max(...depthsOf(options)) + 1;
  const used =
    options.network.name === 'resnet'
      ? ['stem', ...PATCH_LAYERS.resnet.slice(0, count)]
      : PATCH_LAYERS.dcgan.slice(0, count).map((layer) => `discriminator/${layer}`);
  return Object.fromEntries(
    Object.entries(parameters).filter(([name]) => used.some((part) => name.startsWith(`${part}/`))),
  );
}

function imagesOf(options: PatchcoreOptions): { shape: number[] } {
  const side = patchcoreInputSize(options);
  return { shape: [1, side, side, 1] };
}

function metadataOf(options: PatchcoreOptions): Record<string, string> {
  return { 'rxray.model': 'patchcore', 'rxray.options': JSON.stringify(options) };
}
