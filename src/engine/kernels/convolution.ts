import * as tf from '@tensorflow/tfjs-core';
import { CHANNELS_FIRST, FILTER_OIHW } from '../layout.js';
import { fusedActivation } from './activation.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';
import { transpose } from './shape.js';

type Conv2DInfo = tf.backend_util.Conv2DInfo;
type Shape4D = [number, number, number, number];

interface ConvAttributes {
  readonly strides: number | [number, number];
  readonly pad: Parameters<typeof tf.backend_util.computeConv2DInfo>[4];
  readonly dilations?: number | [number, number];
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** Logical HWIO filters held as IOHW. */
const FILTER_IOHW = [2, 3, 0, 1];
/** Logical HWIO filters held as OHWI. */
const FILTER_OHWI = [3, 0, 1, 2];
/** Images as channels and channels as images: logical NHWC held as CNHW. */
const CHANNELS_AS_BATCH = [3, 0, 1, 2];
/** Up to this many input channels, the filter gradient is a convolution with the images as channels. */
const FEW_CHANNELS = 4;
/** Up to this many positions, a transposed convolution that reads its weights once for every image is too slow. */
const FEW_POSITIONS = 16;
/** The batch size that a choice by size reckons with: the true one must not make two traces differ. */
const USUAL_BATCH = 16;
/** End of a Slice that runs backwards through the first element. */
const BEFORE_START = -2147483648;

function convInfo(call: KernelCall, xShape: number[], filterShape: number[], depthwise = false): Conv2DInfo {
  const { strides, pad, dilations, dimRoundingMode } = call.attrs as unknown as ConvAttributes;
  return tf.backend_util.computeConv2DInfo(
    xShape as Shape4D,
    filterShape as Shape4D,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
    depthwise,
  );
}

function convAttributes(info: Conv2DInfo): Record<string, number[]> {
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    pads: padsOf(info),
  };
}

/** Paddings at the start and at the end of both axes; more at the end where the output size was rounded up. */
export function padsOf(info: Conv2DInfo): [top: number, left: number, bottom: number, right: number] {
  const { padInfo } = info;
  const height = (info.outHeight - 1) * info.strideHeight + info.effectiveFilterHeight;
  const width = (info.outWidth - 1) * info.strideWidth + info.effectiveFilterWidth;
  return [
    padInfo.top,
    padInfo.left,
    Math.max(padInfo.bottom, height - info.inHeight - padInfo.top),
    Math.max(padInfo.right, width - info.inWidth - padInfo.left),
  ];
}

/** Runs a kernel on images; with `dataFormat: 'NCHW'` they are seen as NHWC, which moves nothing. */
function onImages(
  images: readonly string[],
  trace: (call: KernelCall) => tf.TensorInfo,
): KernelDefinition['trace'] {
  return (call) => {
    if (call.attrs['dataFormat'] !== 'NCHW') return trace(call);
    const lastAxis = (axes: readonly unknown[]): unknown[] => [axes[0], axes[2], axes[3], axes[1]];
    const { inputShape, pad } = call.attrs as { inputShape?: number[]; pad: unknown };
    const attrs = {
      ...call.attrs,
      ...(inputShape ? { inputShape: lastAxis(inputShape) } : {}),
      pad: Array.isArray(pad) ? lastAxis(pad) : pad,
    };
    const seen = [...images, 'preluActivationWeights'].flatMap((name) => {
      const given = call.inputs[name];
      if (given?.shape.length === 4) return [[name, transpose(call, given, [0, 2, 3, 1])] as const];
      return given?.shape.length === 3 ? [[name, transpose(call, given, [1, 2, 0])] as const] : [];
    });
    const result = trace({ ...call, attrs, inputs: { ...call.inputs, ...Object.fromEntries(seen) } });
    return images.includes('dy') && images.includes('x') ? result : transpose(call, result, [0, 3, 1, 2]);
  };
}

function convolve(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const { bias } = call.inputs;
  const x = input(call, 'x');
  const filter = input(call, 'filter');
  const info = convInfo(call, x.shape, filter.shape);
  const operands = [tracer.name(x, CHANNELS_FIRST), tracer.name(filter, FILTER_OIHW)];
  const perChannel = bias?.shape.length === 1 && bias.shape[0] === info.outChannels;
  if (perChannel) operands.push(tracer.name(bias));
  const name = graph.add('Conv', operands, convAttributes(info));
  const y = tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
  return bias && !perChannel ? tracer.elementwise('Add', [y, bias], 'float32') : y;
}

