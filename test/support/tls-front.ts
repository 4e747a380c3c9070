import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';

/** A key and a certificate for 127.0.0.1 that nobody but itself has signed, in PEM; undefined without openssl. */
export function selfSigned(): { key: string; cert: string } | undefined {
  const options =
    '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout - -days 1 -subj /CN=localhost ' +
    '-addext subjectAltName=DNS:localhost,IP:127.0.0.1';
  const { status, stdout } = spawnSync('openssl', ['req', '-x509', ...options.split(' ')], {
    encoding: 'utf8',
  });
  if (status !== 0) return undefined;
  const [key = '', cert = ''] = stdout.split(/(?=-----BEGIN CERTIFICATE)/);
  return { key, cert };
}

/** TLS in front of a server of this machine that has none, as a reverse proxy gives it. */
export class TlsFront {
  private constructor(private readonly server: Server) {}

  static async before(port: number, identity: { key: string; cert: string }): Promise<TlsFront> {
    const server = createServer(identity, (incoming, response) => {
      const { url: path, method, headers } = incoming;
      const forwarded = request({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      forwarded.on('error', () => response.destroy());
      incoming.pipe(forwarded);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TlsFront(server);
  }

  get origin(): string {
    return `https://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
