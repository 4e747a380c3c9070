import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

/** A real HTTP proxy on this machine, for which every host is the one at `target`. */
export class Proxy {
  /** What it was asked for, with its credentials: `POST http://host/path`, `CONNECT host:443 Basic …`. */
  readonly asked: string[] = [];
  /** Answers the next requests itself, with this status. */
  refuses: number | undefined;
  url = '';
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((incoming, outgoing) => {
    this.#note(incoming.method, incoming.url, incoming.headers['proxy-authorization']);
    if (this.refuses !== undefined) {
      outgoing.writeHead(this.refuses).end();
      return;
    }
    const { method, headers } = incoming;
    const { pathname } = new URL(incoming.url ?? '');
    const onward = request(
      { port: this.target, host: '127.0.0.1', method, path: pathname, headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
      },
    );
    incoming.pipe(onward);
  });

  private constructor(private readonly target: number) {
    this.#server.on('connection', (socket: Socket) => this.#sockets.add(socket));
    this.#server.on('connect', (incoming, socket: Socket) => {
      this.#note('CONNECT', incoming.url, incoming.headers['proxy-authorization']);
      if (this.refuses !== undefined) {
        socket.end(`HTTP/1.1 ${this.refuses} No\r\n\r\n`);
        return;
      }
      const onward = connect(this.target, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        socket.pipe(onward).pipe(socket);
      });
      for (const end of [socket, onward]) end.on('error', () => end.destroy());
    });
  }

  static async listen(target: number): Promise<Proxy> {
    const proxy = new Proxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${(proxy.#server.address() as AddressInfo).port}`;
    return proxy;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #note(method = '', url = '', credentials = ''): void {
    this.asked.push(`${method} ${url} ${credentials}`.trim());
  }
}