/** d(loss)/d(input): a plain convolution with turned filters at stride 1, else a transposed convolution. */
function inputGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const dy = input(call, 'dy');
  const filter = input(call, 'filter');
  const { inputShape } = call.attrs as unknown as { inputShape: number[] };
  const info = convInfo(call, inputShape, filter.shape);
  const { filterHeight, filterWidth } = info;
  const layout = { order: CHANNELS_FIRST };
  const gradient = tracer.name(dy, CHANNELS_FIRST);
  const [top, left, bottom, right] = padsOf(info);
  const pads = [
    info.effectiveFilterHeight - 1 - top,
    info.effectiveFilterWidth - 1 - left,
    info.effectiveFilterHeight - 1 - bottom,
    info.effectiveFilterWidth - 1 - right,
  ];
  if (info.strideHeight === 1 && info.strideWidth === 1 && pads.every((pad) => pad >= 0)) {
    const held = tracer.name(filter, FILTER_IOHW);
    const weights = filterHeight > 1 || filterWidth > 1 ? turned(call, held, info) : held;
    const name = graph.add('Conv', [gradient, weights], {
      kernel_shape: [filterHeight, filterWidth],
      dilations: [info.dilationHeight, info.dilationWidth],
      pads,
    });
    return tracer.result(name, inputShape, 'float32', layout);
  }
  const operands = [gradient, tracer.name(filter, FILTER_OIHW)];
  if (splitsIntoPhases(info)) {
    // Filters that change would be cut into their phases anew each time.
    const frozen = graph.initializers.has(operands[1] ?? '');
    if (frozen)
      return tracer.result(inputGradientByPhases(call, gradient, info), inputShape, 'float32', layout);
    if (scattersWhole(info)) {
      return tracer.result(inputGradientByScatter(call, info), inputShape, 'float32');
    }
  }
  return tracer.result(graph.add('ConvTranspose', operands, backwards(info)), inputShape, 'float32', layout);
}

/** Attributes of the transposed convolution that leads back to the input's size. */
export function backwards(info: Conv2DInfo): Record<string, number[]> {
  const [top, left, bottom, right] = padsOf(info);
  const height = (info.outHeight - 1) * info.strideHeight + info.effectiveFilterHeight - top - bottom;
  const width = (info.outWidth - 1) * info.strideWidth + info.effectiveFilterWidth - left - right;
  return { ...convAttributes(info), output_padding: [info.inHeight - height, info.inWidth - width] };
}

/** Whether phases pay, every position modulo the stride is reached by filter taps, and the stride divides the image. */
function splitsIntoPhases(info: Conv2DInfo): boolean {
  return (
    info.outHeight * info.outWidth <= FEW_POSITIONS &&
    info.inChannels > FEW_CHANNELS &&
    info.dilationHeight * info.dilationWidth === 1 &&
    info.strideHeight === info.strideWidth &&
    info.filterHeight >= info.strideHeight &&
    info.filterWidth >= info.strideWidth &&
    info.inHeight === info.outHeight * info.strideHeight &&
    info.inWidth === info.outWidth * info.strideWidth
  );
}

/** Taps of one axis that reach the positions `phase` modulo the stride, and the padding of a convolution with them. */
function phaseOf(
  phase: number,
  stride: number,
  size: number,
  pad: number,
): { first: number; taps: number; before: number; after: number } {
  const first = (phase + pad) % stride;
  const taps = Math.ceil((size - first) / stride);
  const reach = Math.floor((phase + pad) / stride);
  return { first, taps, before: taps - 1 - reach, after: reach };
}

/**
 * A transposed convolution as one plain convolution for each position modulo the stride (Shi et al. 2016).
 */
