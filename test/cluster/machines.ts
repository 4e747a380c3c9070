import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const ip = (...args: string[]): Promise<unknown> => execute('ip', args);

/** `out`: nothing that the machine sends arrives; `in`: nothing arrives at it. */
export type Cut = 'both' | 'in' | 'out';

/** Nobody has it: packets to it are dropped without an error. */
const NOBODY = '02:00:00:00:00:99';

/**
 * Machines as network namespaces on one bridge, whose network can be cut while connections are open: no packet arrives,
 * and no side gets an error. Needs root and iproute2 (Linux).
 */
export class Machines {
  readonly #name: string;
  readonly #net: string;

  private constructor(private readonly count: number) {
    this.#name = `rx${String(process.pid % 1_000_000)}`;
    this.#net = `10.${String(100 + (process.pid % 100))}.${String(Math.floor(process.pid / 100) % 250)}`;
  }

  /** Undefined where they cannot be made. */
  static async create(count: number): Promise<Machines | undefined> {
    const machines = new Machines(count);
    try {
      await machines.#create();
      return machines;
    } catch {
      machines.close();
      return undefined;
    }
  }

  /** The address of this machine, as the others see it. */
  get hub(): string {
    return `${this.#net}.1`;
  }

  /** The start of a command that runs on a machine. */
  on(index: number): readonly string[] {
    return ['ip', 'netns', 'exec', this.#namespace(index)];
  }

  async cut(index: number, how: Cut): Promise<void> {
    if (how === 'both') await ip('link', 'set', this.#cable(index), 'down');
    if (how === 'in') {
      await ip(
        'neigh',
        'replace',
        this.#address(index),
        'lladdr',
        NOBODY,
        'dev',
        this.#name,
        'nud',
        'permanent',
      );
    }
    if (how === 'out') {
      const arp = ['neigh', 'replace', this.hub, 'lladdr', NOBODY, 'dev', 'eth0', 'nud', 'permanent'];
      await ip('-n', this.#namespace(index), ...arp);
    }
  }

  async mend(index: number, how: Cut): Promise<void> {
    if (how === 'both') await ip('link', 'set', this.#cable(index), 'up');
    if (how === 'in') await ip('neigh', 'del', this.#address(index), 'dev', this.#name);
    if (how === 'out') await ip('-n', this.#namespace(index), 'neigh', 'del', this.hub, 'dev', 'eth0');
  }

  /** Whether the machine can open a connection to a port of this one. */
  async reaches(index: number, port: number): Promise<boolean> {
    const [command = '', ...args] = [
      ...this.on(index),
      ...['timeout', '0.5', 'bash', '-c', `exec 3<>/dev/tcp/${this.hub}/${String(port)}`],
    ];
    return execute(command, args).then(
      () => true,
      () => false,
    );
  }

  close(): void {
    process.off('exit', this.#onExit);
    const remove = (...args: string[]): void => {
      try {
        execFileSync('ip', args, { stdio: 'ignore' });
      } catch {
        // It was not created.
      }
    };
    for (let i = 0; i < this.count; i += 1) {
      remove('netns', 'del', this.#namespace(i));
      remove('link', 'del', this.#cable(i));
    }
    remove('link', 'del', this.#name);
  }
  readonly #onExit = (): void => this.close();

  async #create(): Promise<void> {
    process.on('exit', this.#onExit);
    await ip('link', 'add', this.#name, 'type', 'bridge');
    await ip('addr', 'add', `${this.hub}/24`, 'dev', this.#name);
    await ip('link', 'set', this.#name, 'up');
    for (let i = 0; i < this.count; i += 1) {
      const namespace = this.#namespace(i);
      await ip('netns', 'add', namespace);
      await ip('link', 'add', this.#cable(i), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
      await ip('link', 'set', this.#cable(i), 'master', this.#name, 'up');
      await ip('-n', namespace, 'addr', 'add', `${this.#address(i)}/24`, 'dev', 'eth0');
      await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
      await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    }
  }

  #namespace(index: number): string {
    return `${this.#name}m${String(index)}`;
  }

  #cable(index: number): string {
    return `${this.#name}v${String(index)}`;
  }

  #address(index: number): string {
    return `${this.#net}.${String(10 + index)}`;
  }
}
