import { fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Envelope } from './protocol.js';

/** The engine's worker in a process of its own. To the engine it is a worker thread that can be ended at any time. */
export class EngineProcess extends EventEmitter {
  readonly #child = fork(
    fileURLToPath(new URL(`./process-worker${extname(import.meta.url)}`, import.meta.url)),
    // Standard output belongs to the command.
    { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );

  constructor() {
    super();
    this.#child.on('message', (reply) => this.emit('message', reply));
    this.#child.on('error', (error) => this.emit('error', error));
    this.#child.once('exit', (code, signal) => this.emit('exit', signal ?? code));
  }

  /** What a thread would be handed over is copied. */
  postMessage(envelope: Envelope, _transfer: readonly ArrayBuffer[]): void {
    this.#child.send(envelope);
  }

  /** Lets the process keep its parent alive. */
  ref(): void {
    this.#child.ref();
    this.#child.channel?.ref();
  }

  unref(): void {
    this.#child.unref();
    this.#child.channel?.unref();
  }

  async terminate(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.ref();
    this.#child.kill('SIGKILL');
    await exit;
  }
}