function inputGradientByPhases(call: KernelCall, gradient: string, info: Conv2DInfo): string {
  const { graph } = call;
  const weights = call.tracer.name(input(call, 'filter'), FILTER_IOHW);
  const stride = info.strideHeight;
  const phases: string[] = [];
  for (let row = 0; row < stride; row++) {
    const vertical = phaseOf(row, stride, info.filterHeight, info.padInfo.top);
    for (let column = 0; column < stride; column++) {
      const horizontal = phaseOf(column, stride, info.filterWidth, info.padInfo.left);
      // From the last tap of the phase backwards: turned, as every input gradient's filters.
      const taps = graph.add('Slice', [
        weights,
        graph.integers([lastTap(vertical, stride), lastTap(horizontal, stride)]),
        graph.integers([BEFORE_START, BEFORE_START]),
        graph.integers([2, 3]),
        graph.integers([-stride, -stride]),
      ]);
      phases.push(
        graph.add('Conv', [gradient, taps], {
          kernel_shape: [vertical.taps, horizontal.taps],
          pads: [vertical.before, horizontal.before, vertical.after, horizontal.after],
        }),
      );
    }
  }
  const joined = graph.add('Concat', phases, { axis: 1 });
  return graph.add('DepthToSpace', [joined], { blocksize: stride, mode: 'DCR' });
}

/** Whether the stride divides the filter and what a transposed convolution writes covers the image. */
function scattersWhole({
  filterHeight,
  filterWidth,
  strideHeight,
  strideWidth,
  padInfo,
}: Conv2DInfo): boolean {
  return (
    filterHeight % strideHeight === 0 &&
    filterWidth % strideWidth === 0 &&
    padInfo.top <= filterHeight - strideHeight &&
    padInfo.left <= filterWidth - strideWidth
  );
}

/**
 * A transposed convolution by weights that change: one product for every block of stride × stride taps, each block laid
 * at its distance, their sum, and the blocks put in their places. NHWC.
 */
function inputGradientByScatter(call: KernelCall, info: Conv2DInfo): string {
  const { tracer, graph } = call;
  const { batchSize, outHeight, outWidth, inChannels, outChannels, padInfo } = info;
  const stride = info.strideHeight;
  const [down, across] = [info.filterHeight / stride, info.filterWidth / stride];
  const [height, width] = [outHeight + down - 1, outWidth + across - 1];
  const block = stride * stride * inChannels;
  const rows = graph.add('Reshape', [
    tracer.name(input(call, 'dy')),
    graph.dimensions([batchSize * outHeight * outWidth, outChannels]),
  ]);
  const weights = graph.add('Reshape', [
    tracer.name(input(call, 'filter'), FILTER_OHWI),
    graph.integers([outChannels, down, stride, across, stride * inChannels]),
  ]);
  const blocks = Array.from({ length: down * across }, (_, index) => {
    const [row, column] = [Math.floor(index / across), index % across];
    const taps = graph.add('Slice', [
      weights,
      graph.integers([row, column]),
      graph.integers([row + 1, column + 1]),
      graph.integers([1, 3]),
    ]);
    const product = graph.add('Gemm', [
      rows,
      graph.add('Reshape', [taps, graph.integers([outChannels, block])]),
    ]);
    return graph.add('Pad', [
      graph.add('Reshape', [product, graph.dimensions([batchSize, outHeight, outWidth, block])]),
      graph.integers([0, row, column, 0, 0, down - 1 - row, across - 1 - column, 0]),
      graph.scalar(0),
    ]);
  });
  const sum = graph.add('Reshape', [
    graph.add('Sum', blocks),
    graph.dimensions([batchSize, height, width, stride, stride * inChannels]),
  ]);
  const image = graph.add('Reshape', [
    graph.add('Transpose', [sum], { perm: [0, 1, 3, 2, 4] }),
    graph.dimensions([batchSize, height * stride, width * stride, inChannels]),
  ]);
  return graph.add('Slice', [
    image,
    graph.integers([padInfo.top, padInfo.left]),
    graph.integers([padInfo.top + info.inHeight, padInfo.left + info.inWidth]),
    graph.integers([1, 2]),
  ]);
}

function lastTap({ first, taps }: { first: number; taps: number }, stride: number): number {
  return first + (taps - 1) * stride;
}

/**
 * IOHW filters turned by 180°. A product with the reversed unit matrix does it: ONNX Runtime copies element by element
 * where an axis of a few elements is reversed or moved.
 */
function turned({ graph }: KernelCall, weights: string, info: Conv2DInfo): string {
  const { filterHeight, filterWidth, inChannels, outChannels } = info;
  const taps = filterHeight * filterWidth;
  const reversed = Float32Array.from({ length: taps * taps }, (_, index) =>
    (index % taps) + Math.floor(index / taps) === taps - 1 ? 1 : 0,
  );
  const rows = graph.add('Reshape', [weights, graph.integers([inChannels * outChannels, taps])]);
  const product = graph.add('Gemm', [rows, graph.constant(reversed, [taps, taps])]);
  return graph.add('Reshape', [
    product,
    graph.integers([inChannels, outChannels, filterHeight, filterWidth]),
  ]);
}

