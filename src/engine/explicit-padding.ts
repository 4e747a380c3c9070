import * as tf from '@tensorflow/tfjs-core';

/** The padding value: 0 for a convolution, −∞ for a maximum. */
const PADDING_VALUES = { Conv2D: 0, FusedConv2D: 0, MaxPool: -3.4028235e38 } as const;

/**
 * Lets a backend that supports only `same` and `valid` take padding as a number of pixels, as TensorFlow.js defines it and
 * ResNet uses it. tfjs-node 4.22 throws "TF Backend supports only 'valid' and 'same' padding" otherwise. The input is padded
 * first, NHWC, and the backend's own kernel runs with `valid`. A second call does nothing.
 */
export function allowExplicitPadding(backendName: string): void {
  for (const [kernelName, constantValue] of Object.entries(PADDING_VALUES)) {
    // The declared return type leaves out that there may be none.
    const own = tf.getKernel(kernelName, backendName) as tf.KernelConfig | undefined;
    if (own === undefined || PADS.has(own.kernelFunc)) continue;
    const kernelFunc: tf.KernelFunc = (call) => {
      const { inputs, attrs, backend } = call;
      const pad = attrs?.pad;
      if (typeof pad !== 'number') return own.kernelFunc(call);
      const x = tf.pad4d(
        inputs.x as tf.Tensor4D,
        [
          [0, 0],
          [pad, pad],
          [pad, pad],
          [0, 0],
        ],
        constantValue,
      );
      const out = own.kernelFunc({ inputs: { ...inputs, x }, attrs: { ...attrs, pad: 'valid' }, backend });
      x.dispose();
      return out;
    };
    PADS.add(kernelFunc);
    tf.unregisterKernel(kernelName, backendName);
    tf.registerKernel({ ...own, kernelFunc });
  }
}

const PADS = new WeakSet<tf.KernelFunc>();
