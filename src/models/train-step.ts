import * as tf from '@tensorflow/tfjs-core';
import { NEXT, traceToOnnx, type HostTensors, type InputSpec, type TensorMap } from '../engine/index.js';
import { isMoment } from './optimizers.js';

/** A training, evaluation or sampling step as an ONNX file whose parameters are in a state store. */
export interface TrainStep {
  /** The file to load with `engine.load(bytes, { state })`. */
  readonly bytes: Uint8Array;
  /** Names of the tensors that the step reads from the store. */
  readonly stateNames: readonly string[];
  /** The step itself: feeds and state in, reports and `next/…` state out. Runs eagerly on any TensorFlow.js backend. */
  readonly compute: (feeds: TensorMap, state: TensorMap) => TensorMap;
  /** What the store must hold before the first step: the parameters and moments at zero. */
  initialState(parameters: HostTensors): HostTensors;
  /** The model's part of a state: without moments. */
  parametersOf(state: HostTensors): HostTensors;
}

interface StepParts {
  readonly parameters: HostTensors;
  readonly moments: HostTensors;
  readonly inputs: Readonly<Record<string, InputSpec>>;
  readonly symbolic: boolean;
  readonly metadata: Readonly<Record<string, string>>;
  readonly step: (inputs: TensorMap, state: TensorMap) => TensorMap;
}

/** Traces a step function. Only shapes of `parameters` and `moments` are read. */
export function makeTrainStep({
  parameters,
  moments,
  inputs,
  symbolic,
  metadata,
  step,
}: StepParts): TrainStep {
  const model = traceToOnnx(step, inputs, {
    variables: { ...parameters, ...moments },
    metadata,
    ...(symbolic ? { batch: 'symbolic' } : {}),
  });
  return {
    bytes: model.bytes,
    stateNames: [...Object.keys(parameters), ...Object.keys(moments)],
    compute: step,
    initialState: (given) => ({ ...given, ...moments }),
    parametersOf,
  };
}

/** What {@link differentiate} returns: the loss, what the function gave besides, and the gradients by the parameters' names. */
export interface Differentiated {
  readonly loss: tf.Scalar;
  readonly outputs: TensorMap;
  readonly gradients: TensorMap;
}

/**
 * The gradients of a loss by the `trained` parameters of a state. `lossOf` gets the state with this step's variables in it;
 * its `outputs` outlive the clean-up at the end of tf.valueAndGrads.
 */
export function differentiate(
  trained: readonly string[],
  state: TensorMap,
  lossOf: (parameters: TensorMap) => { readonly loss: tf.Scalar; readonly outputs: TensorMap },
): Differentiated {
  const kept: TensorMap = {};
  const { value, grads } = tf.valueAndGrads((...values: tf.Tensor[]): tf.Scalar => {
    const variables = Object.fromEntries(trained.map((name, i) => [name, values[i] as tf.Tensor]));
    const { loss, outputs } = lossOf({ ...state, ...variables });
    for (const [name, tensor] of Object.entries(outputs)) kept[name] = tf.keep(tensor);
    return loss;
  })(trained.map((name) => state[name] as tf.Tensor));
  const gradients = Object.fromEntries(trained.map((name, i) => [name, grads[i] as tf.Tensor]));
  return { loss: value, outputs: kept, gradients };
}

/** Marks tensors as the next values of the state tensors of the same names. */
export function asNext(tensors: TensorMap): TensorMap {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [NEXT + name, tensor]));
}

function parametersOf(state: HostTensors): HostTensors {
  return Object.fromEntries(Object.entries(state).filter(([name]) => !isMoment(name)));
}
