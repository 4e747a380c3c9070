import type { Engine } from './engine.js';
import type { HostTensors } from './host-tensor.js';
import type { LoadOptions } from './load-options.js';
import type { EngineSession } from './session.js';
import { traceToOnnx, type InputSpec, type TraceableFunction, type TraceOptions } from './trace.js';

/** A compiled function: feeds in, results out. */
export interface CompiledFunction {
  (feeds: HostTensors): Promise<HostTensors>;
  /** The session it runs in. */
  readonly session: EngineSession;
  /** Frees the session. */
  dispose(): Promise<void>;
}

/**
 * Traces a TensorFlow.js function, loads the graph and returns it as a callable. The variables are frozen into the graph.
 * Throws and rejects as `traceToOnnx` and `Engine.load` do.
 */
export async function compile(
  engine: Engine,
  fn: TraceableFunction,
  inputs: Readonly<Record<string, InputSpec>>,
  options: Omit<TraceOptions, 'freeze'> & LoadOptions = {},
): Promise<CompiledFunction> {
  const { bytes } = traceToOnnx(fn, inputs, { ...options, freeze: true });
  const session = await engine.load(bytes, options);
  return Object.assign((feeds: HostTensors) => session.run(feeds), {
    session,
    dispose: () => session.dispose(),
  });
}
