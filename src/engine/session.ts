import { EngineError } from './errors.js';
import type { TensorInfo } from './graph.js';
import { dataTypeOf, sizeOf, type HostTensor, type HostTensors } from './host-tensor.js';
import type { Device, Reply, Request, SessionDescription } from './protocol.js';
import type { StateStore } from './state-store.js';

interface Fallback {
  /** Loads the same model on the CPU. */
  load(): Promise<EngineSession>;
  /** Called when the CPU has run what the device could not, and continues. */
  used(reason: string): void;
}

interface SessionParts {
  readonly id: number;
  readonly name: string;
  readonly device: Device;
  readonly description: SessionDescription;
  readonly state: StateStore;
  readonly call: (request: Request) => Promise<Extract<Reply, { ok: true }>>;
  /** The fallback to the CPU when the device fails. Absent on the CPU itself. */
  readonly fallback?: Fallback;
}

/** A model loaded in the engine's worker. Made by `Engine.load`. */
export class EngineSession {
  readonly name: string;
  readonly device: Device;
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /** The file's metadata. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Where `step` finds and keeps state tensors. */
  readonly state: StateStore;
  readonly #id: number;
  readonly #call: SessionParts['call'];
  readonly #fallback: Fallback | undefined;
  #onCpu: Promise<EngineSession> | undefined;
  #deviceFailed = false;

  constructor({ id, name, device, description, state, call, fallback }: SessionParts) {
    this.name = name;
    this.device = device;
    this.inputs = description.inputs;
    this.outputs = description.outputs;
    this.metadata = description.metadata;
    this.state = state;
    this.#id = id;
    this.#call = call;
    this.#fallback = fallback;
  }

  /**
   * Runs the model once. Every input must be fed. Rejects with {@link EngineError} `bad-feed` for a wrong name, type or
   * shape and `run-failed` when the model itself fails. If a GPU fails and the CPU does not, the CPU continues.
   */
  async run(feeds: HostTensors): Promise<HostTensors> {
    this.#check(feeds, true);
    return this.#execute('run', feeds);
  }

  /**
   * Runs one step: inputs that are not fed are taken from {@link state}, outputs named `next/…` go back into it and are
   * not returned. Rejects like {@link run}, and with `missing-state` for an input that is neither fed nor in the store.
   */
  async step(feeds: HostTensors): Promise<HostTensors> {
    this.#check(feeds, false);
    return this.#execute('step', feeds);
  }

  /** Adds or replaces state tensors. */
  setState(tensors: HostTensors): Promise<void> {
    return this.state.set(tensors);
  }

  /** Copies of the named state tensors, or of all. */
  getState(names?: readonly string[]): Promise<HostTensors> {
    return this.state.get(names);
  }

  /** Frees the model, but not the state store. */
  async dispose(): Promise<void> {
    await this.#call({ type: 'release', session: this.#id });
    await (await this.#onCpu?.catch(() => undefined))?.dispose();
  }

  async #execute(type: 'run' | 'step', feeds: HostTensors): Promise<HostTensors> {
    if (this.#deviceFailed && this.#onCpu !== undefined) return (await this.#onCpu)[type](feeds);
    try {
      return (await this.#call({ type, session: this.#id, feeds })).tensors ?? {};
    } catch (error) {
      if (this.#fallback === undefined || !(error instanceof EngineError) || error.code !== 'run-failed')
        throw error;
      // If the CPU fails too, the feeds are wrong and the device stays in use.
      this.#onCpu ??= this.#fallback.load();
      const tensors = await (await this.#onCpu)[type](feeds);
      if (!this.#deviceFailed) this.#fallback.used(error.message);
      this.#deviceFailed = true;
      return tensors;
    }
  }

  #check(feeds: HostTensors, complete: boolean): void {
    for (const name of Object.keys(feeds)) {
      if (this.inputs.some((input) => input.name === name)) continue;
      throw this.#badFeed(
        `has no input "${name}" (inputs: ${this.inputs.map((input) => input.name).join(', ')})`,
      );
    }
    for (const info of this.inputs) {
      const feed = feeds[info.name];
      if (!feed) {
        if (complete) throw this.#badFeed(`expects ${describe(info)}, got nothing`);
        continue;
      }
      if (!fits(feed, info))
        throw this.#badFeed(
          `expects ${describe(info)}, got ${dataTypeOf(feed.data)} [${feed.dims.join(', ')}]`,
        );
      if (sizeOf(feed.dims) !== feed.data.length) {
        throw this.#badFeed(
          `got ${String(feed.data.length)} elements for "${info.name}" [${feed.dims.join(', ')}], expected ${String(sizeOf(feed.dims))}`,
        );
      }
    }
  }

  #badFeed(what: string): EngineError {
    return new EngineError('bad-feed', `The model "${this.name}" ${what}.`);
  }
}

function fits({ data, dims }: HostTensor, info: TensorInfo): boolean {
  if (dataTypeOf(data) !== info.dtype || dims.length !== info.dims.length) return false;
  return info.dims.every((dim, axis) => typeof dim === 'string' || dim === dims[axis]);
}

function describe({ name, dtype, dims }: TensorInfo): string {
  return `"${name}": ${dtype} [${dims.join(', ')}]`;
}
