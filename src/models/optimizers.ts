import * as tf from '@tensorflow/tfjs-core';
import { NEXT, type HostTensors, type TensorMap } from '../engine/index.js';
import { filled } from './random.js';

/** Stochastic gradient descent with momentum; weight decay is added to the gradient (as PyTorch's SGD). */
export interface SgdOptions {
  readonly kind: 'sgd';
  /** 0.9 unless given. */
  readonly momentum?: number;
  /** Looks one step ahead (Nesterov 1983, in the form of Sutskever et al. 2013 and of PyTorch). False unless given. */
  readonly nesterov?: boolean;
  /** Of kernels only, not of biases, gamma or beta; 0 unless given. */
  readonly weightDecay?: number;
}

/** Adam (Kingma and Ba 2015); weight decay is decoupled (Loshchilov and Hutter 2019). */
export interface AdamOptions {
  readonly kind: 'adam';
  /** 0.9 unless given. */
  readonly beta1?: number;
  /** 0.999 unless given. */
  readonly beta2?: number;
  /** 1e-8 unless given. */
  readonly epsilon?: number;
  /** Of kernels only; 0 unless given. */
  readonly weightDecay?: number;
}

/**
 * RMSProp (Hinton, Neural Networks for Machine Learning, lecture 6e, 2012), not centred, with the formula of
 * `tf.train.rmsprop`: epsilon is under the root, and the momentum accumulates steps that are scaled by the learning rate.
 */
export interface RmspropOptions {
  readonly kind: 'rmsprop';
  /** 0.9 unless given. */
  readonly decay?: number;
  /** 0 unless given. */
  readonly momentum?: number;
  /** 1e-7 unless given. */
  readonly epsilon?: number;
}

/** Which optimiser a training step contains. The learning rate is an input of the step. */
export type OptimizerOptions = SgdOptions | AdamOptions | RmspropOptions;

type MomentKind = 'momentum' | 'm' | 'v' | 'square';

const MOMENTS: Readonly<Record<OptimizerOptions['kind'], readonly MomentKind[]>> = {
  sgd: ['momentum'],
  adam: ['m', 'v'],
  rmsprop: ['square', 'momentum'],
};

/** Moments that start at zero for the parameters an optimiser will train, by state name. */
export function zeroMoments(
  options: OptimizerOptions,
  parameters: HostTensors,
  trained: readonly string[],
  scope: string,
): HostTensors {
  const moments: HostTensors = {};
  for (const name of trained) {
    for (const kind of MOMENTS[options.kind])
      moments[momentName(kind, name)] = filled(parameters[name]?.dims ?? [], 0);
  }
  if (options.kind === 'adam') moments[counterName(scope)] = filled([], 0);
  return moments;
}

/** One update of every parameter that has a gradient: next parameters and next moments, by state name with `next/`. */
export function optimize(
  options: OptimizerOptions,
  state: TensorMap,
  gradients: TensorMap,
  learningRate: tf.Tensor,
  scope: string,
): TensorMap {
  if (options.kind === 'sgd') return sgd(options, state, gradients, learningRate);
  if (options.kind === 'rmsprop') return rmsprop(options, state, gradients, learningRate);
  return adam(options, state, gradients, learningRate, scope);
}

function sgd(
  { momentum = 0.9, nesterov = false, weightDecay = 0 }: SgdOptions,
  state: TensorMap,
  gradients: TensorMap,
  rate: tf.Tensor,
): TensorMap {
  const next: TensorMap = {};
  for (const [name, gradient] of Object.entries(gradients)) {
    const parameter = of(state, name);
    const pulled =
      decays(name) && weightDecay > 0 ? tf.add(gradient, tf.mul(parameter, weightDecay)) : gradient;
    const velocity = tf.add(tf.mul(of(state, momentName('momentum', name)), momentum), pulled);
    next[NEXT + momentName('momentum', name)] = velocity;
    const step = nesterov ? tf.add(pulled, tf.mul(velocity, momentum)) : velocity;
    next[NEXT + name] = tf.sub(parameter, tf.mul(step, rate));
  }
  return next;
}

function adam(
  options: AdamOptions,
  state: TensorMap,
  gradients: TensorMap,
  rate: tf.Tensor,
  scope: string,
): TensorMap {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0 } = options;
  const count = tf.add(of(state, counterName(scope)), 1);
  const next: TensorMap = { [NEXT + counterName(scope)]: count };
  const unbias1 = tf.sub(1, tf.pow(beta1, count));
  const unbias2 = tf.sqrt(tf.sub(1, tf.pow(beta2, count)));
  const stepSize = tf.div(rate, unbias1);
  for (const [name, gradient] of Object.entries(gradients)) {
    const parameter = of(state, name);
    const m = tf.add(tf.mul(of(state, momentName('m', name)), beta1), tf.mul(gradient, 1 - beta1));
    const v = tf.add(tf.mul(of(state, momentName('v', name)), beta2), tf.mul(tf.square(gradient), 1 - beta2));
    next[NEXT + momentName('m', name)] = m;
    next[NEXT + momentName('v', name)] = v;
    const change = tf.mul(tf.div(m, tf.add(tf.div(tf.sqrt(v), unbias2), epsilon)), stepSize);
    const kept =
      decays(name) && weightDecay > 0 ? tf.mul(parameter, tf.sub(1, tf.mul(rate, weightDecay))) : parameter;
    next[NEXT + name] = tf.sub(kept, change);
  }
  return next;
}

function rmsprop(
  options: RmspropOptions,
  state: TensorMap,
  gradients: TensorMap,
  rate: tf.Tensor,
): TensorMap {
  const { decay = 0.9, momentum = 0, epsilon = 1e-7 } = options;
  const next: TensorMap = {};
  for (const [name, gradient] of Object.entries(gradients)) {
    const square = tf.add(
      tf.mul(of(state, momentName('square', name)), decay),
      tf.mul(tf.square(gradient), 1 - decay),
    );
    const step = tf.div(tf.mul(gradient, rate), tf.sqrt(tf.add(square, epsilon)));
    const velocity = tf.add(tf.mul(of(state, momentName('momentum', name)), momentum), step);
    next[NEXT + momentName('square', name)] = square;
    next[NEXT + momentName('momentum', name)] = velocity;
    next[NEXT + name] = tf.sub(of(state, name), velocity);
  }
  return next;
}

/** Whether a state name belongs to an optimiser rather than to a model. */
export function isMoment(name: string): boolean {
  return name.startsWith('optimizer/');
}

function momentName(kind: MomentKind, parameter: string): string {
  return `optimizer/${kind}/${parameter}`;
}

function counterName(scope: string): string {
  return `optimizer/${scope}/steps`;
}

function decays(name: string): boolean {
  return name.endsWith('/kernel');
}

function of(state: TensorMap, name: string): tf.Tensor {
  const tensor = state[name];
  if (tensor) return tensor;
  throw new Error(`Expected a state tensor "${name}".`);
}
