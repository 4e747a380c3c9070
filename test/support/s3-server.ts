import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { freePort } from '../cluster/nats-servers.js';

/** rclone 1.65 or later: Debian's is older, so `.ci/run` installs it with the packages of Python. */
const PROGRAM = process.env['RXRAY_RCLONE'] ?? join(process.env['PYTHONPATH'] ?? '', 'bin/rclone');

/** The environment of an S3 client that may use the server. */
export const S3_KEYS = {
  AWS_ACCESS_KEY_ID: 'films',
  AWS_SECRET_ACCESS_KEY: 'a-secret-for-tests',
  AWS_REGION: 'eu-central-1',
};

/** Sets variables of the environment; returns what restores it. */
export function setEnvironment(values: Readonly<Record<string, string | undefined>>): () => void {
  const before = Object.keys(values).map((name) => [name, process.env[name]] as const);
  const set = (name: string, value: string | undefined): void => {
    if (value === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = value;
  };
  for (const [name, value] of Object.entries(values)) set(name, value);
  return () => {
    for (const [name, value] of before) set(name, value);
  };
}

/** The version of the S3 server on this machine; undefined without one. */
export function s3Version(): string | undefined {
  const { status, stdout } = spawnSync(PROGRAM, ['version'], { encoding: 'utf8' });
  return status === 0 && /v1\.(6[5-9]|[7-9]\d)/.test(stdout) ? stdout.split('\n')[0] : undefined;
}

/** An S3 server (`rclone serve s3`) over a folder, with a bucket `films`. */
export class S3Server {
  #process: ChildProcess | undefined;

  private constructor(
    private readonly folder: string,
    readonly port: number,
  ) {}

  static async start(objects: Readonly<Record<string, string | Uint8Array>>): Promise<S3Server> {
    const folder = await mkdtemp(join(tmpdir(), 'rxray-s3-'));
    for (const [key, bytes] of Object.entries(objects)) {
      await mkdir(dirname(join(folder, 'films', key)), { recursive: true });
      await writeFile(join(folder, 'films', key), bytes);
    }
    const server = new S3Server(folder, await freePort());
    await server.restart();
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${String(this.port)}`;
  }

  /** Resolves when it takes connections. */
  async restart(): Promise<void> {
    const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret } = S3_KEYS;
    const address = `127.0.0.1:${String(this.port)}`;
    const args = ['serve', 's3', this.folder, '--addr', address, '--auth-key', `${id},${secret}`];
    const child = spawn(PROGRAM, args, {
      stdio: 'ignore',
      env: { ...process.env, RCLONE_CONFIG: join(this.folder, 'rclone.conf') },
    });
    this.#process = child;
    while (!(await this.#answers())) {
      if (child.exitCode !== null) throw new Error(`rclone has ended with ${String(child.exitCode)}`);
    }
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    const socket = connect(this.port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return true;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return false;
    } finally {
      socket.destroy();
    }
  }
}

/** In front of a server: cuts each of the first connections after so many bytes of its answer. */
export class CuttingProxy {
  /** The headers of all requests. */
  readonly requests: string[] = [];
  readonly #sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  static async before(port: number, cuts: readonly number[]): Promise<CuttingProxy> {
    const left = [...cuts];
    const server = createServer((client) => {
      const upstream = connect(port, '127.0.0.1');
      for (const socket of [client, upstream]) {
        proxy.#sockets.add(socket);
        socket.on('error', () => undefined).once('close', () => (client.destroy(), upstream.destroy()));
      }
      const most = left.shift() ?? Infinity;
      let sent = 0;
      client.on('data', (data: Buffer) => {
        proxy.requests.push(data.toString('latin1'));
        upstream.write(data);
      });
      upstream.on('data', (data: Buffer) => {
        sent += data.length;
        client.write(data.subarray(0, Math.max(0, data.length - Math.max(0, sent - most))), () => {
          if (sent >= most) client.destroy();
        });
      });
    }).listen(0, '127.0.0.1');
    const proxy = new CuttingProxy(server);
    await once(server, 'listening');
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${String((this.server.address() as AddressInfo).port)}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.server.close();
  }
}
