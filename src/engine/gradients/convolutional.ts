import * as tf from '@tensorflow/tfjs-core';
import { rule, ruleOfX, saved, type GradientRule } from './gradient.js';

interface ConvAttributes {
  readonly strides: number | [number, number];
  readonly pad: number | 'valid' | 'same' | tf.backend_util.ExplicitPadding;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

interface PoolAttributes {
  readonly filterSize: number | [number, number];
  readonly strides: number | [number, number];
  readonly pad: 'valid' | 'same' | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function inputGradient(shape: number[], dy: tf.Tensor, filter: tf.Tensor, attrs: ConvAttributes): tf.Tensor {
  return tf.engine().runKernel('Conv2DBackpropInput', { dy, filter }, {
    ...attrs,
    dataFormat: 'NHWC',
    inputShape: shape,
  } as unknown as tf.NamedAttrMap);
}

function filterGradient(x: tf.Tensor, dy: tf.Tensor, shape: number[], attrs: ConvAttributes): tf.Tensor {
  return tf.engine().runKernel('Conv2DBackpropFilter', { x, dy }, {
    ...attrs,
    dataFormat: 'NHWC',
    filterShape: shape,
  } as unknown as tf.NamedAttrMap);
}

function shared({ strides, pad, dimRoundingMode }: ConvAttributes): ConvAttributes {
  return dimRoundingMode ? { strides, pad, dimRoundingMode } : { strides, pad };
}

/** Gradients of convolutions, pools and frozen batch normalisation. */
export const convolutionalGradients: readonly GradientRule[] = [
  rule('Conv2D', ['x', 'filter'], (call) => {
    const x = saved(call, 'x');
    const filter = saved(call, 'filter');
    const attrs = shared(call.attrs as unknown as ConvAttributes);
    return {
      x: () => inputGradient(x.shape, call.dy, filter, attrs),
      filter: () => filterGradient(x, call.dy, filter.shape, attrs),
    };
  }),
  rule('Conv2DBackpropInput', ['dy', 'filter'], (call) => {
    const small = saved(call, 'dy');
    const filter = saved(call, 'filter');
    const attrs = shared(call.attrs as unknown as ConvAttributes);
    return {
      dy: () =>
        tf.engine().runKernel('Conv2D', { x: call.dy, filter }, {
          ...attrs,
          dataFormat: 'NHWC',
          dilations: 1,
        } as unknown as tf.NamedAttrMap),
      filter: () => filterGradient(call.dy, small, filter.shape, attrs),
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
            attrs as unknown as tf.NamedAttrMap,
          ),
    };
  }),
  ruleOfX('AvgPool', ['x'], (call) => {
    const { filterSize, strides, pad } = call.attrs as unknown as PoolAttributes;
    return tf.engine().runKernel('AvgPoolGrad', { dy: call.dy, input: saved(call, 'x') }, {
      filterSize,
      strides,
      pad,
    } as unknown as tf.NamedAttrMap);
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
