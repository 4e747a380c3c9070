import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import Database from 'libsql';
import { ControlClient } from '../../src/control/client.js';
import type { Random } from '../chaos/random.js';
import { Machines, type Cut } from './machines.js';
import { NatsServers } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
/** Says what durable steps the head takes, and kills it at one. */
const PRELOAD = new URL('../chaos/preload.mjs', import.meta.url).href;

/** What is done to the cluster while films are in flight. Each rejects if it did not hit. */
export const FAULTS = {
  'worker killed': (lab: Lab) => lab.killWorker(),
  'worker killed, its disk wiped': (lab: Lab) => lab.killWorker({ wipe: true }),
  'all workers killed, their disks wiped': (lab: Lab) => lab.killWorkers(),
  'worker stopped for longer than its lease': (lab: Lab) => lab.freezeWorker(),
  'worker ended by SIGTERM': (lab: Lab) => lab.endWorker(),
  'node killed': (lab: Lab) => lab.killNode(),
  'node stopped': (lab: Lab) => lab.freezeNode(),
  'all nodes killed': (lab: Lab) => lab.killNodes(),
  'head killed': (lab: Lab) => lab.killHead(),
  'head stopped for longer than a lease': (lab: Lab) => lab.freezeHead(),
  'worker cut off': (lab: Lab) => lab.cutWorker('both'),
  'worker cut off, one way (in)': (lab: Lab) => lab.cutWorker('in'),
  'worker cut off, one way (out)': (lab: Lab) => lab.cutWorker('out'),
  'head cut off': (lab: Lab) => lab.cutHead('both'),
  'head cut off, one way (in)': (lab: Lab) => lab.cutHead('in'),
  'head cut off, one way (out)': (lab: Lab) => lab.cutHead('out'),
  'graph changed': (lab: Lab) => lab.changeGraph(),
  'graph changed while a worker is stopped': (lab: Lab) => lab.changeGraphBehindAWorker(),
} as const;
export type Fault = keyof typeof FAULTS;

/** How often a kind comes among {@link faultsOf}; once without a number. */
const WEIGHTS: Partial<Record<Fault, number>> = {
  'worker killed': 6,
  'worker killed, its disk wiped': 2,
  'worker stopped for longer than its lease': 5,
  'worker ended by SIGTERM': 3,
  'node killed': 5,
  'all nodes killed': 2,
  'head killed': 6,
  'worker cut off': 2,
};

/** All kinds in turns, in a random order. */
export function faultsOf(
  count: number,
  random: Random,
  kinds: readonly Fault[] = Object.keys(FAULTS) as Fault[],
): Fault[] {
  const weighted = kinds.flatMap((kind) => Array<Fault>(WEIGHTS[kind] ?? 1).fill(kind));
  const faults: Fault[] = [];
  while (faults.length < count) {
    const left = [...weighted];
    while (left.length > 0) faults.push(...left.splice(random.below(left.length), 1));
  }
  return faults.slice(0, count);
}
export const isCut = (fault: Fault): boolean => fault.includes('cut off');

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
  /** Moments of the head's durable steps (`journal.commit before`): it is killed at each when it comes to it. */
  readonly moments?: readonly string[];
  /** Seconds without a film after which the trial is given up. */
  readonly patienceSeconds?: number;
  /** When the sink is down: after so many seconds, for so many. */
  readonly outage?: { readonly afterSeconds: number; readonly seconds: number };
  /** The program's main file. */
  readonly main?: string;
  /** Told of each fault as it happens. */
  readonly tell?: (line: string) => void;
}

