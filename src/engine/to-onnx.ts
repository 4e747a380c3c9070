import type * as tf from '@tensorflow/tfjs-core';
import { EngineError } from './errors.js';
import type { HostTensors } from './host-tensor.js';
import { activeTracer, dtypeOf } from './tracer.js';
import {
  traceToOnnx,
  type InputSpec,
  type TraceableFunction,
  type TracedModel,
  type TraceOptions,
} from './trace.js';

/** What is asked of a `LayersModel` of `@tensorflow/tfjs-layers`; the package itself is not needed here. */
export interface LayersModel {
  readonly inputs: readonly {
    readonly name: string;
    readonly shape: readonly (number | null)[];
    readonly dtype: string;
  }[];
  readonly outputNames: readonly string[];
  readonly weights: readonly { readonly name: string; read(): tf.Tensor }[];
  apply(inputs: tf.Tensor[], options: { training: boolean }): unknown;
}

/** Options of {@link toOnnx}: those of `traceToOnnx`, whose variables are always constants of the file. */
export type ExportOptions = Omit<TraceOptions, 'freeze'>;

/**
 * An ONNX file (opset 17) of a TensorFlow.js function or of a layers model, for other tools to read.
 *
 * The weights are constants of the file under their own names. A layers model is exported as it predicts (dropout off,
 * batch norm with its moving statistics), for every batch size; its inputs and outputs
 * keep their names and layout (images are NHWC). `inputs` is only needed where the model leaves a dimension open.
 *
 * Throws {@link EngineError} as `traceToOnnx` does, and `trace-failed` for an input whose shape is not known.
 */
export function toOnnx(
  fn: TraceableFunction,
  inputs: Readonly<Record<string, InputSpec>>,
  options?: ExportOptions,
): TracedModel;
export function toOnnx(
  model: LayersModel,
  inputs?: Readonly<Record<string, InputSpec>>,
  options?: Omit<ExportOptions, 'variables' | 'batch'>,
): TracedModel;
export function toOnnx(
  source: TraceableFunction | LayersModel,
  inputs: Readonly<Record<string, InputSpec>> = {},
  options: ExportOptions = {},
): TracedModel {
  if (typeof source === 'function') return traceToOnnx(source, inputs, { ...options, freeze: true });
  return traceToOnnx(predictionOf(source), inputsOf(source, inputs), {
    ...options,
    batch: 'symbolic',
    variables: weightsOf(source),
    freeze: true,
  });
}

/** The prediction as a function of inputs and weights. */
function predictionOf(model: LayersModel): TraceableFunction {
  return (inputs, variables) => {
    const tracer = activeTracer();
    // The layers read tensors of their own: within this trace those represent the variables of the graph.
    for (const weight of model.weights) {
      tracer.bind(weight.read().dataId, tracer.value(variables[weight.name] as tf.Tensor));
    }
    const given = model.inputs.map(({ name }) => inputs[name] as tf.Tensor);
    const results = [model.apply(given, { training: false })].flat() as tf.Tensor[];
    return Object.fromEntries(results.map((result, index) => [model.outputNames[index] ?? '', result]));
  };
}

function weightsOf(model: LayersModel): HostTensors {
  return Object.fromEntries(
    model.weights.map((weight) => {
      const tensor = weight.read();
      return [weight.name, { data: Float32Array.from(tensor.dataSync()), dims: tensor.shape }];
    }),
  );
}

function inputsOf(model: LayersModel, given: Readonly<Record<string, InputSpec>>): Record<string, InputSpec> {
  return Object.fromEntries(
    model.inputs.map(({ name, shape, dtype }) => [
      name,
      given[name] ?? { shape: knownShape(name, shape), dtype: dtypeOf({ dtype }) },
    ]),
  );
}

function knownShape(name: string, [, ...dims]: readonly (number | null)[]): number[] {
  return [
    1,
    ...dims.map((dim, index) => {
      if (dim !== null) return dim;
      throw new EngineError(
        'trace-failed',
        `Expected a known shape of the input "${name}", but axis ${String(index + 1)} is open: give its shape.`,
      );
    }),
  ];
}
