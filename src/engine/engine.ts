import { availableParallelism } from 'node:os';
import { Subject, type Observable } from 'rxjs';
import { Copies } from './copies.js';
import { selfTest } from './devices.js';
import { EngineError } from './errors.js';
import { Lane, type Done } from './lane.js';
import type { EngineLog, EngineOptions, LoadOptions } from './load-options.js';
import type { Device, Request } from './protocol.js';
import { EngineSession } from './session.js';
import { StateStore } from './state-store.js';

/** How long a worker that is at work may take to end: of one that was given up nothing is expected. */
const END_MS = 30_000;
const GIVEN_UP_MS = 1000;

/**
 * Runs ONNX models in worker threads, because ONNX Runtime's binding blocks the thread that calls it. One call runs at a
 * time in each of its lanes (each uses its share of `threads`); the rest wait, higher priority first. A worker that dies
 * rejects everything that waits.
 *
 * A run cannot be ended from outside. When an engine is given up whose worker is inside native code, the process ends by
 * SIGKILL at its exit, because Node would wait for the thread without end; `apart: true` avoids that.
 */
export class Engine {
  readonly #log: EngineLog | undefined;
  readonly #spinning: boolean;
  readonly #apart: boolean;
  readonly #limitMs: number | undefined;
  readonly #threads: () => number;
  readonly #most: () => number;
  readonly #idle = new Subject<void>();
  readonly #lanes: Lane[] = [];
  #closed: EngineError | undefined;
  #ended: Promise<unknown> | undefined;
  #ids = 0;
  #auto: Promise<Device> | undefined;

  constructor(options: EngineOptions = {}) {
    this.#log = options.log;
    this.#spinning = options.spinning ?? true;
    this.#apart = options.apart ?? false;
    this.#limitMs = options.limitMs;
    this.#threads = options.threads ?? availableParallelism;
    this.#most = options.lanes ?? (() => 1);
  }

  /** Number of runs on the CPU at the same time. */
  get lanes(): number {
    return this.#most();
  }

  /** Whether nothing runs and nothing waits. */
  get idle(): boolean {
    return this.#lanes.every(({ calls }) => calls === 0);
  }

  /** Whether a lane that is in use has nothing to do. */
  get free(): boolean {
    return this.#lanes.length === 0 || this.#lanes.some(({ calls }) => calls === 0);
  }

  /** Emits whenever a lane has nothing to do. */
  get idle$(): Observable<void> {
    return this.#idle.asObservable();
  }

  /**
   * Loads an ONNX model from bytes or from a path. Rejects with {@link EngineError} `bad-model` for a damaged file and
   * `device-unavailable` for a device that this machine lacks.
   */
  async load(model: Uint8Array | string, options: LoadOptions = {}): Promise<EngineSession> {
    const name = options.name ?? (typeof model === 'string' ? model : 'model');
    const wanted = options.device ?? 'auto';
    const device = wanted === 'auto' ? await this.#autoDevice() : wanted;
    const state = options.state ?? this.createState();
    const session = ++this.#ids;
    const priority = options.priority ?? 0;
    const lanes = device === 'cpu' ? this.lanes : 1;
    const request: Request = {
      type: 'load',
      session,
      name,
      model,
      device,
      threads: options.threads ?? Math.ceil(this.#threads() / lanes),
      spinning: this.#spinning,
      precision: options.precision ?? 'single',
      state: state.id,
    };
    const copies = new Copies({
      first: this.#lane(0),
      more: () => Array.from({ length: lanes - 1 }, (_, i) => this.#lane(i + 1)),
      load: (lane) => lane.call(request, priority, name),
      onFailure: (reason) =>
        this.#log?.warn(`"${name}" is not loaded a second time, to run twice at once: ${reason}`),
    });
    const { description } = await this.#call(request, priority, name).catch((error: unknown) => {
      if (device === 'cpu') throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError('device-unavailable', `The device "${device}" cannot run "${name}": ${reason}`, {
        cause: error,
      });
    });
    if (!description) throw new EngineError('bad-model', `The model "${name}" did not describe itself.`);
    return new EngineSession({
      id: session,
      name,
      device,
      description,
      state,
      call: (sent) => copies.call(sent, priority, name),
      ...(device !== 'cpu' && {
        fallback: {
          load: () => this.load(model, { ...options, name, state, device: 'cpu' }),
          used: (reason) =>
            this.#log?.warn(`The device ${device} failed, the CPU continues with "${name}": ${reason}`),
        },
      }),
    });
  }

  /** A store in the worker for tensors that several sessions share, e.g. parameters during training. */
  createState(): StateStore {
    return new StateStore(++this.#ids, (request) => this.#call(request, 0, 'state'));
  }

  /** Ends the workers. What still waits is rejected; a second call does nothing. */
  async dispose(): Promise<void> {
    this.#fail(new EngineError('worker-gone', 'The engine has been disposed.'));
    await this.#end(END_MS);
    this.#idle.complete();
  }

  /**
   * Ends the workers during any work, and rejects what runs and what waits with `worker-gone`: for a model that does not
   * answer. The engine cannot be used afterwards.
   */
  giveUp(reason: string): void {
    this.#fail(new EngineError('worker-gone', reason));
    void this.#end(GIVEN_UP_MS);
  }

  /** Resolves when the workers have ended, or cannot be ended. */
  #end(limitMs: number): Promise<unknown> {
    this.#ended ??= Promise.all(this.#lanes.map((lane) => lane.end(limitMs)));
    return this.#ended;
  }

  #autoDevice(): Promise<Device> {
    this.#auto ??= selfTest((model, options) => this.load(model, options), this.#log);
    return this.#auto;
  }

  /** A call in the first lane, which has the state. */
  #call(request: Request, priority: number, name: string): Promise<Done> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#lane(0).call(request, priority, name);
  }

  #lane(index: number): Lane {
    return (this.#lanes[index] ??= new Lane({
      apart: this.#apart,
      limitMs: this.#limitMs,
      onIdle: () => {
        this.#idle.next();
      },
      onLate: (reason) => {
        this.giveUp(reason);
      },
      onGone: (error) => {
        this.#fail(error);
      },
    }));
  }

  #fail(error: EngineError): void {
    this.#closed ??= error;
    for (const lane of this.#lanes) lane.close(this.#closed);
  }
}
