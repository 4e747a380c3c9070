import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Debian puts it where users do not look. */
const PROGRAM = process.env['RXRAY_NATS_SERVER'] ?? 'nats-server';
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin`;
/** For a machine with other work to do. */
const START_TIMEOUT_MS = 60_000;
/** How often ports are chosen anew when another process has taken one. */
const ATTEMPTS = 5;

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

  private constructor(
    private readonly host: string,
    ports: readonly (readonly [client: number, cluster: number])[],
    more: readonly string[],
  ) {
    const routes = ports.map(([, cluster]) => `nats://127.0.0.1:${String(cluster)}`).join(',');
    this.#nodes = ports.map(([port, cluster], index) => ({
      port,
      args: [
        ...['--addr', host, '--port', String(port), '--name', `node-${String(index)}`],
        ...[
          '--cluster_name',
          'films',
          '--cluster',
          `nats://127.0.0.1:${String(cluster)}`,
          '--routes',
          routes,
        ],
        ...more,
      ],
    }));
  }

  /** `host`: the address that clients use; `more`: arguments of all nodes. */
  static async start(count: number, host = '127.0.0.1', more: readonly string[] = []): Promise<NatsServers> {
    for (let attempt = 1; ; attempt += 1) {
      const pairs: [number, number][] = [];
      for (let i = 0; i < count; i += 1) pairs.push([await freePort(), await freePort()]);
      const servers = new NatsServers(host, pairs, more);
      const started = await Promise.allSettled(pairs.map((_, index) => servers.restart(index)));
      const failed = started.find((each) => each.status === 'rejected');
      if (failed === undefined) return servers;
      await servers.close();
      if (attempt === ATTEMPTS) throw failed.reason;
    }
  }

  get count(): number {
    return this.#nodes.length;
  }

  get urls(): string[] {
    return this.#nodes.map(({ port }) => `nats://${this.host}:${String(port)}`);
  }

  /** The process ids; undefined for a node that has not been started. */
  get pids(): (number | undefined)[] {
    return this.#nodes.map((node) => node.process?.pid);
  }

  /** The id that a server gives itself at its start, as it greets clients. */
  async idOf(index: number): Promise<string> {
    const node = this.#nodes[index];
    if (node === undefined) throw new Error(`there is no node ${String(index)}`);
    const socket = connect(node.port, this.host);
    try {
      const [greeting] = (await once(socket, 'data')) as [Buffer];
      const info = JSON.parse(greeting.toString().replace(/^INFO /, '')) as { server_id: string };
      return info.server_id;
    } finally {
      socket.destroy();
    }
  }

  async kill(index: number): Promise<void> {
    const child = this.#nodes[index]?.process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Resolves when it takes connections. Rejects, with its log, if it ends before. */
  async restart(index: number): Promise<void> {
    const node = this.#nodes[index];
    if (node === undefined) throw new Error(`there is no node ${String(index)}`);
    const child = spawn(PROGRAM, node.args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, PATH },
    });
    node.process = child;
    let timer: NodeJS.Timeout | undefined;
    let log = '';
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (what: string): void => {
          reject(new Error(`nats-server ${what}:\n${log}`));
        };
        timer = setTimeout(fail, START_TIMEOUT_MS, 'does not listen');
        child.stderr.setEncoding('utf8').on('data', (text: string) => {
          if (log.length < 10_000) log += text;
          if (log.includes('Server is ready')) resolve();
        });
        child.once('error', reject);
        child.once('close', (code) => {
          fail(`has ended with ${String(code)}`);
        });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((_, index) => this.kill(index)));
  }
}

/**
 * A port below the range from which systems choose ports themselves: no connection, and no other test, takes it while its
 * node is down.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    try {
      await once(server.listen(port, '127.0.0.1'), 'listening');
    } catch {
      continue;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}
