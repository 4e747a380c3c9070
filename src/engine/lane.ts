import { extname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { EngineProcess } from './engine-process.js';
import { EngineError } from './errors.js';
import type { HostTensors } from './host-tensor.js';
import type { Envelope, Reply, Request } from './protocol.js';

export type Done = Extract<Reply, { ok: true }>;

interface Pending {
  readonly envelope: Envelope;
  /** The model, for messages. */
  readonly name: string;
  readonly transfer: ArrayBuffer[];
  readonly priority: number;
  readonly resolve: (reply: Done) => void;
  readonly reject: (error: Error) => void;
}

interface LaneOptions {
  /** See {@link EngineOptions.apart}. */
  readonly apart: boolean;
  /** See {@link EngineOptions.limitMs}. */
  readonly limitMs: number | undefined;
  /** Called whenever nothing runs and nothing waits. */
  readonly onIdle: () => void;
  /** Called when the worker has not answered in time. */
  readonly onLate: (reason: string) => void;
  /** Called when the worker has died. */
  readonly onGone: (error: EngineError) => void;
}

/** How long a model may take to load. */
const LOAD_MS = 600_000;

/** A worker of the engine and its queue. One call runs at a time; the rest wait, higher priority first. */
export class Lane {
  readonly #options: LaneOptions;
  readonly #waiting: Pending[] = [];
  #running: Pending | undefined;
  #timer: NodeJS.Timeout | undefined;
  #busySince = 0;
  /** Whether the worker has not answered yet. */
  #isAtWork = false;
  #worker: Worker | EngineProcess | undefined;
  #closed: EngineError | undefined;
  #ids = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Number of calls that run or wait. */
  get calls(): number {
    return this.#waiting.length + (this.#running ? 1 : 0);
  }

  /** How long it has been at work without a pause. */
  get busyMs(): number {
    return this.calls === 0 ? 0 : performance.now() - this.#busySince;
  }

  call(request: Request, priority: number, name: string): Promise<Done> {
    if (this.#closed) return Promise.reject(this.#closed);
    const { request: own, transfer } = ownCopies(request);
    if (this.calls === 0) this.#busySince = performance.now();
    return new Promise((resolve, reject) => {
      const envelope = { id: ++this.#ids, request: own };
      const pending = { envelope, name, transfer, priority, resolve, reject };
      const later = this.#waiting.findIndex((other) => other.priority < priority);
      if (later < 0) this.#waiting.push(pending);
      else this.#waiting.splice(later, 0, pending);
      this.#next();
    });
  }

  /** Rejects what runs, what waits and what comes with the error. */
  close(error: EngineError): void {
    this.#closed ??= error;
    clearTimeout(this.#timer);
    const lost = [...(this.#running ? [this.#running] : []), ...this.#waiting.splice(0)];
    this.#running = undefined;
    for (const pending of lost) pending.reject(error);
  }

  /** Ends the worker. A thread that is at work when the limit is over goes on, and is ended after it or with the process. */
  async end(limitMs: number): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    const kill = (): void => {
      process.kill(process.pid, 'SIGKILL');
    };
    process.once('exit', kill);
    worker.once('exit', () => process.off('exit', kill));
    await Promise.race([this.#endBetweenCalls(worker), delay(limitMs, undefined, { ref: false })]);
    worker.unref();
  }

  /** ONNX Runtime's binding aborts the process if its thread is ended during a call. */
  async #endBetweenCalls(worker: Worker | EngineProcess): Promise<void> {
    if (this.#isAtWork && !this.#options.apart) {
      await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
    }
    await worker.terminate();
  }

  #next(): void {
    if (this.#running) return;
    const pending = this.#waiting.shift();
    this.#running = pending;
    if (!pending) return;
    const { name, envelope } = pending;
    const limit = this.#options.limitMs ?? (envelope.request.type === 'load' ? LOAD_MS : undefined);
    if (limit !== undefined) {
      this.#timer = setTimeout(() => {
        this.#options.onLate(`The model "${name}" did not answer within ${limit / 1000} s.`);
      }, limit);
    }
    try {
      this.#worker ??= this.#start();
      this.#worker.ref();
      this.#worker.postMessage(pending.envelope, pending.transfer);
      this.#isAtWork = true;
    } catch (cause) {
      this.#gone("The engine's worker thread could not be reached.", cause);
    }
  }

  #start(): Worker | EngineProcess {
    const { apart } = this.#options;
    // Official builds of ONNX Runtime report to Microsoft and keep an identifier in the home folder unless told
    // otherwise before they start. The native library reads the process's environment, not the thread's.
    process.env['ORT_DISABLE_TELEMETRY'] ??= '1';
    const worker = apart
      ? new EngineProcess()
      : new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url));
    worker.on('message', (reply: Reply) => {
      this.#isAtWork = false;
      this.#settle(reply);
    });
    worker.on('error', (cause: Error) => {
      this.#gone(`The engine's worker thread failed: ${cause.message}`, cause);
    });
    worker.on('exit', (code: number | string) => {
      // There is nothing left to end.
      this.#worker = undefined;
      const what = apart ? 'process' : 'worker thread';
      this.#gone(`The engine's ${what} ended with ${code}.`);
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
    if (this.calls > 0) return;
    this.#worker?.unref();
    this.#options.onIdle();
  }

  #gone(message: string, cause?: unknown): void {
    if (this.#closed === undefined) this.#options.onGone(new EngineError('worker-gone', message, { cause }));
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
    // Not slice(): a Buffer's slice is a view of the same memory, which would be transferred.
    const model = new Uint8Array(request.model);
    transfer.push(model.buffer);
    return { request: { ...request, model }, transfer };
  }
  return { request, transfer };
}
