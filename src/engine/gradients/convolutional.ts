import * as tf from '@tensorflow/tfjs-core';
import { rule, ruleOfX, saved, type GradientCall, type GradientRule } from './gradient.js';

interface ConvAttributes {
  readonly strides: number | [number, number];
  readonly pad: number | 'valid' | 'same' | tf.backend_util.ExplicitPadding;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
  readonly dataFormat?: 'NHWC' | 'NCHW';
  readonly dilations?: number | [number, number];
}

interface PoolAttributes {
  readonly filterSize: number | [number, number];
  readonly strides: number | [number, number];
  readonly pad: 'valid' | 'same' | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function inputGradient(
  shape: number[],
  dy: tf.Tensor,
  filter: tf.Tensor,
  attrs: tf.NamedAttrMap,
  kernel = 'Conv2DBackpropInput',
): tf.Tensor {
  return tf.engine().runKernel(kernel, { dy, filter }, { ...attrs, inputShape: shape });
}

function filterGradient(
  x: tf.Tensor,
  dy: tf.Tensor,
  shape: number[],
  attrs: tf.NamedAttrMap,
  kernel = 'Conv2DBackpropFilter',
): tf.Tensor {
  return tf.engine().runKernel(kernel, { x, dy }, { ...attrs, filterShape: shape });
}

function shared(call: GradientCall): tf.NamedAttrMap {
  const { strides, pad, dataFormat, dimRoundingMode } = call.attrs as unknown as ConvAttributes;
  const attrs = {
    strides,
    pad,
    dataFormat: dataFormat ?? 'NHWC',
    ...(dimRoundingMode ? { dimRoundingMode } : {}),
  };
  return attrs;
}

/** Gradients of convolutions, pools and frozen batch normalisation. */
export const convolutionalGradients: readonly GradientRule[] = [
  rule('Conv2D', ['x', 'filter'], (call) => {
    const x = saved(call, 'x');
    const filter = saved(call, 'filter');
    const { dilations = 1 } = call.attrs as unknown as ConvAttributes;
    const dilated = [dilations].flat().some((dilation) => dilation > 1);
    const attrs = { ...shared(call), ...(dilated ? { dilations } : {}) };
    // TensorFlow.js' own backends ignore dilations in the gradient kernels: another name keeps them from being asked.
    const kernels = ['Conv2DBackpropInput', 'Conv2DBackpropFilter'].map((name) =>
      dilated ? `Dilated${name}` : name,
    );
    return {
      x: () => inputGradient(x.shape, call.dy, filter, attrs, kernels[0]),
      filter: () => filterGradient(x, call.dy, filter.shape, attrs, kernels[1]),
    };
  }),
  rule('Conv2DBackpropInput', ['dy', 'filter'], (call) => {
    const small = saved(call, 'dy');
    const filter = saved(call, 'filter');
    const attrs = shared(call);
    return {
      dy: () => tf.engine().runKernel('Conv2D', { x: call.dy, filter }, { ...attrs, dilations: 1 }),
      filter: () => filterGradient(call.dy, small, filter.shape, attrs),
    };
  }),
  rule('DepthwiseConv2dNative', ['x', 'filter'], (call) => {
    const x = saved(call, 'x');
    const filter = saved(call, 'filter');
    const { dilations = 1 } = call.attrs as unknown as ConvAttributes;
    const attrs = { ...shared(call), dilations };
    const kernel = 'DepthwiseConv2dNativeBackprop';
    return {
      x: () => inputGradient(x.shape, call.dy, filter, attrs, `${kernel}Input`),
      filter: () => filterGradient(x, call.dy, filter.shape, attrs, `${kernel}Filter`),
    };
  }),
  rule('MaxPool', ['x', 'y'], (call) => {
    const { filterSize, strides, pad, dimRoundingMode } = call.attrs as unknown as PoolAttributes;
    const attrs = { filterSize, strides, pad, ...(dimRoundingMode ? { dimRoundingMode } : {}) };
    return {
      x: () =>
        tf
          .engine()
          .runKernel(
            'MaxPoolGrad',
            { dy: call.dy, input: saved(call, 'x'), output: saved(call, 'y') },
            attrs,
          ),
    };
  }),
  ruleOfX('AvgPool', ['x'], (call) => {
    const { filterSize, strides, pad, dimRoundingMode } = call.attrs as unknown as PoolAttributes;
    const attrs = { filterSize, strides, pad, ...(dimRoundingMode ? { dimRoundingMode } : {}) };
    return tf.engine().runKernel('AvgPoolGrad', { dy: call.dy, input: saved(call, 'x') }, attrs);
  }),
  rule('FusedBatchNorm', ['x', 'mean', 'variance', 'scale'], (call) => {
    const x = saved(call, 'x');
    const mean = saved(call, 'mean');
    const axes = Array.from({ length: x.rank - mean.rank }, (_, axis) => axis);
    const inverse = tf.rsqrt(tf.add(saved(call, 'variance'), call.attrs['varianceEpsilon'] as number));
    const slope = tf.mul(saved(call, 'scale'), inverse);
    const centred = (): tf.Tensor => tf.sub(x, mean);
    return {
      x: () => tf.mul(call.dy, slope),
      mean: () => tf.neg(tf.mul(tf.sum(call.dy, axes), slope)),
      variance: () =>
        tf.mul(tf.sum(tf.mul(call.dy, centred()), axes), tf.mul(tf.mul(slope, tf.square(inverse)), -0.5)),
      scale: () => tf.mul(tf.sum(tf.mul(call.dy, centred()), axes), inverse),
      offset: () => tf.sum(call.dy, axes),
    };
  }),
];
