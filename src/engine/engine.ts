import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Subject, type Observable } from 'rxjs';
import { selfTest } from './devices.js';
import { EngineError } from './errors.js';
import type { HostTensors } from './host-tensor.js';
import type { EngineLog, EngineOptions, LoadOptions } from './load-options.js';
import type { Device, Envelope, Reply, Request } from './protocol.js';
import { EngineSession } from './session.js';
import { StateStore } from './state-store.js';

interface Pending {
  readonly envelope: Envelope;
  readonly transfer: ArrayBuffer[];
  readonly priority: number;
  readonly resolve: (reply: Extract<Reply, { ok: true }>) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Runs ONNX models in a worker thread, because ONNX Runtime's binding blocks the thread that calls it. One call runs at a
 * time (each uses all cores); the rest wait, higher priority first. A worker that dies rejects everything that waits.
 */
export class Engine {
  readonly #log: EngineLog | undefined;
  readonly #spinning: boolean;
  readonly #idle = new Subject<void>();
  readonly #waiting: Pending[] = [];
  #running: Pending | undefined;
  #worker: Worker | undefined;
  #closed: EngineError | undefined;
  #ids = 0;
  #auto: Promise<Device> | undefined;

  constructor(options: EngineOptions = {}) {
    this.#log = options.log;
    this.#spinning = options.spinning ?? true;
  }

  /** Whether nothing runs and nothing waits. */
  get idle(): boolean {
    return this.#running === undefined && this.#waiting.length === 0;
  }

  /** Emits whenever the engine becomes idle. */
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
    const { description } = await this.#call(
      {
        type: 'load',
        session,
        name,
        model,
        device,
        threads: options.threads ?? availableParallelism(),
        spinning: this.#spinning,
        state: state.id,
      },
      priority,
    ).catch((error: unknown) => {
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
      call: (request) => this.#call(request, priority),
      ...(device !== 'cpu' && {
        fallback: {
          load: () => this.load(model, { ...options, name, state, device: 'cpu' }),
          used: (reason) =>
            this.#log?.warn(`The device ${device} failed, the CPU goes on with "${name}": ${reason}`),
        },
      }),
    });
  }

  /** A place in the worker for tensors that several sessions share, e.g. parameters during training. */
  createState(): StateStore {
    return new StateStore(++this.#ids, (request) => this.#call(request, 0));
  }

  /** Ends the worker. What still waits is rejected; a second call does nothing. */
  async dispose(): Promise<void> {
    if (this.#closed) return;
    this.#fail(new EngineError('worker-gone', 'The engine has been disposed.'));
    await this.#worker?.terminate();
    this.#idle.complete();
  }

  #autoDevice(): Promise<Device> {
    this.#auto ??= selfTest((model, options) => this.load(model, options), this.#log);
    return this.#auto;
  }

  #call(request: Request, priority: number): Promise<Extract<Reply, { ok: true }>> {
    if (this.#closed) return Promise.reject(this.#closed);
    const { request: own, transfer } = ownCopies(request);
    return new Promise((resolve, reject) => {
      const pending = { envelope: { id: ++this.#ids, request: own }, transfer, priority, resolve, reject };
      const later = this.#waiting.findIndex((other) => other.priority < priority);
      if (later < 0) this.#waiting.push(pending);
      else this.#waiting.splice(later, 0, pending);
      this.#next();
    });
  }

  #next(): void {
    if (this.#running) return;
    const pending = this.#waiting.shift();
    this.#running = pending;
    if (!pending) return;
    try {
      this.#worker ??= this.#start();
      this.#worker.ref();
      this.#worker.postMessage(pending.envelope, pending.transfer);
    } catch (cause) {
      this.#fail(
        new EngineError('worker-gone', "The engine's worker thread could not be reached.", { cause }),
      );
    }
  }

  #start(): Worker {
    // Official builds of ONNX Runtime report to Microsoft and keep an identifier in the home folder unless told
    // otherwise before they start. The native library reads the process's environment, not the thread's.
    process.env['ORT_DISABLE_TELEMETRY'] ??= '1';
    const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url));
    worker.on('message', (reply: Reply) => {
      this.#settle(reply);
    });
    worker.on('error', (cause) => {
      this.#fail(
        new EngineError('worker-gone', `The engine's worker thread failed: ${cause.message}`, { cause }),
      );
    });
    worker.on('exit', (code) => {
      this.#fail(
        new EngineError('worker-gone', `The engine's worker thread ended with code ${String(code)}.`),
      );
    });
    return worker;
  }

  #settle(reply: Reply): void {
    const pending = this.#running;
    if (pending?.envelope.id !== reply.id) return;
    this.#running = undefined;
    if (reply.ok) pending.resolve(reply);
    else pending.reject(new EngineError(reply.code, reply.message));
    this.#next();
    if (this.idle) {
      this.#worker?.unref();
      this.#idle.next();
    }
  }

  #fail(error: EngineError): void {
    this.#closed ??= error;
    const lost = [...(this.#running ? [this.#running] : []), ...this.#waiting.splice(0)];
    this.#running = undefined;
    for (const pending of lost) pending.reject(error);
  }
}

/** Feeds are copied once, here, and the copies are handed over: the caller's buffers stay usable. */
function ownCopies(request: Request): { request: Request; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = [];
  const copy = (tensors: HostTensors): HostTensors =>
    Object.fromEntries(
      Object.entries(tensors).map(([name, { data, dims }]) => {
        const own = data.slice();
        transfer.push(own.buffer);
        return [name, { data: own, dims }];
      }),
    );
  if (request.type === 'run' || request.type === 'step')
    return { request: { ...request, feeds: copy(request.feeds) }, transfer };
  if (request.type === 'setState')
    return { request: { ...request, tensors: copy(request.tensors) }, transfer };
  if (request.type === 'load' && typeof request.model !== 'string') {
    // Not slice(): a Buffer's is a view of the same memory, which would leave the caller.
    const model = new Uint8Array(request.model);
    transfer.push(model.buffer);
    return { request: { ...request, model }, transfer };
  }
  return { request, transfer };
}
