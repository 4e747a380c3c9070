import type { HostTensors } from './host-tensor.js';
import type { Reply, Request } from './protocol.js';

/** Tensors that stay in the engine's worker between steps, by name. Sessions that share a store share its tensors. */
export class StateStore {
  readonly #call: (request: Request) => Promise<Extract<Reply, { ok: true }>>;

  constructor(
    readonly id: number,
    call: (request: Request) => Promise<Extract<Reply, { ok: true }>>,
  ) {
    this.#call = call;
  }

  /** Adds or replaces tensors (TensorFlow's axis order). */
  async set(tensors: HostTensors): Promise<void> {
    await this.#call({ type: 'setState', state: this.id, tensors });
  }

  /** Copies of the named tensors, or of all. Rejects with `missing-state` for an unknown name. */
  async get(names?: readonly string[]): Promise<HostTensors> {
    return (await this.#call({ type: 'getState', state: this.id, names })).tensors ?? {};
  }

  /** Frees the tensors. */
  async dispose(): Promise<void> {
    await this.#call({ type: 'releaseState', state: this.id });
  }
}
