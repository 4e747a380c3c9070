import * as tf from '@tensorflow/tfjs-core';
import { makeBatchSymbolic, TRACE_BATCHES } from './symbolic-batch.js';
import { EngineError } from './errors.js';
import { Graph, type TensorInfo } from './graph.js';
import { permute, type EngineDataType, type HostTensors } from './host-tensor.js';
import { registerAllGradients } from './gradients/index.js';
import { KERNEL_GROUPS } from './kernels/index.js';
import { registerKernels } from './kernels/registry.js';
import { FILTER_OIHW, identityOrder, isIdentity, pick, type AxisOrder } from './layout.js';
import { missingKernel } from './missing-kernel.js';
import { LAYOUT_KEY, writeOnnx, type WeightStorage } from './onnx.js';
import { NEXT } from './state-names.js';
import { TRACE_BACKEND, TracedValue, Tracer, withTracer } from './tracer.js';
import { registerTracingBackend } from './tracing-backend.js';

/** Shape and element type (float32 unless given) of an input; with a symbolic batch the first dimension is ignored. */
export interface InputSpec {
  readonly shape: readonly number[];
  readonly dtype?: EngineDataType;
}

/** Tensors by name, as a traced function takes and returns them. */
export type TensorMap = Record<string, tf.Tensor>;

/** A function that can be traced: inputs and variables by name in, outputs by name out. Pure and without randomness. */
export type TraceableFunction = (inputs: TensorMap, variables: TensorMap) => TensorMap;

