/**
 * The cost of a film at the head, and how the number of workers scales: a head and workers over one NATS server on this
 * machine, with a stage that sleeps.
 *
 *     npm run bench:cluster                                           the head's CPU a film
 *     npm run bench:cluster -- --workers 1,2,4,8,16 --sleep 400 --concurrency 4 --films 40
 *     npm run bench:cluster -- --profile /tmp/profile                 a CPU profile of the head
 *
 * `--films` is the number for each worker. Films before all workers are at work, and after that the first and the last
 * tenth, are not counted: they contain the start and the end. CPU is that of all threads, by /proc (Linux).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ControlClient } from '../src/control/client.js';
import { NatsServers, natsVersion } from '../test/cluster/nats-servers.js';

const CLI = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const INDEX = new URL('../dist/index.js', import.meta.url).href;

const { values: flags } = parseArgs({
  options: {
    films: { type: 'string', default: '10000' },
    workers: { type: 'string', default: '2' },
    /** Milliseconds that the stage sleeps for a film. */
    sleep: { type: 'string', default: '20' },
    /** Films at a time in the stage of a worker. */
    concurrency: { type: 'string', default: '16' },
    /** Size of a film in bytes. */
    bytes: { type: 'string', default: '100' },
    /** Where films, journal and results are. */
    folder: { type: 'string', default: tmpdir() },
    profile: { type: 'string' },
    /** Another build of the program, to compare with by turns. */
    cli: { type: 'string', default: CLI },
  },
});

interface Figures {
  readonly workers: number;
  readonly filmsPerSecond: number;
  /** CPU per film, in microseconds. */
  readonly head: number;
  readonly worker: number;
  readonly nats: number;
}

async function measure(workers: number): Promise<Figures> {
  const folder = await mkdtemp(join(flags.folder, 'rxray-bench-cluster-'));
  const servers = await NatsServers.start(1);
  const children: ChildProcess[] = [];
  const launch = (node: readonly string[], args: readonly string[]): ChildProcess => {
    const child = spawn(process.execPath, [...node, flags.cli, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, RXRAY_LOG: 'warn' },
    });
    children.push(child);
    return child;
  };
  try {
    const films = Number(flags.films) * workers;
    await writeFilms(folder, films, servers.urls);
    const working = Array.from({ length: workers }, () =>
      launch([], ['work', '--servers', servers.urls.join(',')]),
    );
    const profile = flags.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${flags.profile}`];
    const head = launch(profile, ['head', join(folder, 'pipeline.yaml'), '--once']);
    const ended = once(head, 'exit');
    const client = new ControlClient(join(folder, '.rxray'));
    /** Whether all workers have the graph: films before that are not counted. */
    let areReady = false;
    const looks: { at: number; bytes: number; head: number; worker: number; nats: number }[] = [];
    while (head.exitCode === null && head.signalCode === null) {
      const [bytes, ofHead, ofNats, ...ofWorkers] = await Promise.all([
        stat(join(folder, 'out.jsonl')).then(
          ({ size }) => size,
          () => 0,
        ),
        cpuOf(head.pid),
        cpuOf(servers.pids[0]),
        ...working.map(({ pid }) => cpuOf(pid)),
      ]);
      areReady ||= await haveGraph(client, workers);
      if (!areReady) {
        await Promise.race([sleep(100), ended]);
        continue;
      }
      const worker = ofWorkers.reduce((sum, each) => sum + each, 0);
      looks.push({ at: performance.now(), bytes, head: ofHead, worker, nats: ofNats });
      await Promise.race([sleep(100), ended]);
    }
    const total = looks.at(-1)?.bytes ?? 0;
    const begin = looks[0]?.bytes ?? 0;
    const first = looks.find(({ bytes }) => bytes >= begin + (total - begin) / 10);
    const last = looks.findLast(({ bytes }) => bytes <= (total * 9) / 10);
    if (first === undefined || last === undefined || last.bytes <= first.bytes) {
      throw new Error('too few films to measure: set --films');
    }
    const share = (films * (last.bytes - first.bytes)) / total;
    return {
      workers,
      filmsPerSecond: (1000 * share) / (last.at - first.at),
      head: (last.head - first.head) / share,
      worker: (last.worker - first.worker) / share,
      nats: (last.nats - first.nats) / share,
    };
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await servers.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function haveGraph(client: ControlClient, count: number): Promise<boolean> {
  const answer = await client.json('/api/cluster').catch(() => ({ workers: [] }));
  const { workers } = answer as { workers: { through: number }[] };
  return workers.filter(({ through }) => through > 0).length === count;
}

async function writeFilms(folder: string, films: number, servers: readonly string[]): Promise<void> {
  const names = Array.from({ length: films }, (_, i) => `films/${String(i % 100)}/${String(i)}.txt`);
  for (let i = 0; i < 100; i += 1) await mkdir(join(folder, `films/${String(i)}`), { recursive: true });
  for (const [i, name] of names.entries()) {
    await writeFile(join(folder, name), `film ${String(i)}`.padEnd(Number(flags.bytes)));
  }
  await writeFile(join(folder, 'films.csv'), `path\n${names.join('\n')}\n`);
  await writeFile(
    join(folder, 'sleeper.mjs'),
    `import { defineStage, z } from ${JSON.stringify(INDEX)};
export default defineStage({
  name: 'sleeper', summary: 'Sleeps.', options: z.strictObject({}), runsIn: 'main',
  create: () => ({
    async process(frame) {
      await new Promise((done) => setTimeout(done, ${flags.sleep}));
      return { ...frame, results: { sleeper: { kind: 'classification', label: 'normal', probability: 0.9 } } };
    },
  }),
});
`,
  );
  await writeFile(
    join(folder, 'pipeline.yaml'),
    JSON.stringify({
      version: 1,
      cluster: { use: 'nats', with: { servers }, frames: 500 },
      sources: [{ use: 'manifest', with: { path: './films.csv' } }],
      stages: [{ use: './sleeper.mjs', concurrency: Number(flags.concurrency) }],
      sinks: [{ use: 'jsonl', with: { path: './out.jsonl' } }],
    }),
  );
}

/** In microseconds, of all threads. */
async function cpuOf(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${String(pid)}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // utime and stime, in hundredths of a second.
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks * 10_000 : 0;
}

console.log(`nats-server ${natsVersion() ?? 'is missing'}, films in ${flags.folder}`);
console.log('workers  films/s  efficiency  µs CPU a film: head  worker  nats-server');
let one: number | undefined;
for (const workers of flags.workers.split(',').map(Number)) {
  const { filmsPerSecond, head, worker, nats } = await measure(workers);
  one ??= filmsPerSecond / workers;
  console.log(
    [
      String(workers).padStart(7),
      filmsPerSecond.toFixed(1).padStart(9),
      `${((100 * filmsPerSecond) / workers / one).toFixed(1)} %`.padStart(12),
      head.toFixed(0).padStart(20),
      worker.toFixed(0).padStart(8),
      nats.toFixed(0).padStart(13),
    ].join(''),
  );
}
