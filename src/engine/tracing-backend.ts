import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from './errors.js';
import { activeTracer, dtypeOf, hostValue, TRACE_BACKEND } from './tracer.js';

const RANDOM_OPS =
  /^(rand|randomNormal|randomUniform|randomUniformInt|randomStandardNormal|randomGamma|truncatedNormal|multinomial|dropout)_*op$/;

/**
 * A TensorFlow.js backend whose kernels write ONNX nodes instead of computing. Constants made while tracing are kept
 * in plain memory until a node needs them.
 */
export class TracingBackend extends tf.KernelBackend {
  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    rejectRandom();
    const dataId = {};
    activeTracer().bind(dataId, hostValue(values as ArrayLike<number>, shape, dtypeOf({ dtype })));
    return dataId;
  }

  override move(dataId: tf.DataId, values: tf.BackendValues, shape: number[], dtype: tf.DataType): void {
    activeTracer().bind(dataId, hostValue(values as ArrayLike<number>, shape, dtypeOf({ dtype })));
  }

  override readSync(dataId: object): tf.BackendValues {
    const host = activeTracer().hostValue(dataId);
    if (host) return host.values as tf.BackendValues;
    throw new EngineError(
      'symbolic-read',
      'A traced function read the elements of a tensor (dataSync, arraySync, array or print). While tracing there are ' +
        'no elements, only the graph that will compute them: return the tensor as an output, or express the decision ' +
        'with tf.where.',
    );
  }

  override read(dataId: object): Promise<tf.BackendValues> {
    return Promise.resolve().then(() => this.readSync(dataId));
  }

  override incRef(): void {
    // Values exist as long as the trace.
  }
  override refCount(): number {
    return 1;
  }
  override disposeData(): boolean {
    return true;
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
  override timerAvailable(): boolean {
    return false;
  }
  override dispose(): void {
    // Nothing is held outside a trace.
  }
}

/** Registers the backend once; safe to call again. */
export function registerTracingBackend(): void {
  // The declared return type leaves out that an unknown backend gives null.
  const factory = tf.findBackendFactory(TRACE_BACKEND) as (() => unknown) | null;
  if (factory === null) tf.registerBackend(TRACE_BACKEND, () => new TracingBackend(), 0);
}

function rejectRandom(): void {
  const scope =
    (tf.engine() as unknown as { state: { activeScope?: { name?: string } } }).state.activeScope?.name ?? '';
  if (!RANDOM_OPS.test(scope)) return;
  throw new EngineError(
    'random-in-trace',
    `tf.${scope.replace(/_*op$/, '')} ran inside a traced function: its numbers would be frozen into the graph. ` +
      'Draw them outside and pass them in as an input.',
  );
}
