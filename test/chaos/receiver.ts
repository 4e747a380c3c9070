import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256 } from './films.js';
import type { Random } from './random.js';

/** A request that came in whole, as the checker is told of it. */
export interface Received {
  readonly id: string;
  readonly file: string;
  /** SHA-256 of the body. */
  readonly body: string;
  /** The body itself, where it is not the first of its id. */
  readonly text?: string;
  /** What it was answered with; 0 when it was not answered at all. */
  readonly status: number;
}

const MOODS = ['well', 'broken', 'busy', 'silent', 'resetting', 'forgetful', 'slow', 'away'] as const;
type Mood = (typeof MOODS)[number];

/** A web server that takes webhooks as servers do on a bad day: its mood changes several times a second. */
export class Receiver {
  readonly received: Received[] = [];
  readonly #bodies = new Map<string, string>();
  readonly #server = createServer((request, response) => {
    this.#take(request, response).catch(() => response.destroy());
  });
  #mood: Mood = 'well';
  #port = 0;
  #calm = false;
  #closed: Promise<unknown> = Promise.resolve();
  readonly #end = new AbortController();

  private constructor(private readonly random: Random) {}

  static async listen(random: Random): Promise<Receiver> {
    const receiver = new Receiver(random);
    await receiver.#listen();
    receiver.#closed = receiver.#live();
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/hook`;
  }

  /** From now on it answers as it should (413 to what is too large for it). */
  calmDown(): void {
    this.#calm = true;
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#closed;
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async #live(): Promise<void> {
    const pause = (ms: number): Promise<void> =>
      sleep(ms, undefined, { signal: this.#end.signal }).catch(() => undefined);
    while (!this.#end.signal.aborted) {
      this.#mood = this.#calm || this.random.chance(0.6) ? 'well' : this.random.pick(MOODS);
      if (this.#mood === 'away') {
        this.#server.closeAllConnections();
        this.#server.close();
        await pause(50 + this.random.below(100));
        await this.#listen();
      } else {
        await pause(this.#mood === 'silent' ? 60 : 20 + this.random.below(180));
      }
    }
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#mood === 'resetting') {
      request.socket.destroy();
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const id = String(request.headers['webhook-id']);
    const { file } = JSON.parse(body) as { file: string };
    const note = (status: number): void => {
      const first = this.#bodies.get(id) ?? body;
      this.#bodies.set(id, first);
      this.received.push({ id, file, body: sha256(body), ...(body !== first && { text: body }), status });
    };
    const answer = (status: number, headers = {}): void => {
      note(status);
      response.writeHead(status, headers).end('what a day');
    };
    switch (this.#mood) {
      case 'broken':
        answer(this.random.pick([500, 502, 503]));
        break;
      case 'busy':
        answer(429, { 'retry-after': '0' });
        break;
      case 'silent':
        note(0);
        break;
      case 'forgetful':
        // It has taken the film, and nobody is told.
        note(0);
        response.destroy();
        break;
      case 'slow':
        await sleep(50);
        answer(this.#verdict(file));
        break;
      default:
        answer(this.#verdict(file));
    }
  }

  #verdict(file: string): number {
    return file.includes('huge') ? 413 : this.random.pick([200, 202, 204]);
  }
}
