import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NatsServers } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const INDEX = new URL('../../dist/index.js', import.meta.url).href;

/** What is done to the cluster while films are in flight. */
export const FAULTS = {
  'worker killed': (lab: Lab) => lab.killWorker(),
  'worker stopped for longer than its lease': (lab: Lab) => lab.freezeWorker(),
  'worker ended by SIGTERM': (lab: Lab) => lab.endWorker(),
  'node killed': (lab: Lab) => lab.killNode(),
  'all nodes killed': (lab: Lab) => lab.killNodes(),
  'head killed': (lab: Lab) => lab.killHead(),
} as const;
export type Fault = keyof typeof FAULTS;

export interface Plan {
  readonly films: number;
  /** Films that end whatever process runs their stage. */
  readonly poison: number;
  readonly workers: number;
  readonly leaseMs: number;
  /** How long the stage sleeps for a film. */
  readonly sleepMs: number;
  /** In their order, at even distances. */
  readonly faults: readonly Fault[];
  /** Told of each fault as it happens. */
  readonly tell?: (line: string) => void;
}

export interface Report {
  readonly films: number;
  readonly lost: number;
  readonly double: number;
  /** Films that failed though nothing is wrong with them, and poison that was delivered. */
  readonly wronged: number;
  readonly faults: number;
  readonly stallSeconds: number;
  readonly seconds: number;
  /** The head's own CPU per film, in microseconds, over all its lives. */
  readonly headMicroseconds: number;
}

/** The stage sleeps, as one does that waits for a device; poison ends its process as a fault in native code would. */
const stage = (sleepMs: number): string => `
import { defineStage, z } from ${JSON.stringify(INDEX)};
export default defineStage({
  name: 'sleeper', summary: 'Sleeps.', options: z.strictObject({}), runsIn: 'main',
  create: () => ({
    async process(frame) {
      await new Promise((done) => setTimeout(done, ${String(sleepMs)}));
      const text = Buffer.from(frame.encoded).toString();
      if (text.includes('poison')) process.kill(process.pid, 'SIGKILL');
      return { ...frame, results: { sleeper: { kind: 'text', text } } };
    },
  }),
});
`;

const pipeline = (servers: readonly string[], leaseMs: number): string => `
version: 1
name: trial
cluster:
  use: nats
  with: { servers: ${JSON.stringify(servers)} }
  leaseMs: ${String(leaseMs)}
  frames: 500
sources:
  - use: manifest
    with: { path: ./films.csv }
stages:
  - use: ./sleeper.mjs
    concurrency: 16
sinks:
  - use: jsonl
    with: { path: ./out.jsonl }
`;

/** Runs a head and workers over three nodes, with faults, until all films are settled, and counts. */
export async function trial(plan: Plan): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-cluster-'));
  const servers = await NatsServers.start(3);
  const lab = new Lab(folder, servers, plan);
  try {
    return await lab.run();
  } finally {
    await lab.close();
    await servers.close();
    await rm(folder, { recursive: true, force: true });
  }
}

class Lab {
  readonly #workers: ChildProcess[] = [];
  #head: ChildProcess | undefined;
  #turn = 0;
  #headEnded = false;
  #cpuMicroseconds = 0;

  constructor(
    private readonly folder: string,
    private readonly servers: NatsServers,
    private readonly plan: Plan,
  ) {}

  async run(): Promise<Report> {
    const { plan } = this;
    const names = Array.from({ length: plan.films }, (_, i) => `films/${String(i % 100)}/${String(i)}.txt`);
    for (let i = 0; i < 100; i += 1)
      await mkdir(join(this.folder, `films/${String(i)}`), { recursive: true });
    const every = Math.floor(plan.films / (plan.poison + 1));
    const isPoison = (i: number): boolean =>
      plan.poison > 0 && i > 0 && i % every === 0 && i / every <= plan.poison;
    await Promise.all(
      names.map((name, i) =>
        writeFile(join(this.folder, name), isPoison(i) ? `poison ${String(i)}` : `film ${String(i)}`),
      ),
    );
    await writeFile(join(this.folder, 'films.csv'), `path\n${names.join('\n')}\n`);
    await writeFile(join(this.folder, 'sleeper.mjs'), stage(plan.sleepMs));
    await writeFile(join(this.folder, 'pipeline.yaml'), pipeline(this.servers.urls, plan.leaseMs));
    for (let i = 0; i < plan.workers; i += 1) this.#workers.push(this.#startWorker());
    this.#startHead();

    const started = performance.now();
    let [last, moved, stall, next] = [0, performance.now(), 0, 0];
    while (!this.#headEnded) {
      await setTimeout(50);
      const bytes = await sizeOf(join(this.folder, 'out.jsonl'));
      const now = performance.now();
      if (bytes > last) {
        if (last > 0) stall = Math.max(stall, now - moved);
        [last, moved] = [bytes, now];
      }
      // A film's line is of one length, nearly.
      const share = bytes / BYTES_A_LINE / plan.films;
      const fault = plan.faults[next];
      if (fault !== undefined && share * (plan.faults.length + 1) > next + 1) {
        next += 1;
        plan.tell?.(`${((now - started) / 1000).toFixed(1)} s: ${fault}`);
        await FAULTS[fault](this);
      }
    }
    const seconds = (performance.now() - started) / 1000;

    const seen = new Map<string, number>();
    for (const line of (await readFile(join(this.folder, 'out.jsonl'), 'utf8')).split('\n').slice(0, -1)) {
      const { file, results } = JSON.parse(line) as { file: string; results: { sleeper: { text: string } } };
      const text = `${isPoison(numberOf(file)) ? 'poison' : 'film'} ${String(numberOf(file))}`;
      if (results.sleeper.text !== text) throw new Error(`${file} has the result of another film`);
      seen.set(file, (seen.get(file) ?? 0) + 1);
    }
    const letters = join(this.folder, '.rxray/deadletter');
    const failed = new Set<string>();
    for (const id of (await readdir(letters).catch(() => [])).filter((name) => !name.startsWith('.'))) {
      failed.add(
        (JSON.parse(await readFile(join(letters, id, 'reason.json'), 'utf8')) as { file: string }).file,
      );
    }
    const wronged = names.filter((name, i) => failed.has(name) !== isPoison(i)).length;
    return {
      films: plan.films,
      lost: names.filter((name) => !seen.has(name) && !failed.has(name)).length,
      double: [...seen.values()].filter((count) => count > 1).length,
      wronged,
      faults: next,
      stallSeconds: stall / 1000,
      seconds,
      headMicroseconds: this.#cpuMicroseconds / plan.films,
    };
  }

