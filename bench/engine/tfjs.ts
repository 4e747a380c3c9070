import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { float32Of, loadTensorFlow, type HostTensors } from '../../src/engine/index.js';
import { foldBatchNorm } from '../../src/models/fold-batch-norm.js';
import { ForwardPass } from '../../src/models/index.js';
import { timed, type Contender, type Missing } from './contender.js';

/** Bias inside the convolution: the fastest that tfjs' backends offer. */
class FusedPass extends ForwardPass {
  override conv(name: string, x: tf.Tensor4D, stride: number, pad: 'same' | number): tf.Tensor4D {
    const bias = this.get(`${name}/bias`);
    const filter = this.get(`${name}/kernel`) as tf.Tensor4D;
    return tf.fused.conv2d({ x, filter, strides: stride, pad, bias });
  }
}

const MODES = {
  wasm: {
    name: 'tfjs-wasm',
    mode: 'eager, folded, SIMD',
    threads: '1: the WASM backend has no threads in Node',
  },
  tensorflow: { name: 'tfjs-node', mode: 'eager, folded', threads: 'all cores' },
} as const;

/** A network run eagerly by tfjs in this thread, on its WASM backend or on native TensorFlow (tfjs-node). */
export async function tfjs(
  backend: keyof typeof MODES,
  forward: (pass: ForwardPass, images: tf.Tensor4D) => tf.Tensor,
  parameters: HostTensors,
  images: HostTensors[string],
): Promise<Contender | Missing> {
  const { name, mode, threads } = MODES[backend];
  try {
    if (backend === 'tensorflow') await loadTensorFlow();
  } catch {
    return { name, missing: 'not installed: bash scripts/tensorflow-node.sh' };
  }
  await tf.setBackend(backend);
  const folded = foldBatchNorm(parameters, () => false);
  const tensors = Object.fromEntries(
    Object.entries(folded).map(([key, { dims }]) => [
      key,
      tf.tensor<tf.Rank>(float32Of(folded, key), [...dims]),
    ]),
  );
  const input = tf.tensor4d(images.data as Float32Array, images.dims as [number, number, number, number]);
  const run = async (): Promise<void> => {
    await tf.setBackend(backend);
    const y = tf.tidy(() => forward(new FusedPass(tensors, false), input));
    await y.data();
    y.dispose();
  };
  await run();
  return {
    name,
    mode,
    details: { tfjs: tf.version_core, threads },
    run: (times) => timed(times, run),
    async dispose() {
      tf.dispose([input, tensors]);
    },
  };
}
