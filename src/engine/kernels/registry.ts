import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '../errors.js';
import type { Graph } from '../graph.js';
import { activeTracer, TRACE_BACKEND, type Tracer } from '../tracer.js';

/** The input of a kernel: its TensorFlow.js inputs and attributes, and the graph to append to. */
export interface KernelCall {
  readonly inputs: Readonly<Record<string, tf.TensorInfo | undefined>>;
  readonly attrs: Readonly<Record<string, unknown>>;
  readonly tracer: Tracer;
  readonly graph: Graph;
}

/** One row of the operator table: a TensorFlow.js kernel and the ONNX nodes it becomes. */
export interface KernelDefinition {
  /** TensorFlow.js kernel name, e.g. `FusedBatchNorm`. */
  readonly kernel: string;
  /** The ONNX operators it becomes, for the documentation. */
  readonly onnx: string;
  readonly trace: (call: KernelCall) => tf.TensorInfo | tf.TensorInfo[];
}

/** Shorthand for a {@link KernelDefinition}. */
export function kernel(name: string, onnx: string, trace: KernelDefinition['trace']): KernelDefinition {
  return { kernel: name, onnx, trace };
}

/** Registers kernels with TensorFlow.js for the tracing backend. */
export function registerKernels(definitions: readonly KernelDefinition[]): void {
  for (const { kernel: kernelName, trace } of definitions) {
    tf.registerKernel({
      kernelName,
      backendName: TRACE_BACKEND,
      kernelFunc: ({ inputs, attrs }) => {
        const tracer = activeTracer();
        return trace({ inputs, attrs: attrs ?? {}, tracer, graph: tracer.graph });
      },
    });
  }
}

/** A required input of a kernel call. */
export function input(call: KernelCall, name: string): tf.TensorInfo {
  const info = call.inputs[name];
  if (info) return info;
  throw new EngineError('trace-failed', `Expected a tensor for the kernel input "${name}".`);
}

/** All inputs of a kernel call that takes a list. */
export function inputList(call: KernelCall): tf.TensorInfo[] {
  return Object.values(call.inputs).filter((info): info is tf.TensorInfo => info !== undefined);
}
