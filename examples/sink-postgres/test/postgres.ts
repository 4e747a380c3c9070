import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { chown, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** nobody:nogroup; PostgreSQL refuses to run as root. */
const NOBODY = 65534;

/** The folder of PostgreSQL's programs; undefined where there is none. */
export function findPostgres(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian)
    ? readdirSync(debian).map((version) => join(debian, version, 'bin'))
    : [];
  return [...versions, ...(process.env['PATH'] ?? '').split(':')].find((folder) =>
    ['initdb', 'postgres'].every((program) => existsSync(join(folder, program))),
  );
}

/** A PostgreSQL with a database of its own in a temporary folder, for this machine alone. */
export class Postgres {
  private process: ChildProcess | undefined;

  private constructor(
    private readonly bin: string,
    private readonly folder: string,
    private readonly port: number,
  ) {}

  get url(): string {
    return `postgresql://rxray@127.0.0.1:${this.port}/postgres`;
  }

  static async start(bin: string): Promise<Postgres> {
    const folder = await mkdtemp(join(tmpdir(), 'rxray-postgres-'));
    const postgres = new Postgres(bin, folder, await freePort());
    if (unprivileged.uid !== undefined) await chown(folder, NOBODY, NOBODY);
    const data = join(folder, 'data');
    await promisify(execFile)(
      join(bin, 'initdb'),
      ['-D', data, '-U', 'rxray', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
      { cwd: folder, ...unprivileged },
    );
    await postgres.run();
    return postgres;
  }

  /** Resolves when it takes connections. */
  async run(): Promise<void> {
    const child = spawn(
      join(this.bin, 'postgres'),
      ['-D', join(this.folder, 'data'), '-p', String(this.port), '-k', this.folder, '-h', '127.0.0.1'],
      { cwd: this.folder, stdio: ['ignore', 'ignore', 'pipe'], ...unprivileged },
    );
    this.process = child;
    let log = '';
    for await (const chunk of child.stderr.setEncoding('utf8')) {
      log += String(chunk);
      if (log.includes('ready to accept connections')) break;
    }
    if (child.exitCode !== null) throw new Error(`PostgreSQL did not start: ${log}`);
  }

  async stop(): Promise<void> {
    if (this.process?.exitCode !== null) return;
    // SIGINT is its fast shutdown: connections are cut.
    this.process.kill('SIGINT');
    await once(this.process, 'exit');
  }

  async remove(): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true });
  }
}

const unprivileged: { uid?: number; gid?: number } =
  process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