export interface Report {
  readonly films: number;
  /** Neither delivered nor failed. */
  readonly lost: number;
  readonly double: number;
  /** Films that failed though nothing is wrong with them, and poison that was delivered. */
  readonly wronged: number;
  /** Films whose result is not of the graph that the journal has for them. */
  readonly mixed: number;
  /** Graphs that films were done by. */
  readonly graphs: number;
  readonly faults: number;
  /** Those faults that hit while workers had films. */
  readonly inFlight: number;
  /** Moments that the head came by, and those at which it was killed. */
  readonly moments: ReadonlySet<string>;
  readonly diedAt: ReadonlySet<string>;
  /** Longest time without a film. */
  readonly stallSeconds: number;
  /** The longest time without a film after each fault. */
  readonly stalls: readonly { readonly fault: string; readonly seconds: number }[];
  readonly seconds: number;
  /** The head's own CPU per film, in microseconds, over all its lives. */
  readonly headMicroseconds: number;
  /** The head's resident memory (MiB) in the first and the last quarter of the sink's outage. */
  readonly outageMiB?: readonly [first: number, last: number];
}

/** The module that plugins of a program import. */
const indexOf = (main: string): string => pathToFileURL(join(dirname(main), '../index.js')).href;

/** The stage sleeps, as one does that waits for a device; poison ends its process as a fault in native code would. */
const stage = (sleepMs: number, main: string): string => `
import { defineStage, z } from ${JSON.stringify(indexOf(main))};
export default defineStage({
  name: 'sleeper', summary: 'Sleeps.', options: z.strictObject({ version: z.int() }), runsIn: 'main',
  create: ({ version }) => ({
    async process(frame) {
      await new Promise((done) => setTimeout(done, ${String(sleepMs)}));
      const text = Buffer.from(frame.encoded).toString();
      if (text.includes('poison')) process.kill(process.pid, 'SIGKILL');
      return { ...frame, results: { sleeper: { kind: 'text', text, version } } };
    },
  }),
});
`;

/** A sink that is down while a file is there. */
const gate = (main: string): string => `
import { appendFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { defineSink, Unavailable, z } from ${JSON.stringify(indexOf(main))};
export default defineSink({
  name: 'gate', summary: 'Is down at times.', options: z.strictObject({}), maxBatch: 256,
  create: (_, { resolve }) => ({
    async write(frames) {
      if (existsSync(resolve('down'))) throw new Unavailable('it is down');
      await appendFile(resolve('gate.txt'), frames.map(({ origin }) => origin.name + '\\n').join(''));
    },
  }),
});
`;

