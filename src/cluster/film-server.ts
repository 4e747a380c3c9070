import { open, readFile } from 'node:fs/promises';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer } from 'node:https';
import { pipeline } from 'node:stream/promises';
import { once } from 'node:events';
import { messageOf, RxrayError } from '../core/errors.js';
import { isSecret } from '../core/http.js';
import type { Candidate } from '../core/plugin.js';
import { decode, encode, type Results } from './protocol.js';

/** Where the head serves films, and takes results. */
export interface FilmServerOptions {
  readonly host: string;
  readonly port: number;
  /** Files (PEM). Without them: plain HTTP. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** What requests must have as `Authorization: Bearer …`. */
  readonly token: string;
  /** The film of an id, while it is in flight. */
  readonly filmOf: (id: string) => Candidate | undefined;
  /** Reserves memory for results that have arrived; undefined if there is too little now. */
  readonly reserve: (bytes: number) => Release | undefined;
  /** Takes results, and releases their memory when it is not needed any more. Returns false if they are of another head. */
  readonly take: (message: unknown, release: Release) => boolean;
}

type Release = () => void;

/** The largest message of results: a picture of 8192 × 8192. */
const MOST_BYTES = 256 * 1024 ** 2;

/** Serves the files of films in flight to workers (`GET /films/ID`), and takes results (`POST /results`). */
export class FilmServer {
  private constructor(private readonly server: Server) {}

  /** Throws CONFIG_CREATE. */
  static async open(options: FilmServerOptions): Promise<FilmServer> {
    const { host, port, cert, key, token, filmOf } = options;
    const respond: RequestListener = (request, response) => {
      const { headers, method, url = '' } = request;
      const refuse = (status: number): void => {
        response.writeHead(status).end();
      };
      if (!isSecret(headers.authorization ?? '', `Bearer ${token}`)) {
        refuse(401);
        return;
      }
      if (method === 'POST' && url === '/results') {
        receive(request, options).then(refuse, () => response.destroy());
        return;
      }
      const [, id = ''] = /^\/films\/([0-9a-f]+)$/.exec(url) ?? [];
      const film = method === 'GET' ? filmOf(id) : undefined;
      if (film === undefined) {
        refuse(404);
        return;
      }
      send(film, response).catch(() => {
        // A worker that breaks off asks again.
        if (response.headersSent) response.destroy();
        else refuse(404);
      });
    };
    try {
      const isPlain = cert === undefined || key === undefined;
      const server = isPlain
        ? createHttpServer(respond)
        : createServer({ cert: await readFile(cert), key: await readFile(key) }, respond);
      server.listen(port, host);
      await once(server, 'listening');
      return new FilmServer(server);
    } catch (cause) {
      const message = `films cannot be served at ${host}:${String(port)} (\`cluster.serve\`): ${messageOf(cause)}`;
      throw new RxrayError('CONFIG_CREATE', message, { cause });
    }
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async close(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }
}

/** Sends a film's file. Rejects, with an incomplete response, if it is not, or no longer, the file that was offered. */
async function send(film: Candidate, response: ServerResponse): Promise<void> {
  const { path, size, mtimeMs } = film.copy ?? film.replay?.copy ?? film;
  const file = await open(path);
  try {
    const check = async (): Promise<void> => {
      const now = await file.stat();
      if (!now.isFile() || now.size !== size || now.mtimeMs !== mtimeMs)
        throw new Error('the file has changed');
    };
    await check();
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    await pipeline(file.createReadStream({ autoClose: false }), response, { end: false });
    await check();
    response.end();
  } finally {
    await file.close();
  }
}

/** Takes the results in a request. Resolves with the status of the response; rejects if the request breaks off. */
async function receive(request: IncomingMessage, { reserve, take }: FilmServerOptions): Promise<number> {
  const size = Number(request.headers['content-length']);
  if (!(size <= MOST_BYTES)) return 413;
  const release = reserve(size);
  const bytes = release && Buffer.allocUnsafeSlow(size);
  try {
    let filled = 0;
    // Without memory the request is read nevertheless: a client gets the response when it has sent everything.
    for await (const chunk of request as AsyncIterable<Buffer>) {
      if (bytes !== undefined) filled += chunk.copy(bytes, filled);
    }
  } catch (error) {
    release?.();
    throw error;
  }
  if (release === undefined || bytes === undefined) return BUSY;
  let message: unknown;
  try {
    message = decode(bytes);
  } catch {
    release();
    return 400;
  }
  return take(message, release) ? 204 : 409;
}

const BUSY = 503;

/** How workers reach the head's server. */
export interface HeadAddress {
  /** `https://head.example:8485` */
  readonly url: string;
  readonly token: string;
}

/** The bytes of a film in flight, in shared memory; null if the head does not have it. Throws if it cannot be reached. */
export async function fetchFilm(address: HeadAddress, id: string, size: number): Promise<Uint8Array | null> {
  const response = await request(address, `/films/${id}`);
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    if (response.status === 404) return null;
    throw new Error(`the head answered ${String(response.status)}`);
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(size));
  let filled = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    if (filled + chunk.length > size) return null;
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  return filled === size ? bytes : null;
}

/**
 * Sends results to the head. Returns whether it has confirmed them; if not, it has no memory for them now, or another head
 * runs. Throws if it cannot be reached.
 */
export async function sendResults(address: HeadAddress, results: Results): Promise<boolean> {
  const response = await request(address, '/results', { method: 'POST', body: Buffer.from(encode(results)) });
  await response.body?.cancel();
  if (response.ok) return true;
  if (response.status === BUSY || response.status === 409) return false;
  throw new Error(`the head answered ${String(response.status)}`);
}

function request({ url, token }: HeadAddress, path: string, more: RequestInit = {}): Promise<Response> {
  return fetch(new URL(path, url), {
    ...more,
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(FETCH_MS),
  }).catch((thrown: unknown) => {
    const { message, cause } = thrown as Error;
    // `fetch` says why it failed in the cause: a certificate that is not trusted, a closed port.
    throw new Error(cause instanceof Error ? cause.message : message, { cause });
  });
}

const FETCH_MS = 60_000;
