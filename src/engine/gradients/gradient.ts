import * as tf from '@tensorflow/tfjs-core';

/** The input of a gradient rule: the gradient of the output, the saved tensors and the op's attributes. */
export interface GradientCall {
  readonly dy: tf.Tensor;
  /** The gradients of all outputs, where a kernel has several. */
  readonly dys: readonly tf.Tensor[];
  /** Saved inputs by kernel input name, and `y` where the rule saves the output. */
  readonly saved: Readonly<Record<string, tf.Tensor>>;
  readonly attrs: Readonly<Record<string, unknown>>;
}

/** One row of the gradient table: d(loss)/d(input) for the named inputs of a kernel. */
export interface GradientRule {
  readonly kernel: string;
  readonly saves: readonly string[];
  readonly gradients: (call: GradientCall) => Record<string, () => tf.Tensor>;
}

/** Shorthand for a {@link GradientRule}; `saves` names kernel inputs, or `y` for the output. */
export function rule(
  kernel: string,
  saves: readonly string[],
  gradients: GradientRule['gradients'],
): GradientRule {
  return { kernel, saves, gradients };
}

/** A rule for an op with the single input `x`. */
export function ruleOfX(
  kernel: string,
  saves: readonly string[],
  dx: (call: GradientCall) => tf.Tensor,
): GradientRule {
  return rule(kernel, saves, (call) => ({ x: () => dx(call) }));
}

/** Registers rules with TensorFlow.js, over those that another package (its layers, say) has registered. */
export function registerGradients(rules: readonly GradientRule[]): void {
  for (const { kernel, saves, gradients } of rules) {
    const inputs = saves.filter((name) => name !== 'y');
    const savesOutput = saves.includes('y');
    tf.registerGradient({
      kernelName: kernel,
      inputsToSave: inputs,
      outputsToSave: savesOutput ? [true] : [],
      gradFunc: (dy, saved, attrs) => {
        const names = savesOutput ? [...inputs, 'y'] : inputs;
        const byName = Object.fromEntries(names.map((name, index) => [name, saved[index] as tf.Tensor]));
        const dys = Array.isArray(dy) ? dy : [dy];
        return gradients({ dy: dys[0] as tf.Tensor, dys, saved: byName, attrs });
      },
    });
  }
}

/** A saved tensor by name. */
export function saved(call: GradientCall, name: string): tf.Tensor {
  const tensor = call.saved[name];
  if (tensor) return tensor;
  throw new Error(`The gradient rule did not save "${name}".`);
}

/** Sums a gradient over the axes along which an operand of `shape` was broadcast. */
export function unbroadcast(gradient: tf.Tensor, shape: readonly number[]): tf.Tensor {
  // A tensor of its own: both operands of a sum get this gradient, and TensorFlow.js disposes of one that it adds up.
  if (gradient.shape.join() === shape.join()) return tf.clone(gradient);
  const missing = gradient.rank - shape.length;
  const axes = gradient.shape.flatMap((dim, axis) =>
    axis < missing || (shape[axis - missing] === 1 && dim !== 1) ? [axis] : [],
  );
  const summed = axes.length > 0 ? tf.sum(gradient, axes) : gradient;
  return tf.reshape(summed, [...shape]);
}

/** A reduced gradient spread over the axes that the reduction removed. */
export function spread(
  gradient: tf.Tensor,
  shape: readonly number[],
  axis: number | number[] | undefined,
): tf.Tensor {
  const axes = tf.util.parseAxisParam(axis ?? shape.map((_, index) => index), [...shape]);
  const kept = shape.map((dim, index) => (axes.includes(index) ? 1 : dim));
  const expanded = tf.reshape(gradient, kept);
  return kept.join() === shape.join()
    ? expanded
    : tf.tile(
        expanded,
        shape.map((dim, index) => dim / (kept[index] ?? 1)),
      );
}