/** d(loss)/d(filter). */
function filterGradient(call: KernelCall): tf.TensorInfo {
  const { filterShape } = call.attrs as unknown as { filterShape: number[] };
  const info = convInfo(call, input(call, 'x').shape, filterShape);
  return info.inChannels <= FEW_CHANNELS
    ? filterGradientByConv(call, info, filterShape)
    : filterGradientByGemm(call, info, filterShape);
}

/** x as [C,N,H,W] convolved with dy as [O,N,H',W'] gives [C,O,kh,kw]: one wide product when C is small. */
function filterGradientByConv(call: KernelCall, info: Conv2DInfo, filterShape: number[]): tf.TensorInfo {
  const { tracer, graph } = call;
  const conv = graph.add(
    'Conv',
    [tracer.name(input(call, 'x'), CHANNELS_AS_BATCH), tracer.name(input(call, 'dy'), CHANNELS_AS_BATCH)],
    {
      kernel_shape: [info.outHeight, info.outWidth],
      dilations: [info.strideHeight, info.strideWidth],
      strides: [info.dilationHeight, info.dilationWidth],
      pads: padsOf(info),
    },
  );
  // A stride that does not divide the input leaves rows that belong to no filter tap.
  const name = graph.add('Slice', [
    conv,
    graph.integers([0, 0]),
    graph.integers([info.filterHeight, info.filterWidth]),
    graph.integers([2, 3]),
  ]);
  return tracer.result(name, filterShape, 'float32', { order: FILTER_IOHW });
}

/**
 * Matrix products of dy as [O, positions] and of what the filter meets there, [positions, C], one per tap. Where the stride
 * divides the filter, stride × stride taps that lie side by side share one product.
 */
function filterGradientByGemm(call: KernelCall, info: Conv2DInfo, filterShape: number[]): tf.TensorInfo {
  const { tracer, graph } = call;
  const { filterHeight, filterWidth, outChannels: out, inChannels: inner } = info;
  const rows = info.batchSize * info.outHeight * info.outWidth;
  const taps = filterHeight * filterWidth;
  const shape = graph.integers([out, inner, filterHeight, filterWidth]);
  const result = (name: string): tf.TensorInfo =>
    tracer.result(graph.add('Reshape', [name, shape]), filterShape, 'float32', { order: FILTER_OIHW });
  const gradient = graph.add('Reshape', [
    tracer.name(input(call, 'dy'), CHANNELS_AS_BATCH),
    graph.dimensions([out, rows]),
  ]);
  const product = (patch: string, channels: number): string =>
    graph.add('Gemm', [gradient, graph.add('Reshape', [patch, graph.dimensions([rows, channels])])]);

  if (tilesFilter(info)) {
    const block = info.strideHeight ** 2;
    const products = blockPatches(call, info).map((patch) => product(patch, block * inner));
    const stacked = graph.add('Reshape', [
      graph.add('Concat', products, { axis: 0 }),
      graph.integers([taps / block, out, block, inner]),
    ]);
    const byTap = graph.add('Transpose', [stacked], { perm: [0, 2, 1, 3] });
    return result(tapsLast(call, byTap, out * inner, tapsOfBlocks(info)));
  }
  const met = patches(call, info);
  if (taps === 1) return result(product(met[0] ?? '', inner));
  const inOrder = Array.from({ length: taps }, (_, tap) => tap);
  if (info.outHeight * info.outWidth * USUAL_BATCH < out) {
    // What is smaller is put into order: here the patches, and one product gives all taps.
    const all = tapsLast(call, graph.add('Concat', met, { axis: 0 }), rows * inner, inOrder);
    return result(product(all, inner * taps));
  }
  const products = met.map((patch) => product(patch, inner));
  return result(tapsLast(call, graph.add('Concat', products, { axis: 0 }), out * inner, inOrder));
}

/**
 * [taps, size] → [size, taps], with row `order[i]` going to column `i`. As a product, because ONNX Runtime would merge a
 * Transpose here with the Reshape behind it into a slow one.
 */
function tapsLast({ graph }: KernelCall, stacked: string, size: number, order: readonly number[]): string {
  const taps = order.length;
  const permutation = new Float32Array(taps * taps);
  order.forEach((row, column) => (permutation[row * taps + column] = 1));
  const rows = graph.add('Reshape', [stacked, graph.dimensions([taps, size])]);
  return graph.add('Gemm', [rows, graph.constant(permutation, [taps, taps])], { transA: 1 });
}

