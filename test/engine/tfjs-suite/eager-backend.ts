import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs-core';
import type * as ort from 'onnxruntime-node';
import { Graph } from '../../../src/engine/graph.js';
import type { EngineDataType, HostData } from '../../../src/engine/host-tensor.js';
import { KERNEL_GROUPS } from '../../../src/engine/kernels/index.js';
import { writeOnnx } from '../../../src/engine/onnx.js';
import { dtypeOf, hostValue, TracedValue, Tracer, withTracer } from '../../../src/engine/tracer.js';

/** Name of the backend that {@link registerEagerBackend} registers. */
export const EAGER_BACKEND = 'rxray-eager';
/** How a trace meets values that are there already: as inputs of its graph or as constants in it. */
export type Known = 'inputs' | 'constants';
/** A trace that has grown to this many nodes is left behind at the next read. */
const LONGEST_TRACE = 200;

/** One graph under construction, and what its inputs hold. */
class Trace {
  readonly graph = new Graph();
  readonly tracer = new Tracer(this.graph);
  readonly feeds = new Map<string, { dtype: EngineDataType; values: HostData; dims: readonly number[] }>();
}

/** A tensor of the backend: its elements, or the trace that will compute them. */
interface Entry {
  readonly shape: readonly number[];
  readonly dtype: tf.DataType;
  values?: tf.BackendValues;
  trace?: Trace;
  references: number;
}

/**
 * The engine's kernels as an ordinary, eager TensorFlow.js backend: kernel calls are traced, and reading a tensor
 * compiles what leads to it and runs it in ONNX Runtime, on this thread.
 */
class EagerBackend extends tf.KernelBackend {
  readonly #entries = new WeakMap<object, Entry>();
  #trace = new Trace();

  constructor(readonly known: Known) {
    super();
  }

  /** Traces one kernel call. */
  call(
    trace: (typeof KERNEL_GROUPS)[string][number]['trace'],
    inputs: tf.NamedTensorInfoMap,
    attrs: tf.NamedAttrMap,
  ): tf.TensorInfo | tf.TensorInfo[] {
    // Optional inputs that were left out are undefined, whatever the type says.
    const given: (tf.TensorInfo | undefined)[] = Object.values(inputs).flat();
    for (const info of given) if (info) this.#take(info);
    const current = this.#trace;
    const { tracer, graph } = current;
    const results = withTracer(tracer, () => trace({ inputs, attrs, tracer, graph }));
    for (const { dataId, shape, dtype } of [results].flat()) {
      this.#entries.set(dataId, { shape, dtype, trace: current, references: 1 });
    }
    return results;
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype);
    return dataId;
  }

  override move(dataId: tf.DataId, values: tf.BackendValues, shape: number[], dtype: tf.DataType): void {
    this.#entries.set(dataId, { shape, dtype, values, references: 1 });
  }

  override readSync(dataId: object): tf.BackendValues {
    const entry = this.#entryOf(dataId);
    if (entry.values) return entry.values;
    const computed = this.#compute({ dataId, shape: [...entry.shape], dtype: entry.dtype }, entry);
    entry.values = computed as tf.BackendValues;
    return entry.values;
  }

  override read(dataId: object): Promise<tf.BackendValues> {
    return Promise.resolve().then(() => this.readSync(dataId));
  }

  override incRef(dataId: object): void {
    this.#entryOf(dataId).references++;
  }
  override refCount(dataId: object): number {
    return this.#entries.get(dataId)?.references ?? 0;
  }
  override disposeData(dataId: object, force = false): boolean {
    const entry = this.#entries.get(dataId);
    if (entry) entry.references--;
    return force || !entry || entry.references <= 0;
  }
  override numDataIds(): number {
    return 0;
  }
  override memory(): { unreliable: boolean } {
    return { unreliable: true };
  }
  override floatPrecision(): 32 {
    return 32;
  }
  override epsilon(): number {
    return 1e-7;
  }
  override dispose(): void {}

  #entryOf(dataId: object): Entry {
    const entry = this.#entries.get(dataId);
    if (!entry) throw new Error('A tensor of another backend was handed to the eager backend.');
    return entry;
  }

  /** Makes a tensor known to the current trace: scalars always as constants, as in a traced function. */
  #take(info: tf.TensorInfo): void {
    const entry = this.#entryOf(info.dataId);
    const { graph, tracer, feeds } = this.#trace;
    if (entry.trace === this.#trace) return;
    const values = this.readSync(info.dataId) as HostData;
    const dtype = dtypeOf(info);
    entry.trace = this.#trace;
    if (info.shape.length === 0 || this.known === 'constants') {
      tracer.bind(info.dataId, hostValue(values as never, info.shape, dtype));
      return;
    }
    const name = graph.unique('input');
    graph.inputs.push({ name, dtype, dims: info.shape });
    feeds.set(name, { dtype, values, dims: info.shape });
    tracer.bind(info.dataId, new TracedValue(name, info.shape, dtype));
  }

  #compute(info: tf.TensorInfo, { trace }: Entry): HostData {
    if (!trace) throw new Error('A tensor has neither elements nor a trace.');
    const { graph, tracer, feeds } = trace;
    const name = tracer.name(info);
    const part = new Graph();
    part.nodes = [...graph.nodes, { type: 'Identity', inputs: [name], outputs: ['result'], attributes: {} }];
    part.initializers = new Map(graph.initializers);
    part.outputs.push({ name: 'result', dtype: dtypeOf(info), dims: info.shape });
    part.prune();
    const needed = new Set(part.nodes.flatMap((node) => node.inputs));
    part.inputs.push(...graph.inputs.filter((input) => needed.has(input.name)));
    const used = new Map([...feeds].filter(([key]) => needed.has(key)));
    if (graph.nodes.length > LONGEST_TRACE && trace === this.#trace) this.#trace = new Trace();
    return runBlocking(writeOnnx(part), used);
  }
}

