import type { Device } from './protocol.js';
import type { StateStore } from './state-store.js';

/** Where the engine writes what it decided; a pino logger fits. */
export interface EngineLog {
  info(message: string): void;
  warn(message: string): void;
}

export interface EngineOptions {
  readonly log?: EngineLog;
  /**
   * Whether threads of ONNX Runtime that wait for each other keep their core: quickest while nothing else wants it. True
   * unless given.
   */
  readonly spinning?: boolean;
  /**
   * Runs models in a process of its own, which can be ended whatever a model does: for models that nobody has tried yet.
   * Every call copies its tensors from process to process.
   */
  readonly apart?: boolean;
  /**
   * How long one call may take, in milliseconds: to load a model, or to run it once. After that the engine is given up.
   * Unless given, loading may take ten minutes, and a run as long as it needs.
   */
  readonly limitMs?: number;
  /** Asked at each load: threads of one run; all cores unless given. */
  readonly threads?: () => number;
}

/** Options of `Engine.load`. */
export interface LoadOptions {
  /** Name in error messages; the path, or "model", unless given. */
  readonly name?: string;
  /** `auto` takes a GPU that passes a self-test, else the CPU. */
  readonly device?: 'auto' | Device;
  /** Threads of one run; as the engine's options say unless given. */
  readonly threads?: number;
  /** Runs of sessions with a higher priority are taken first; 0 unless given. */
  readonly priority?: number;
  /** Where `step` finds and keeps the model's state; a store of its own unless given. */
  readonly state?: StateStore;
}
