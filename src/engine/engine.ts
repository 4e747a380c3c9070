import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Subject, type Observable } from 'rxjs';
import { selfTest } from './devices.js';
import { EngineProcess } from './engine-process.js';
import { EngineError } from './errors.js';
import type { HostTensors } from './host-tensor.js';
import type { EngineLog, EngineOptions, LoadOptions } from './load-options.js';
import type { Device, Envelope, Reply, Request } from './protocol.js';
import { EngineSession } from './session.js';
import { StateStore } from './state-store.js';

interface Pending {
  readonly envelope: Envelope;
  /** The model, for messages. */
  readonly name: string;
  readonly transfer: ArrayBuffer[];
  readonly priority: number;
  readonly resolve: (reply: Extract<Reply, { ok: true }>) => void;
  readonly reject: (error: Error) => void;
}

/** How long a model may take to load. */
const LOAD_MS = 600_000;
/** How long a worker that is at work may take to end: of one that was given up nothing is expected. */
const END_MS = 30_000;
const GIVEN_UP_MS = 1000;

/**
 * Runs ONNX models in a worker thread, because ONNX Runtime's binding blocks the thread that calls it. One call runs at a
 * time (each uses all cores, or `threads` of them); the rest wait, higher priority first. A worker that dies rejects everything that waits.
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
  readonly #idle = new Subject<void>();
  readonly #waiting: Pending[] = [];
  #running: Pending | undefined;
  #timer: NodeJS.Timeout | undefined;
  #worker: Worker | EngineProcess | undefined;
  #closed: EngineError | undefined;
  #ended: Promise<void> | undefined;
  #ids = 0;
  #auto: Promise<Device> | undefined;

  constructor(options: EngineOptions = {}) {
    this.#log = options.log;
    this.#spinning = options.spinning ?? true;
    this.#apart = options.apart ?? false;
    this.#limitMs = options.limitMs;
    this.#threads = options.threads ?? availableParallelism;
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
        threads: options.threads ?? this.#threads(),
        spinning: this.#spinning,
        precision: options.precision ?? 'single',
        state: state.id,
      },
      priority,
      name,
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
      call: (request) => this.#call(request, priority, name),
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

  /** Ends the worker. What still waits is rejected; a second call does nothing. */
  async dispose(): Promise<void> {
    if (this.#closed === undefined)
      this.#fail(new EngineError('worker-gone', 'The engine has been disposed.'));
    await this.#end(END_MS);
    this.#idle.complete();
  }

  /**
   * Ends the worker during any work, and rejects what runs and what waits with `worker-gone`: for a model that does not
   * answer. The engine cannot be used afterwards.
   */
  giveUp(reason: string): void {
    this.#fail(new EngineError('worker-gone', reason));
    void this.#end(GIVEN_UP_MS);
  }

  /** Resolves when the worker has ended, or cannot be ended. */
  #end(limitMs: number): Promise<void> {
    this.#ended ??= endWorker(this.#worker, limitMs);
    return this.#ended;
  }

  #autoDevice(): Promise<Device> {
    this.#auto ??= selfTest((model, options) => this.load(model, options), this.#log);
    return this.#auto;
  }

  #call(request: Request, priority: number, name: string): Promise<Extract<Reply, { ok: true }>> {
    if (this.#closed) return Promise.reject(this.#closed);
    const { request: own, transfer } = ownCopies(request);
    return new Promise((resolve, reject) => {
      const envelope = { id: ++this.#ids, request: own };
      const pending = { envelope, name, transfer, priority, resolve, reject };
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
    const { name, envelope } = pending;
    const limit = this.#limitMs ?? (envelope.request.type === 'load' ? LOAD_MS : undefined);
    if (limit !== undefined) {
      this.#timer = setTimeout(() => {
        this.giveUp(`The model "${name}" did not answer within ${limit / 1000} s.`);
      }, limit);
    }
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

  #start(): Worker | EngineProcess {
    // Official builds of ONNX Runtime report to Microsoft and keep an identifier in the home folder unless told
    // otherwise before they start. The native library reads the process's environment, not the thread's.
    process.env['ORT_DISABLE_TELEMETRY'] ??= '1';
    const worker = this.#apart
      ? new EngineProcess()
      : new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url));
    worker.on('message', (reply: Reply) => {
      this.#settle(reply);
    });
    worker.on('error', (cause: Error) => {
      this.#fail(
        new EngineError('worker-gone', `The engine's worker thread failed: ${cause.message}`, { cause }),
      );
    });
    worker.on('exit', (code: number | string) => {
      const what = this.#apart ? 'process' : 'worker thread';
      this.#fail(new EngineError('worker-gone', `The engine's ${what} ended with ${code}.`));
    });
    return worker;
  }

  #settle(reply: Reply): void {
    const pending = this.#running;
    if (pending?.envelope.id !== reply.id) return;
    clearTimeout(this.#timer);
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
    clearTimeout(this.#timer);
    const lost = [...(this.#running ? [this.#running] : []), ...this.#waiting.splice(0)];
    this.#running = undefined;
    for (const pending of lost) pending.reject(error);
  }
}

/** Ends the worker. One that is inside native code when the limit is over goes on, and is ended with the process. */
async function endWorker(worker: Worker | EngineProcess | undefined, limitMs: number): Promise<void> {
  if (worker === undefined) return;
  const kill = (): void => {
    process.kill(process.pid, 'SIGKILL');
  };
  process.once('exit', kill);
  worker.once('exit', () => process.off('exit', kill));
  await Promise.race([worker.terminate(), delay(limitMs, undefined, { ref: false })]);
  worker.unref();
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
    // Not slice(): a Buffer's slice is a view of the same memory, which would be transferred.
    const model = new Uint8Array(request.model);
    transfer.push(model.buffer);
    return { request: { ...request, model }, transfer };
  }
  return { request, transfer };
}