/** Whether the stride divides the filter, and with it what the filter passes over. */
function tilesFilter(info: Conv2DInfo): boolean {
  return (
    info.strideHeight > 1 &&
    info.strideHeight === info.strideWidth &&
    info.dilationHeight * info.dilationWidth === 1 &&
    info.filterHeight % info.strideHeight === 0 &&
    info.filterWidth % info.strideWidth === 0 &&
    covers(info)
  );
}

/** Whether the filter passes over the whole padded input, so that nothing is left over at its end. */
function covers(info: Conv2DInfo): boolean {
  const [, , bottom, right] = patchPads(info);
  const { strideHeight, strideWidth, padInfo } = info;
  return (
    padInfo.top + info.inHeight + bottom === (info.outHeight - 1) * strideHeight + info.filterHeight &&
    padInfo.left + info.inWidth + right === (info.outWidth - 1) * strideWidth + info.filterWidth
  );
}

/** For each tap of the filter (rows first), its place in the order of {@link blockPatches}: block, then tap within. */
function tapsOfBlocks({ filterHeight, filterWidth, strideHeight: stride }: Conv2DInfo): number[] {
  return Array.from({ length: filterHeight * filterWidth }, (_, tap) => {
    const [row, column] = [Math.floor(tap / filterWidth), tap % filterWidth];
    const block = Math.floor(row / stride) * (filterWidth / stride) + Math.floor(column / stride);
    return block * stride * stride + (row % stride) * stride + (column % stride);
  });
}

/** Paddings of the input as {@link patches} see it. */
function patchPads(info: Conv2DInfo): [top: number, left: number, bottom: number, right: number] {
  const { strideHeight, strideWidth, padInfo } = info;
  const height = (info.outHeight - 1) * strideHeight + info.effectiveFilterHeight;
  const width = (info.outWidth - 1) * strideWidth + info.effectiveFilterWidth;
  return [
    padInfo.top,
    padInfo.left,
    Math.max(0, height - info.inHeight - padInfo.top),
    Math.max(0, width - info.inWidth - padInfo.left),
  ];
}

/** The input NHWC, padded. */
function paddedInput(call: KernelCall, info: Conv2DInfo): string {
  const { graph } = call;
  const [top, left, bottom, right] = patchPads(info);
  const x = call.tracer.name(input(call, 'x'));
  if (top + left + bottom + right === 0) return x;
  const pads = graph.integers([0, top, left, 0, 0, bottom, right, 0]);
  return graph.add('Pad', [x, pads, graph.scalar(0)]);
}

/** What each block of stride × stride taps meets: the input with such blocks as channels, shifted. NHWC. */
function blockPatches(call: KernelCall, info: Conv2DInfo): string[] {
  const { graph } = call;
  const { batchSize, inChannels, outHeight, outWidth, strideHeight: stride } = info;
  const [down, across] = [info.filterHeight / stride, info.filterWidth / stride];
  const [height, width] = [outHeight + down - 1, outWidth + across - 1];
  const split = graph.add('Reshape', [
    paddedInput(call, info),
    graph.dimensions([batchSize, height, stride, width, stride * inChannels]),
  ]);
  const blocks = graph.add('Reshape', [
    graph.add('Transpose', [split], { perm: [0, 1, 3, 2, 4] }),
    graph.dimensions([batchSize, height, width, stride * stride * inChannels]),
  ]);
  return Array.from({ length: down * across }, (_, index) => {
    const [row, column] = [Math.floor(index / across), index % across];
    return graph.add('Slice', [
      blocks,
      graph.integers([row, column]),
      graph.integers([row + outHeight, column + outWidth]),
      graph.integers([1, 2]),
    ]);
  });
}

