import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Request {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly at: number;
}

/** A real HTTP server that takes webhooks: answers are taken from `answers`, then 204. */
export class Receiver {
  readonly requests: Request[] = [];
  readonly answers: ((response: ServerResponse, request: IncomingMessage) => void)[] = [];
  readonly #server = createServer((request, response) => void this.#take(request, response));
  url = '';

  static async listen(): Promise<Receiver> {
    const receiver = new Receiver();
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    const { port } = receiver.#server.address() as AddressInfo;
    receiver.url = `http://127.0.0.1:${port}/hook/s3cret-path`;
    return receiver;
  }

  /** Listens again where it did before it was closed. */
  async reopen(): Promise<void> {
    this.#server.listen(Number(new URL(this.url).port), '127.0.0.1');
    await once(this.#server, 'listening');
  }

  /** Answers the next request with this status. */
  answer(status: number, headers: Record<string, string> = {}): this {
    this.answers.push((response) => response.writeHead(status, headers).end('sorry'));
    return this;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    this.requests.push({ headers: request.headers, body, at: Date.now() });
    const answer = this.answers.shift();
    if (answer === undefined) response.writeHead(204).end();
    else answer(response, request);
  }
}
