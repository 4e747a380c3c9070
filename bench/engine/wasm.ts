import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { float32Of, type HostTensors } from '../../src/engine/index.js';
import { foldBatchNorm } from '../../src/models/fold-batch-norm.js';
import { ForwardPass } from '../../src/models/index.js';
import { timed, type Contender } from './contender.js';

/** Bias inside the convolution: the fastest that the WASM backend offers. */
class FusedPass extends ForwardPass {
  override conv(name: string, x: tf.Tensor4D, stride: number, pad: 'same' | number): tf.Tensor4D {
    const bias = this.get(`${name}/bias`);
    const filter = this.get(`${name}/kernel`) as tf.Tensor4D;
    return tf.fused.conv2d({ x, filter, strides: stride, pad, bias });
  }
}

/** A network run eagerly by tfjs on its WASM backend, in this thread. */
export async function wasm(
  forward: (pass: ForwardPass, images: tf.Tensor4D) => tf.Tensor,
  parameters: HostTensors,
  images: HostTensors[string],
): Promise<Contender> {
  await tf.setBackend('wasm');
  const folded = foldBatchNorm(parameters, () => false);
  const tensors = Object.fromEntries(
    Object.entries(folded).map(([name, { dims }]) => [
      name,
      tf.tensor<tf.Rank>(float32Of(folded, name), [...dims]),
    ]),
  );
  const input = tf.tensor4d(images.data as Float32Array, images.dims as [number, number, number, number]);
  const run = async (): Promise<void> => {
    await tf.setBackend('wasm');
    const y = tf.tidy(() => forward(new FusedPass(tensors, false), input));
    await y.data();
    y.dispose();
  };
  await run();
  return {
    name: 'tfjs-wasm',
    mode: 'eager, folded, SIMD',
    details: { tfjs: tf.version_core, threads: '1: the WASM backend has no threads in Node' },
    run: (times) => timed(times, run),
    async dispose() {
      tf.dispose([input, tensors]);
    },
  };
}