/** What each filter tap meets: the input NHWC, shifted and strided, of the output's height and width. */
function patches(call: KernelCall, info: Conv2DInfo): string[] {
  const { graph } = call;
  const { filterHeight, filterWidth, strideHeight, strideWidth } = info;
  const spanHeight = (info.outHeight - 1) * strideHeight;
  const spanWidth = (info.outWidth - 1) * strideWidth;
  const x = paddedInput(call, info);
  const whole = spanHeight + 1 === info.inHeight && spanWidth + 1 === info.inWidth;
  if (filterHeight * filterWidth === 1 && whole && strideHeight * strideWidth === 1) return [x];
  return Array.from({ length: filterHeight * filterWidth }, (_, tap) => {
    const top = Math.floor(tap / filterWidth) * info.dilationHeight;
    const left = (tap % filterWidth) * info.dilationWidth;
    return graph.add('Slice', [
      x,
      graph.integers([top, left]),
      graph.integers([top + spanHeight + 1, left + spanWidth + 1]),
      graph.integers([1, 2]),
      graph.integers([strideHeight, strideWidth]),
    ]);
  });
}

/** Filters [H,W,C,M] of a depthwise convolution as ONNX groups: [C·M,1,H,W]. */
function groupedFilter(call: KernelCall): string {
  const filter = input(call, 'filter');
  const [height = 1, width = 1, channels = 1, multiplier = 1] = filter.shape;
  return call.graph.add('Reshape', [
    call.tracer.name(filter, FILTER_IOHW),
    call.graph.integers([channels * multiplier, 1, height, width]),
  ]);
}

function depthwise(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const info = convInfo(call, x.shape, input(call, 'filter').shape, true);
  const name = graph.add('Conv', [tracer.name(x, CHANNELS_FIRST), groupedFilter(call)], {
    ...convAttributes(info),
    group: info.inChannels,
  });
  const y = tracer.result(name, info.outShape, 'float32', { order: CHANNELS_FIRST });
  const { bias } = call.inputs;
  return bias ? tracer.elementwise('Add', [y, bias], 'float32') : y;
}

function depthwiseInputGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const { inputShape } = call.attrs as unknown as { inputShape: number[] };
  const info = convInfo(call, inputShape, input(call, 'filter').shape, true);
  const operands = [tracer.name(input(call, 'dy'), CHANNELS_FIRST), groupedFilter(call)];
  const name = graph.add('ConvTranspose', operands, { ...backwards(info), group: info.inChannels });
  return tracer.result(name, inputShape, 'float32', { order: CHANNELS_FIRST });
}

/** Per filter tap, the products of the shifted input and dy, summed over images and positions. */
function depthwiseFilterGradient(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const { filterShape } = call.attrs as unknown as { filterShape: number[] };
  const info = convInfo(call, input(call, 'x').shape, filterShape, true);
  const [, , channels = 1, multiplier = 1] = filterShape;
  const rows = info.batchSize * info.outHeight * info.outWidth;
  const dy = graph.add('Reshape', [
    tracer.name(input(call, 'dy')),
    graph.dimensions([rows, channels, multiplier]),
  ]);
  const taps = patches(call, info).map((patch) => {
    const x = graph.add('Reshape', [patch, graph.dimensions([rows, channels, 1])]);
    return graph.add('ReduceSum', [graph.add('Mul', [x, dy]), graph.integers([0])], { keepdims: 1 });
  });
  const name = graph.add('Reshape', [graph.add('Concat', taps, { axis: 0 }), graph.integers(filterShape)]);
  return tracer.result(name, filterShape, 'float32');
}

/** Convolutions and their gradients. */
export const convolution: readonly KernelDefinition[] = [
  kernel('Conv2D', 'Conv', onImages(['x'], convolve)),
  kernel(
    'FusedConv2D',
    'Conv, activation',
    onImages(['x'], (call) => fusedActivation(call, convolve(call))),
  ),
  ...['Conv2DBackpropInput', 'DilatedConv2DBackpropInput'].map((name) =>
    kernel(name, 'Conv with turned filters (stride 1), ConvTranspose', onImages(['dy'], inputGradient)),
  ),
  ...['Conv2DBackpropFilter', 'DilatedConv2DBackpropFilter'].map((name) =>
    kernel(name, 'Pad, Slice, Gemm, Concat; Conv for few channels', onImages(['x', 'dy'], filterGradient)),
  ),
  kernel('DepthwiseConv2dNative', 'Conv (group)', depthwise),
  kernel('FusedDepthwiseConv2D', 'Conv (group), Add, activation', (call) =>
    fusedActivation(call, depthwise(call)),
  ),
  kernel('DepthwiseConv2dNativeBackpropInput', 'ConvTranspose (group)', depthwiseInputGradient),
  kernel(
    'DepthwiseConv2dNativeBackpropFilter',
    'Pad, Slice, Mul, ReduceSum, Concat',
    depthwiseFilterGradient,
  ),
];
