import type * as tf from '@tensorflow/tfjs-core';
import { sizeOf, traceToGraph, type HostTensors, type TensorMap } from '../../src/engine/index.js';
import { ForwardPass } from '../../src/models/index.js';

/** Counts what convolutions and dense layers take: a multiplication and an addition are two operations. */
class CountingPass extends ForwardPass {
  flops = 0;

  override conv(name: string, x: tf.Tensor4D, stride: number, pad: 'same' | number): tf.Tensor4D {
    const y = super.conv(name, x, stride, pad);
    const channelsOut = y.shape[3];
    this.flops += (2 * y.size * this.get(`${name}/kernel`).size) / channelsOut;
    return y;
  }

  override convTranspose(name: string, x: tf.Tensor4D, stride: number): tf.Tensor4D {
    const channelsIn = x.shape[3];
    this.flops += (2 * x.size * this.get(`${name}/kernel`).size) / channelsIn;
    return super.convTranspose(name, x, stride);
  }

  override dense(name: string, x: tf.Tensor2D): tf.Tensor2D {
    this.flops += 2 * x.shape[0] * this.get(`${name}/kernel`).size;
    return super.dense(name, x);
  }
}

/**
 * Floating-point operations of one pass forward over inputs of these shapes. A pass backward takes twice as many with the
 * gradients of the weights, once as many without.
 */
export function countFlops(
  forward: (pass: ForwardPass, inputs: TensorMap) => tf.Tensor,
  shapes: Readonly<Record<string, readonly number[]>>,
  parameters: HostTensors,
): number {
  let flops = 0;
  traceToGraph(
    (inputs, variables) => {
      const pass = new CountingPass(variables, false);
      const y = forward(pass, inputs);
      flops = pass.flops;
      return { y };
    },
    Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { shape }])),
    { variables: parameters },
  );
  return flops;
}

/** Trained values: what PyTorch counts as parameters. */
export function trainedSize(parameters: HostTensors): number {
  return Object.entries(parameters)
    .filter(([name]) => !name.includes('/moving'))
    .reduce((sum, [, { dims }]) => sum + sizeOf(dims), 0);
}
