import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect, type AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

/** Debian puts it where users do not look. */
const PROGRAM = process.env['RXRAY_NATS_SERVER'] ?? 'nats-server';
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin`;

/** The version of the server on this machine; undefined without one. */
export function natsVersion(): string | undefined {
  const { status, stdout } = spawnSync(PROGRAM, ['--version'], {
    encoding: 'utf8',
    env: { ...process.env, PATH },
  });
  return status === 0 ? stdout.trim().replace(/^nats-server: /, '') : undefined;
}

/** A cluster of NATS servers on the loopback interface, without JetStream. */
export class NatsServers {
  readonly #nodes: { readonly port: number; readonly args: readonly string[]; process?: ChildProcess }[];

  private constructor(ports: readonly (readonly [client: number, cluster: number])[]) {
    const routes = ports.map(([, cluster]) => `nats://127.0.0.1:${String(cluster)}`).join(',');
    this.#nodes = ports.map(([port, cluster], index) => ({
      port,
      args: [
        ...['--addr', '127.0.0.1', '--port', String(port), '--name', `node-${String(index)}`],
        ...[
          '--cluster_name',
          'films',
          '--cluster',
          `nats://127.0.0.1:${String(cluster)}`,
          '--routes',
          routes,
        ],
      ],
    }));
  }

  static async start(count: number): Promise<NatsServers> {
    const pairs: [number, number][] = [];
    for (let i = 0; i < count; i += 1) pairs.push([await freePort(), await freePort()]);
    const servers = new NatsServers(pairs);
    await Promise.all(pairs.map((_, index) => servers.restart(index)));
    return servers;
  }

  get count(): number {
    return this.#nodes.length;
  }

  get urls(): string[] {
    return this.#nodes.map(({ port }) => `nats://127.0.0.1:${String(port)}`);
  }

  async kill(index: number): Promise<void> {
    const child = this.#nodes[index]?.process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Resolves when it takes connections. */
  async restart(index: number): Promise<void> {
    const node = this.#nodes[index];
    if (node === undefined) throw new Error(`there is no node ${String(index)}`);
    node.process = spawn(PROGRAM, node.args, { stdio: 'ignore', env: { ...process.env, PATH } });
    for (let attempt = 0; ; attempt += 1) {
      if (await accepts(node.port)) return;
      if (attempt === 500) throw new Error('nats-server does not listen');
      await setTimeout(20);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((_, index) => this.kill(index)));
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
