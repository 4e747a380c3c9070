import { request, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { json } from 'node:stream/consumers';
import { RxrayError } from '../core/errors.js';
import { isCode } from '../core/files.js';
import { controlAddress } from './address.js';

/** One event of a stream: its name and its data, parsed. */
export interface ControlEvent {
  readonly event: string;
  readonly data: unknown;
}

/** A client of the process that runs the graph of a state folder, over its local socket. */
export class ControlClient {
  readonly #address: string;

  /** The first request throws CONTROL_NOT_RUNNING if no process is running. */
  constructor(private readonly stateDir: string) {
    this.#address = controlAddress(stateDir);
  }

  /** The parsed response. An error response throws CONTROL_REFUSED with its message. */
  async json(
    path: string,
    { method = 'GET', body }: { method?: string; body?: unknown } = {},
  ): Promise<unknown> {
    return json(await this.#ask(path, method, body));
  }

  /** The events of a stream until it ends or `signal` is aborted. */
  async *events(path: string, signal?: AbortSignal): AsyncGenerator<ControlEvent> {
    const response = await this.#ask(path, 'GET', undefined, signal);
    let event = 'message';
    try {
      for await (const line of createInterface({ input: response })) {
        if (line.startsWith('event: ')) event = line.slice(7);
        else if (line.startsWith('data: ')) yield { event, data: JSON.parse(line.slice(6)) as unknown };
        else if (line === '') event = 'message';
      }
    } catch (error) {
      // The process has ended, or the stream was aborted.
      const { code, name } = error as NodeJS.ErrnoException;
      if (code !== 'ECONNRESET' && name !== 'AbortError') throw error;
    } finally {
      response.destroy();
    }
  }

  async #ask(path: string, method: string, body?: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request(
        {
          socketPath: this.#address,
          path,
          method,
          headers: { host: 'localhost', ...(body !== undefined && { 'content-type': 'application/json' }) },
          ...(signal !== undefined && { signal }),
        },
        resolve,
      );
      outgoing.on('error', reject);
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    }).catch((cause: unknown) => {
      if (!isCode(cause, 'ENOENT') && !isCode(cause, 'ECONNREFUSED')) throw cause;
      throw new RxrayError(
        'CONTROL_NOT_RUNNING',
        `no process runs the graph that keeps its state in ${this.stateDir}: start it with \`rxray run\``,
        { cause },
      );
    });
    const { statusCode = 0 } = response;
    if (statusCode >= 200 && statusCode < 300) return response;
    const { error } = (await json(response).catch(() => ({}))) as { error?: { message?: string } };
    throw new RxrayError('CONTROL_REFUSED', error?.message ?? `the running process answered ${statusCode}`);
  }
}
