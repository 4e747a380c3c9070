import type { Device, Precision } from './protocol.js';
import type { StateStore } from './state-store.js';

/** A logger for the engine's decisions, such as pino. */
export interface EngineLog {
  info(message: string): void;
  warn(message: string): void;
}

export interface EngineOptions {
  readonly log?: EngineLog;
  /**
   * Whether waiting threads of ONNX Runtime keep their core, which is fastest if nothing else needs it. Default: true.
   */
  readonly spinning?: boolean;
  /**
   * Runs models in a process of its own, which can be ended whatever a model does: for untested models.
   * Every call copies its tensors from process to process.
   */
  readonly apart?: boolean;
  /**
   * How long one call may take, in milliseconds: to load a model, or to run it once. After that the engine is given up.
   * Unless given, loading may take ten minutes, and a run as long as it needs.
   */
  readonly limitMs?: number;
  /** Asked at each load: threads of all runs at a time; all cores unless given. */
  readonly threads?: () => number;
  /**
   * Asked at each load: number of runs on the CPU at the same time, which share the threads. A model is loaded again for
   * the second when the first has no pause. Default: 1.
   */
  readonly lanes?: () => number;
}

/** Options of `Engine.load`. */
export interface LoadOptions {
  /** Name in error messages. Default: the path, or "model". */
  readonly name?: string;
  /** `auto` takes a GPU that passes a self-test, else the CPU. */
  readonly device?: 'auto' | Device;
  /**
   * `half` calculates in half precision on a GPU: about twice as fast, results to 1e-3. The CPU always calculates in
   * single precision. Models with loops or conditions cannot be loaded so. Default: `single`.
   */
  readonly precision?: Precision;
  /** Threads of one run; as the engine's options say unless given. */
  readonly threads?: number;
  /** Runs of sessions with a higher priority are taken first. Default: 0. */
  readonly priority?: number;
  /** The store of the model's state. Default: its own. */
  readonly state?: StateStore;
}
