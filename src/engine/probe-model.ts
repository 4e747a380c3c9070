import * as tf from '@tensorflow/tfjs-core';
import { sizeOf, type HostTensor, type HostTensors } from './host-tensor.js';
import { traceToOnnx } from './trace.js';

/** What {@link probeModel} is run on. */
export function probeInput(): HostTensor {
  return ramp([2, 8, 8, 4]);
}

/** A small network with one op of each kind that matters, for comparing a device with the CPU. */
export function probeModel(): Uint8Array {
  const variables: HostTensors = { kernel: ramp([3, 3, 4, 8]), dense: ramp([8, 4]) };
  return traceToOnnx(
    ({ x }, { kernel, dense }) => {
      const features = tf.relu(tf.conv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, 2, 'same'));
      return { y: tf.softmax(tf.matMul(tf.mean(features, [1, 2]), dense as tf.Tensor2D)) };
    },
    { x: { shape: [1, 8, 8, 4] } },
    { variables, freeze: true, batch: 'symbolic' },
  ).bytes;
}

function ramp(dims: readonly number[]): HostTensor {
  return { dims, data: Float32Array.from({ length: sizeOf(dims) }, (_, index) => Math.sin(index * 0.7) / 4) };
}
