import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { messageOf, RxrayError } from '../core/errors.js';
import { isCode } from '../core/files.js';
import type { Log } from '../core/plugin.js';
import { controlAddress, prepareAddress } from './address.js';
import type { Controlled, ControlApp } from './app.js';
import { isLoopback, type Entrance } from './guard.js';

/** Where the page is served: `8484`, `127.0.0.1:8484`, `[::1]:8484`; port 0 takes any that is free. */
export interface Listen {
  readonly host: string;
  readonly port: number;
  /** Any free port if this one is in use. */
  readonly orAnother?: boolean;
}

/** Maximum number of connections per server; more are closed at once. */
const MAX_CONNECTIONS = 100;
/** Idle connections are closed after this time. */
const TIMEOUTS = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 5_000,
};

/** The token that the user has set. Throws CONTROL_ADDRESS if it is blank: requests without a token would match it. */
function givenToken(): string | undefined {
  const token = process.env['RXRAY_TOKEN'];
  if (token?.trim() === '') {
    throw new RxrayError(
      'CONTROL_ADDRESS',
      'RXRAY_TOKEN is empty: set it to a secret (`openssl rand -base64 24`), or unset it to have one generated',
    );
  }
  return token?.trim();
}

/** Serves the interface of one process on its socket and, with `--page`, as the page. Loaded at the first request. */
export class ControlServer {
  readonly #servers: Server[] = [];
  #app: Promise<ControlApp> | undefined;
  #socket: string | undefined;

  constructor(
    private readonly controlled: Controlled,
    private readonly log: Log,
  ) {}

  /**
   * Listens on the socket of the state folder, for the same user's programs. Call it in the process that holds the
   * folder's journal: the socket of an earlier process is replaced. If that fails, the graph runs without a socket.
   */
  async listenOnSocket(stateDir: string): Promise<void> {
    const address = controlAddress(stateDir);
    try {
      prepareAddress(address, stateDir);
      const pipe = process.platform === 'win32';
      if (!pipe) rmSync(address, { force: true });
      const server = this.#serve({ kind: 'socket' });
      // Created with a mask, so that no other user can ever open it.
      const umask = process.umask(0o177);
      server.listen(address);
      process.umask(umask);
      await once(server, 'listening');
      if (!pipe) chmodSync(address, 0o600);
      this.#socket = pipe ? undefined : address;
    } catch (error) {
      this.log.warn({}, `top, tap and graph --live will not find this process: ${messageOf(error)}`);
    }
  }

  /** Serves the page; returns its address, with the token where one is needed. Throws CONTROL_ADDRESS. */
  async listenOnPort({ host, port }: Listen): Promise<string> {
    const local = isLoopback(host);
    const token = givenToken() ?? (local ? undefined : randomBytes(24).toString('base64url'));
    const server = this.#serve({ kind: local ? 'loopback' : 'network', token });
    server.listen(port, host);
    try {
      await once(server, 'listening');
    } catch (cause) {
      this.#servers.splice(this.#servers.indexOf(server), 1);
      throw new RxrayError(
        'CONTROL_ADDRESS',
        `the page cannot be served on ${host}:${port}: ${isCode(cause, 'EADDRINUSE') ? 'another program uses the port (does rxray run already?)' : messageOf(cause)}`,
        {
          cause,
        },
      );
    }
    const { port: bound } = server.address() as AddressInfo;
    const name = host.includes(':') ? `[${host}]` : host;
    return `http://${name}:${bound}/${token === undefined ? '' : `#token=${token}`}`;
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    if (this.#socket !== undefined) rmSync(this.#socket, { force: true });
    await (await this.#app)?.close();
  }

  /** The routes are loaded at the first request, so that the start does not wait for them. */
  #serve(entrance: Entrance): Server {
    let listener: Promise<RequestListener> | undefined;
    const server = createServer(TIMEOUTS, (incoming, outgoing) => {
      listener ??= this.#listener(entrance);
      void listener.then((listen) => listen(incoming, outgoing));
    });
    // Clients must not keep the process alive, nor use up its file handles.
    server.unref();
    server.maxConnections = MAX_CONNECTIONS;
    this.#servers.push(server);
    return server;
  }

  async #listener(entrance: Entrance): Promise<RequestListener> {
    const { getRequestListener } = await import('@hono/node-server');
    this.#app ??= import('./app.js').then(({ ControlApp }) => new ControlApp(this.controlled));
    const routes = (await this.#app).routes(entrance);
    const listener = getRequestListener(routes.fetch, { overrideGlobalObjects: false });
    return (incoming, outgoing) => void listener(incoming, outgoing);
  }
}