/** Registers the backend and every kernel of the engine with it. */
export function registerEagerBackend(known: Known): void {
  const backend = new EagerBackend(known);
  tf.registerBackend(EAGER_BACKEND, () => backend, 1);
  for (const { kernel: kernelName, trace } of Object.values(KERNEL_GROUPS).flat()) {
    tf.registerKernel({
      kernelName,
      backendName: EAGER_BACKEND,
      kernelFunc: ({ inputs, attrs }) => backend.call(trace, inputs, attrs ?? {}),
    });
  }
}

interface Binding {
  readonly InferenceSession: new () => {
    loadModel(buffer: ArrayBufferLike, offset: number, length: number, options: object): void;
    run(
      feeds: Record<string, ort.Tensor>,
      fetches: Record<string, null>,
      options: object,
    ): Record<string, ort.Tensor>;
    dispose(): void;
  };
}

const require = createRequire(`${process.cwd()}/`);
const { Tensor } = require('onnxruntime-node') as typeof ort;
const { binding, initOrt } = require('onnxruntime-node/dist/binding') as {
  binding: Binding;
  initOrt: () => void;
};

/** TensorFlow.js' `dataSync` cannot wait for a promise; below its API, ONNX Runtime blocks anyway. */
function runBlocking(model: Uint8Array, feeds: Trace['feeds']): HostData {
  initOrt();
  const session = new binding.InferenceSession();
  session.loadModel(model.buffer, model.byteOffset, model.byteLength, {
    intraOpNumThreads: 1,
    logSeverityLevel: 4,
  });
  try {
    const inputs = Object.fromEntries(
      [...feeds].map(([name, { dtype, values, dims }]) => [
        name,
        new Tensor(dtype as 'float32', values as Float32Array, dims),
      ]),
    );
    const { result } = session.run(inputs, { result: null }, {});
    return result?.data as HostData;
  } finally {
    session.dispose();
  }
}