/** Options of {@link traceToOnnx}. */
export interface TraceOptions {
  /** Parameters by name, in TensorFlow's axis order. */
  readonly variables?: HostTensors;
  /** True: variables become constants of the file, readable back by name. False: they are graph inputs. */
  readonly freeze?: boolean;
  /** `symbolic`: one graph for every batch size; the first dimension of every input of rank ≥ 1 is the batch. */
  readonly batch?: 'symbolic';
  /** Inputs without a batch dimension although their rank is ≥ 1. */
  readonly unbatched?: readonly string[];
  /** The precision of matrices and filters in the file; `single` unless given. */
  readonly storage?: WeightStorage;
  /** Written into the file's metadata. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** An ONNX file and its interface. */
export interface TracedModel {
  readonly bytes: Uint8Array;
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
}

/**
 * Compiles a TensorFlow.js function to ONNX (opset 17).
 *
 * Throws {@link EngineError}: `missing-kernel` when an op has no traced kernel, `symbolic-read` when the function looks
 * at elements, `random-in-trace` for tf.random*, `frozen-batch` when a symbolic batch would be frozen into a constant.
 */
export function traceToOnnx(
  fn: TraceableFunction,
  inputs: Readonly<Record<string, InputSpec>>,
  options: TraceOptions = {},
): TracedModel {
  const graph = traceToGraph(fn, inputs, options);
  Object.assign(graph.metadata, options.metadata);
  return { bytes: writeOnnx(graph, options.storage), inputs: graph.inputs, outputs: graph.outputs };
}

/** Like {@link traceToOnnx}, but returns the graph, to be joined with others before it is written. */
export function traceToGraph(
  fn: TraceableFunction,
  inputs: Readonly<Record<string, InputSpec>>,
  options: TraceOptions & { readonly prefix?: string } = {},
): Graph {
  if (options.batch !== 'symbolic') return traceOnce(fn, inputs, options);
  const [first, second] = TRACE_BATCHES.map((batch) => {
    const sized = Object.entries(inputs).map(([name, spec]): [string, InputSpec] => {
      const plain = spec.shape.length === 0 || options.unbatched?.includes(name) === true;
      return [name, plain ? spec : { ...spec, shape: [batch, ...spec.shape.slice(1)] }];
    });
    return traceOnce(fn, Object.fromEntries(sized), options);
  });
  if (!first || !second) throw new EngineError('trace-failed', 'A symbolic trace needs two traces.');
  return makeBatchSymbolic(first, second);
}

/** The axis order of a variable in a file or in a state store: filters are stored as convolutions read them. */
export function storedOrder(dims: readonly number[]): AxisOrder {
  return dims.length === 4 ? FILTER_OIHW : identityOrder(dims.length);
}

function traceOnce(
  fn: TraceableFunction,
  inputs: Readonly<Record<string, InputSpec>>,
  { variables = {}, freeze = false, prefix = '' }: TraceOptions & { readonly prefix?: string },
): Graph {
  setUp();
  const graph = new Graph(prefix);
  const tracer = new Tracer(graph);
  const previous = tf.getBackend() as string | undefined;
  const { stackTraceLimit } = Error;
  // The caller of a failing op is behind a dozen stack frames of TensorFlow.js.
  Error.stackTraceLimit = 50;
  return withTracer(tracer, () => {
    const layouts: Record<string, AxisOrder> = {};
    const tensors: TensorMap = {};
    void tf.setBackend(TRACE_BACKEND);
    tf.engine().startScope('rxray-trace');
    try {
      for (const [name, spec] of Object.entries(inputs)) {
        const dtype = spec.dtype ?? 'float32';
        graph.inputs.push({ name, dtype, dims: [...spec.shape] });
        tensors[name] = symbolic(tracer, new TracedValue(name, spec.shape, dtype));
      }
      const parameters: TensorMap = {};
      for (const [name, tensor] of Object.entries(variables)) {
        const order = storedOrder(tensor.dims);
        const held = pick(tensor.dims, order);
        if (!isIdentity(order)) layouts[name] = order;
        if (freeze)
          graph.constant(
            isIdentity(order) ? tensor.data : permute(tensor.data, tensor.dims, order),
            held,
            name,
          );
        else graph.inputs.push({ name, dtype: 'float32', dims: held });
        parameters[name] = symbolic(tracer, new TracedValue(name, tensor.dims, 'float32', order));
      }
      const results = fn(tensors, parameters);
      for (const [name, tensor] of Object.entries(results)) {
        if (name in tensors || name in parameters) {
          throw new EngineError('trace-failed', `The output "${name}" has the name of an input or variable.`);
        }
        const target = name.startsWith(NEXT)
          ? (variables[name.slice(NEXT.length)]?.dims ?? tensor.shape)
          : undefined;
        const order = target ? storedOrder(target) : identityOrder(tensor.rank);
        const value = tracer.name(tensor, order);
        graph.nodes.push({ type: 'Identity', inputs: [value], outputs: [name], attributes: {} });
        graph.outputs.push({ name, dtype: tracer.value(tensor).dtype, dims: pick(tensor.shape, order) });
      }
    } catch (error) {
      throw explain(error);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
      tf.engine().endScope();
      if (previous !== undefined && previous !== TRACE_BACKEND) void tf.setBackend(previous);
    }
    graph.prune();
    graph.nameOutputs();
    graph.metadata[LAYOUT_KEY] = JSON.stringify(layouts);
    return graph;
  });
}

function symbolic(tracer: Tracer, value: TracedValue): tf.Tensor {
  const dataId = {};
  tracer.bind(dataId, value);
  const dtype = value.dtype === 'int64' ? 'int32' : value.dtype;
  return tf
    .engine()
    .makeTensorFromTensorInfo({ dataId, shape: [...value.shape], dtype }, tf.engine().backend);
}

function explain(error: unknown): unknown {
  if (error instanceof EngineError || !(error instanceof Error)) return error;
  return (
    missingKernel(error) ??
    new EngineError('trace-failed', `The function could not be traced: ${error.message}`, { cause: error })
  );
}

let ready = false;

/** Registers the tracing backend, its kernels and the gradients with TensorFlow.js; safe to call again. */
export function setUp(): void {
  // Each time: TensorFlow.js' layers replace these rules by their own when they are loaded.
  registerAllGradients();
  if (ready) return;
  registerTracingBackend();
  for (const group of Object.values(KERNEL_GROUPS)) registerKernels(group);
  ready = true;
}