  async killWorker(): Promise<void> {
    const index = this.#next(this.#workers.length);
    await kill(this.#workers[index]);
    this.#workers[index] = this.#startWorker();
  }

  async freezeWorker(): Promise<void> {
    const worker = this.#workers[this.#next(this.#workers.length)];
    worker?.kill('SIGSTOP');
    await setTimeout(1.6 * this.plan.leaseMs);
    worker?.kill('SIGCONT');
  }

  async endWorker(): Promise<void> {
    const index = this.#next(this.#workers.length);
    this.#workers[index]?.kill('SIGTERM');
    this.#workers[index] = this.#startWorker();
    await Promise.resolve();
  }

  async killNode(): Promise<void> {
    const index = this.#next(this.servers.count);
    await this.servers.kill(index);
    await setTimeout(200);
    await this.servers.restart(index);
  }

  async killNodes(): Promise<void> {
    const indices = Array.from({ length: this.servers.count }, (_, index) => index);
    await Promise.all(indices.map((index) => this.servers.kill(index)));
    await setTimeout(200);
    await Promise.all(indices.map((index) => this.servers.restart(index)));
  }

  async killHead(): Promise<void> {
    await this.#countCpu();
    const head = this.#head;
    this.#head = undefined;
    await kill(head);
    this.#startHead();
  }

  async close(): Promise<void> {
    const head = this.#head;
    this.#head = undefined;
    await Promise.all([kill(head), ...this.#workers.map(kill)]);
  }

  #next(count: number): number {
    this.#turn += 1;
    return this.#turn % count;
  }

  #startHead(): void {
    const head = this.#launch('head', ['head', join(this.folder, 'pipeline.yaml'), '--once']);
    this.#head = head;
    const cpu = setInterval(() => void this.#countCpu(), 200);
    head.once('exit', () => {
      clearInterval(cpu);
      this.#lives += this.#life;
      this.#life = 0;
      this.#cpuMicroseconds = this.#lives;
      if (this.#head === head) this.#headEnded = true;
    });
  }
  #lives = 0;
  #life = 0;

  async #countCpu(): Promise<void> {
    const pid = this.#head?.pid;
    if (pid === undefined) return;
    const text = await readFile(`/proc/${String(pid)}/stat`, 'utf8').catch(() => '');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // utime and stime, in hundredths of a second.
    const ticks = Number(fields[11]) + Number(fields[12]);
    if (Number.isFinite(ticks)) this.#life = Math.max(this.#life, ticks * 10_000);
  }

  #startWorker(): ChildProcess {
    const worker = this.#launch('worker', ['work', '--servers', this.servers.urls.join(',')]);
    worker.once('exit', (_, signal) => {
      // Poison has ended it; whoever schedules workers starts another.
      const index = this.#workers.indexOf(worker);
      if (signal === 'SIGKILL' && index !== -1 && !this.#headEnded && this.#head !== undefined) {
        this.#workers[index] = this.#startWorker();
      }
    });
    return worker;
  }

  #launch(name: string, args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, [CLI, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', RXRAY_LOG: 'warn' },
    });
    child.stderr.pipe(createWriteStream(join(this.folder, `${name}.log`), { flags: 'a' }));
    return child;
  }
}

/** What jsonl writes for a film of the trial, about. */
const BYTES_A_LINE = 215;

function numberOf(file: string): number {
  return Number(/(\d+)\.txt$/.exec(file)?.[1]);
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (child?.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGCONT');
  child.kill('SIGKILL');
  await once(child, 'exit');
}

export function summary({ films, lost, double, wronged, faults, stallSeconds }: Report): string {
  const counts = `${String(films)} films, ${String(lost)} lost, ${String(double)} double, ${String(wronged)} wronged`;
  return `${counts}, ${String(faults)} faults, longest stall ${stallSeconds.toFixed(1)} s`;
}