/** Runs a head and workers over three nodes, with faults, until all films are settled, and counts. */
export async function trial(plan: Plan): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-cluster-'));
  const cuts = plan.faults.some(isCut);
  const machines = cuts ? await Machines.create(plan.workers + 1) : undefined;
  if (cuts && machines === undefined) {
    plan.tell?.('network namespaces cannot be made here (root and iproute2 are needed): no network is cut');
  }
  const faults = machines === undefined ? plan.faults.filter((fault) => !isCut(fault)) : plan.faults;
  const servers = await NatsServers.start(3, machines?.hub);
  const lab = new Lab(folder, servers, machines, { ...plan, faults });
  try {
    return await lab.run();
  } finally {
    await lab.close();
    await servers.close();
    machines?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

class Lab {
  readonly #workers: ChildProcess[] = [];
  /** Those that a fault replaces. */
  readonly #replaced = new Set<ChildProcess>();
  readonly #client: ControlClient;
  readonly #moments = new Set<string>();
  readonly #diedAt = new Set<string>();
  readonly #hits: { readonly what: string; readonly inFlight: boolean; stallSeconds: number }[] = [];
  #head: ChildProcess | undefined;
  /** The moment at which the present head dies. */
  #doom: string | undefined;
  #isClosing = false;
  #headEnded = false;
  #turn = 0;
  #version = 1;
  #started = 0;
  /** CPU ticks of former heads, and of the present one. */
  #formerMicroseconds = 0;
  #headMicroseconds = 0;
  #isBusy = false;

  constructor(
    private readonly folder: string,
    private readonly servers: NatsServers,
    private readonly machines: Machines | undefined,
    private readonly plan: Plan,
  ) {
    this.#client = new ControlClient(join(folder, '.rxray'));
  }

  async run(): Promise<Report> {
    const { plan } = this;
    const names = await this.#write();
    this.#started = performance.now();
    for (let i = 0; i < plan.workers; i += 1) this.#workers.push(this.#startWorker(i));
    // Some moments, such as the creation of a file, come in the first head only.
    this.#startHead(this.#nextMoment());

    let stallSeconds = 0;
    let [last, moved, next] = [0, performance.now(), 0];
    const { patienceSeconds = 60, outage } = plan;
    const memory: number[] = [];
    let sinkIs: 'up' | 'down' | 'up again' = 'up';
    let fault: Promise<void> = Promise.resolve();
    let failure: Error | undefined;
    let lineBytes: number | undefined;
    while (!this.#headEnded && failure === undefined) {
      await setTimeout(50);
      await this.#look();
      const bytes = await sizeOf(join(this.folder, 'out.jsonl'));
      const now = performance.now();
      if (bytes > last) {
        const stall = last > 0 ? (now - moved) / 1000 : 0;
        stallSeconds = Math.max(stallSeconds, stall);
        const hit = this.#hits.at(-1);
        if (hit !== undefined) hit.stallSeconds = Math.max(hit.stallSeconds, stall);
        [last, moved] = [bytes, now];
      } else if (now - moved > 1000 * patienceSeconds && sinkIs !== 'down') {
        plan.tell?.(`no film for ${String(patienceSeconds)} s: given up`);
        break;
      }
      if (outage !== undefined) {
        const seconds = (now - this.#started) / 1000 - outage.afterSeconds;
        if (sinkIs === 'up' && seconds > 0) {
          sinkIs = 'down';
          await writeFile(join(this.folder, 'down'), '');
          await this.#hit('sink down');
        } else if (sinkIs === 'down') {
          memory.push(await residentMiB(this.#head?.pid));
          if (seconds > outage.seconds) {
            sinkIs = 'up again';
            await rm(join(this.folder, 'down'));
          }
        }
      }
      // A film's line is of one length, nearly.
      lineBytes ??= await lineBytesOf(join(this.folder, 'out.jsonl'));
      const share = lineBytes === undefined ? 0 : bytes / lineBytes / plan.films;
      const due = plan.faults[next];
      // Four in five wait for films at workers; the fifth hits whatever state the last one has left.
      const mayHit = this.#filmsAtWork > 0 || next % 5 === 4;
      if (due !== undefined && !this.#isBusy && mayHit && share * (plan.faults.length + 1) > next + 1) {
        next += 1;
        this.#isBusy = true;
        fault = FAULTS[due](this).then(
          () => {
            this.#isBusy = false;
          },
          (error: unknown) => {
            // When the head has ended meanwhile, there is nothing left to hit.
            if (!this.#headEnded) failure = new Error(`the fault "${due}" did not hit`, { cause: error });
          },
        );
      }
    }
    await fault;
    if (failure !== undefined) throw failure;
    const seconds = (performance.now() - this.#started) / 1000;
    const quarter = Math.ceil(memory.length / 4);
    return {
      films: plan.films,
      ...(await this.#count(names)),
      faults: this.#hits.length,
      inFlight: this.#hits.filter(({ inFlight }) => inFlight).length,
      moments: this.#moments,
      diedAt: this.#diedAt,
      stallSeconds,
      stalls: this.#hits.map(({ what, stallSeconds: seconds }) => ({ fault: what, seconds })),
      seconds,
      headMicroseconds: (this.#formerMicroseconds + this.#headMicroseconds) / plan.films,
      ...(outage !== undefined && {
        outageMiB: [mean(memory.slice(0, quarter)), mean(memory.slice(-quarter))] as const,
      }),
    };
  }

  async killWorker({ wipe = false } = {}): Promise<void> {
    const index = this.#next(this.#workers.length);
    await this.#hit(wipe ? 'worker killed, its disk wiped' : 'worker killed');
    await this.#replaceWorker(index, wipe);
  }

  async killWorkers(): Promise<void> {
    await this.#hit('all workers killed, their disks wiped');
    await Promise.all(this.#workers.map((_, index) => this.#replaceWorker(index, true)));
  }

  async freezeWorker(): Promise<void> {
    const worker = this.#workers[this.#next(this.#workers.length)];
    await this.#hit('worker stopped for longer than its lease');
    await this.#freeze(worker?.pid);
  }

  async endWorker(): Promise<void> {
    const index = this.#next(this.#workers.length);
    await this.#hit('worker ended by SIGTERM');
    const before = this.#workers[index];
    if (before === undefined) throw new Error('there is no worker');
    before.kill('SIGTERM');
    const after = this.#startWorker(index);
    this.#workers[index] = after;
    if (before.exitCode === null && before.signalCode === null) await once(before, 'exit');
    check(before.pid !== after.pid, 'the worker is the same process');
  }

  async killNode(): Promise<void> {
    const index = this.#next(this.servers.count);
    await this.#hit('node killed');
    await this.#restartNodes([index]);
  }

  async killNodes(): Promise<void> {
    await this.#hit('all nodes killed');
    await this.#restartNodes(Array.from({ length: this.servers.count }, (_, index) => index));
  }

  async freezeNode(): Promise<void> {
    const index = this.#next(this.servers.count);
    await this.#hit('node stopped');
    await this.#freeze(this.servers.pids[index]);
  }

  async killHead(): Promise<void> {
    await this.#hit('head killed');
    const before = this.#head;
    this.#head = undefined;
    await kill(before);
    const after = this.#startHead(this.#nextMoment());
    check(before?.signalCode === 'SIGKILL' && after.pid !== before.pid, 'the head is the same process');
  }

  async freezeHead(): Promise<void> {
    await this.#hit('head stopped for longer than a lease');
    await this.#freeze(this.#head?.pid);
  }

  async cutWorker(how: Cut): Promise<void> {
    await this.#hit(how === 'both' ? 'worker cut off' : `worker cut off, one way (${how})`);
    await this.#cut(1 + this.#next(this.#workers.length), how);
  }

  async cutHead(how: Cut): Promise<void> {
    await this.#hit(how === 'both' ? 'head cut off' : `head cut off, one way (${how})`);
    await this.#cut(0, how);
  }

  async changeGraph(): Promise<void> {
    await this.#hit('graph changed');
    await this.#changeGraph();
  }

  /** The films that the worker has are done by others with the new graph; what it brings of the old one is late. */
  async changeGraphBehindAWorker(): Promise<void> {
    const worker = this.#workers[this.#next(this.#workers.length)];
    await this.#hit('graph changed while a worker is stopped');
    await Promise.all([this.#freeze(worker?.pid, 4), this.#changeGraph()]);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    const head = this.#head;
    this.#head = undefined;
    await Promise.all([kill(head), ...this.#workers.map(kill)]);
  }

  async #write(): Promise<string[]> {
    const { folder, plan } = this;
    const names = Array.from({ length: plan.films }, (_, i) => `films/${String(i % 100)}/${String(i)}.txt`);
    for (let i = 0; i < 100; i += 1) await mkdir(join(folder, `films/${String(i)}`), { recursive: true });
    for (const [i, name] of names.entries()) await writeFile(join(folder, name), this.#textOf(i));
    await writeFile(join(folder, 'films.csv'), `path\n${names.join('\n')}\n`);
    await writeFile(join(folder, 'sleeper.mjs'), stage(plan.sleepMs, plan.main ?? CLI));
    await writeFile(join(folder, 'gate.mjs'), gate(plan.main ?? CLI));
    await this.#writePipeline();
    return names;
  }

  #isPoison(i: number): boolean {
    const { films, poison } = this.plan;
    const every = Math.floor(films / (poison + 1));
    return poison > 0 && i > 0 && i % every === 0 && i / every <= poison;
  }

  #textOf(i: number): string {
    return `${this.#isPoison(i) ? 'poison' : 'film'} ${String(i)}`;
  }

  async #writePipeline(): Promise<void> {
    const { leaseMs, outage } = this.plan;
    const pipeline = {
      version: 1,
      name: 'trial',
      cluster: { use: 'nats', with: { servers: this.servers.urls }, leaseMs, frames: 500 },
      shutdownTimeoutMs: 2 * leaseMs,
      sources: [{ use: 'manifest', with: { path: './films.csv' } }],
      stages: [{ use: './sleeper.mjs', concurrency: 16, with: { version: this.#version } }],
      sinks: [
        { use: 'jsonl', with: { path: './out.jsonl' } },
        ...(outage === undefined
          ? []
          : [{ use: './gate.mjs', retry: { backoffMs: 500, maxBackoffMs: 1000 } }]),
      ],
    };
    const path = join(this.folder, 'pipeline.yaml');
    // Complete at any time: a head may be starting.
    await writeFile(`${path}.new`, JSON.stringify(pipeline));
    await rename(`${path}.new`, path);
  }

  /** Accounts for every film by what is on the disk. */
  async #count(
    names: readonly string[],
  ): Promise<Pick<Report, 'lost' | 'double' | 'wronged' | 'mixed' | 'graphs'>> {
    const seen = new Map<string, { count: number; version: number }>();
    const text = await readFile(join(this.folder, 'out.jsonl'), 'utf8');
    for (const line of text.split('\n').slice(0, -1)) {
      const { file, results } = JSON.parse(line) as {
        file: string;
        results: { sleeper: { text: string; version: number } };
      };
      if (results.sleeper.text !== this.#textOf(numberOf(file))) {
        throw new Error(`${file} has the result of another film`);
      }
      seen.set(file, { count: (seen.get(file)?.count ?? 0) + 1, version: results.sleeper.version });
    }
    const letters = join(this.folder, '.rxray/deadletter');
    const failed = new Set<string>();
    for (const id of (await readdir(letters).catch(() => [])).filter((name) => !name.startsWith('.'))) {
      const reason = await readFile(join(letters, id, 'reason.json'), 'utf8');
      failed.add((JSON.parse(reason) as { file: string }).file);
    }
    const gate = new Set((await readFile(join(this.folder, 'gate.txt'), 'utf8').catch(() => '')).split('\n'));
    const isThere = (name: string): boolean =>
      seen.has(name) && (this.plan.outage === undefined || gate.has(name));
    return {
      lost: names.filter((name) => !isThere(name) && !failed.has(name)).length,
      double: [...seen.values()].filter(({ count }) => count > 1).length,
      wronged: names.filter(
        (name, i) => (failed.has(name) || seen.has(name)) && failed.has(name) !== this.#isPoison(i),
      ).length,
      ...this.#graphs(new Map([...seen].map(([name, { version }]) => [name, version]))),
    };
  }

  /** Films whose result is of another version than most films with the same graph in the journal. */
  #graphs(versions: ReadonlyMap<string, number>): Pick<Report, 'mixed' | 'graphs'> {
    if (this.#head?.exitCode === null && this.#head.signalCode === null) return { mixed: 0, graphs: 0 };
    const journal = new Database(join(this.folder, '.rxray/journal.db'), { readonly: true });
    const rows = journal.prepare("SELECT name, graph FROM films WHERE status = 'done'").all() as {
      name: string;
      graph: string;
    }[];
    journal.close();
    const counts = new Map<string, Map<number, number>>();
    for (const { name, graph } of rows) {
      const version = versions.get(name) ?? 0;
      const ofGraph = counts.get(graph) ?? new Map<number, number>();
      counts.set(graph, ofGraph.set(version, (ofGraph.get(version) ?? 0) + 1));
    }
    const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);
    const mixed = [...counts.values()].map(
      (ofGraph) => sum(ofGraph.values()) - Math.max(...ofGraph.values()),
    );
    return { mixed: sum(mixed), graphs: counts.size };
  }

  /** A fault is about to happen. */
  async #hit(what: string): Promise<void> {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(1);
    this.plan.tell?.(`${seconds} s: ${what}`);
    this.#hits.push({ what, inFlight: this.#filmsAtWork > 0, stallSeconds: 0 });
    await Promise.resolve();
  }
  /** Films that workers had when the head was last asked; 0 when it did not answer. */
  #filmsAtWork = 0;
  #isLooking = false;
  #lookedAt = 0;

  async #look(): Promise<void> {
    await this.#countCpu();
    if (this.#isLooking || performance.now() < this.#lookedAt + 250) return;
    this.#isLooking = true;
    this.#lookedAt = performance.now();
    void this.#client
      .json('/api/cluster')
      .then(
        (answer) => {
          const { workers } = answer as { workers: { films: number }[] };
          this.#filmsAtWork = workers.reduce((films, worker) => films + worker.films, 0);
        },
        () => (this.#filmsAtWork = 0),
      )
      .finally(() => (this.#isLooking = false));
  }

  /** For `leases` leases and a half. */
  async #freeze(pid: number | undefined, leases = 1): Promise<void> {
    if (pid === undefined) throw new Error('there is no process');
    process.kill(pid, 'SIGSTOP');
    const state = async (): Promise<string | undefined> => (await statOf(pid))[0];
    const end = performance.now() + (leases + 0.5) * this.plan.leaseMs;
    let now = await state();
    for (; now !== 'T' && now !== '' && performance.now() < end; now = await state()) await setTimeout(5);
    // It may have been killed before, at its moment.
    if (now === '') return;
    check(now === 'T', 'the process was not stopped');
    await setTimeout(Math.max(0, end - performance.now()));
    process.kill(pid, 'SIGCONT');
  }

  async #replaceWorker(index: number, wipe: boolean): Promise<void> {
    const before = this.#workers[index];
    if (before === undefined) throw new Error('there is no worker');
    this.#replaced.add(before);
    await kill(before);
    if (wipe) await rm(this.#diskOf(index), { recursive: true });
    const after = this.#startWorker(index);
    this.#workers[index] = after;
    check(before.signalCode !== null && after.pid !== before.pid, 'the worker is the same process');
  }

  async #restartNodes(indices: readonly number[]): Promise<void> {
    const ids = (): Promise<string[]> => Promise.all(indices.map((index) => this.servers.idOf(index)));
    const before = await ids();
    await Promise.all(indices.map((index) => this.servers.kill(index)));
    await setTimeout(200);
    await Promise.all(indices.map((index) => this.servers.restart(index)));
    const after = await ids();
    check(!before.some((id) => after.includes(id)), 'a node has the id that it had before');
  }

  async #cut(machine: number, how: Cut): Promise<void> {
    const { machines } = this;
    if (machines === undefined) throw new Error('there is no network that can be cut');
    const end = performance.now() + 1.5 * this.plan.leaseMs;
    const port = Number(new URL(this.servers.urls[0] ?? '').port);
    await machines.cut(machine, how);
    try {
      check(!(await machines.reaches(machine, port)), 'the network is not cut');
      await setTimeout(Math.max(0, end - performance.now()));
    } finally {
      await machines.mend(machine, how);
    }
  }

  async #changeGraph(): Promise<void> {
    this.#version += 1;
    await this.#writePipeline();
    // The head may be starting, or be killed meanwhile.
    for (let attempt = 0; !this.#headEnded; attempt += 1) {
      try {
        await this.#client.json('/api/reload', { method: 'POST' });
        return;
      } catch (error) {
        if (attempt === 100) throw error;
        await setTimeout(100);
      }
    }
  }

  #next(count: number): number {
    this.#turn += 1;
    return this.#turn % count;
  }

  /** In turns, those first at which it has not died. */
  #nextMoment(): string | undefined {
    const left = (this.plan.moments ?? []).filter((moment) => !this.#diedAt.has(moment));
    return left.length === 0 ? undefined : left[this.#next(left.length)];
  }

  #startHead(doom?: string): ChildProcess {
    this.#doom = doom;
    const args = ['head', join(this.folder, 'pipeline.yaml'), '--once'];
    const head = this.#launch('head', 0, ['--import', PRELOAD], args, {
      CHAOS_INBOX: '/nowhere',
      CHAOS_DIE_AT: doom === undefined ? '' : `${doom}#1`,
    });
    this.#head = head;
    const steps = head.stdio[3];
    if (steps instanceof Readable) {
      createInterface(steps).on('line', (line) => {
        const [, kind, moment = ''] = /^(step|dies) (.*)$/.exec(line) ?? [];
        if (kind === 'step') this.#moments.add(moment);
        if (kind !== 'dies') return;
        this.#diedAt.add(moment);
        void this.#hit(`head killed at ${moment}`);
      });
    }
    head.once('exit', (_, signal) => {
      this.#formerMicroseconds += this.#headMicroseconds;
      this.#headMicroseconds = 0;
      if (this.#head !== head || this.#isClosing) return;
      if (signal === 'SIGKILL' && this.#doom !== undefined) this.#startHead();
      else this.#headEnded = true;
    });
    return head;
  }

  async #countCpu(): Promise<void> {
    const pid = this.#head?.pid;
    if (pid === undefined) return;
    const fields = await statOf(pid);
    // utime and stime, in hundredths of a second.
    const ticks = Number(fields[11]) + Number(fields[12]);
    if (Number.isFinite(ticks)) this.#headMicroseconds = Math.max(this.#headMicroseconds, ticks * 10_000);
  }

  #startWorker(index: number): ChildProcess {
    const args = ['work', '--servers', this.servers.urls.join(',')];
    const worker = this.#launch('worker', 1 + index, [], args, { TMPDIR: this.#diskOf(index) });
    worker.once('exit', (_, signal) => {
      // Poison has ended it; whoever schedules workers starts another.
      const isItself = this.#workers[index] === worker && !this.#replaced.has(worker);
      if (isItself && signal === 'SIGKILL' && !this.#isClosing && !this.#headEnded) {
        this.#workers[index] = this.#startWorker(index);
      }
    });
    return worker;
  }

  #diskOf(index: number): string {
    return join(this.folder, `disk-${String(index)}`);
  }

  #launch(
    name: string,
    machine: number,
    node: readonly string[],
    args: readonly string[],
    env: NodeJS.ProcessEnv,
  ): ChildProcess {
    const { main = CLI } = this.plan;
    const [command = '', ...rest] = [
      ...(this.machines?.on(machine) ?? []),
      ...[process.execPath, ...node, main, ...args],
    ];
    const { TMPDIR } = env;
    if (TMPDIR !== undefined) mkdirSync(TMPDIR, { recursive: true });
    const child = spawn(command, rest, {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', RXRAY_LOG: 'warn', ...env },
    });
    child.stderr?.pipe(createWriteStream(join(this.folder, `${name}.log`), { flags: 'a' }));
    return child;
  }
}

/** The length of the first line; undefined before it is there. */
async function lineBytesOf(path: string): Promise<number | undefined> {
  if ((await sizeOf(path)) === 0) return undefined;
  const end = (await readFile(path)).indexOf('\n');
  return end === -1 ? undefined : end + 1;
}

function numberOf(file: string): number {
  return Number(/(\d+)\.txt$/.exec(file)?.[1]);
}

function check(isTrue: boolean, otherwise: string): void {
  if (!isTrue) throw new Error(otherwise);
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0) / numbers.length;
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/** The fields of `/proc/PID/stat` after the name: the first is the state. */
async function statOf(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${String(pid)}/stat`, 'utf8').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

async function residentMiB(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${String(pid)}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1] ?? 0) / 1024;
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (child?.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGCONT');
  child.kill('SIGKILL');
  await ended;
}

export function summary({
  films,
  lost,
  double,
  faults,
  stallSeconds,
}: Pick<Report, 'films' | 'lost' | 'double' | 'faults' | 'stallSeconds'>): string {
  const counts = `${String(films)} films, ${String(lost)} lost, ${String(double)} double`;
  return `${counts}, ${String(faults)} faults, longest stall ${stallSeconds.toFixed(1)} s`;
}
