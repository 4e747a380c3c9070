import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import sharp from 'sharp';
import { ControlClient } from '../../src/control/client.js';
import { freePort, NatsServers, natsVersion } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const INDEX = new URL('../../dist/index.js', import.meta.url).href;
const PRELOAD = new URL('../chaos/preload.mjs', import.meta.url).href;
const FILMS = 24;
/** Films that the stage does not hold. */
const FREE = 8;

describe('pictures of a cluster', function () {
  // For a machine with other work to do.
  this.timeout(240_000);
  let folder: string;
  let nats: NatsServers;
  const children: ChildProcess[] = [];

  before(async function () {
    // .ci/run installs the server.
    if (natsVersion() === undefined) this.skip();
    folder = await mkdtemp(join(tmpdir(), 'rxray-pictures-'));
    nats = await NatsServers.start(1);
  });
  after(async () => {
    if (natsVersion() === undefined) return;
    for (const child of children) child.kill('SIGKILL');
    await nats.close();
    await rm(folder, { recursive: true, force: true });
  });

  function start(args: readonly string[], dieAt?: string): ChildProcess {
    const node = dieAt === undefined ? [] : ['--import', PRELOAD];
    const child = spawn(process.execPath, [...node, CLI, ...args], {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', RXRAY_LOG: 'error', CHAOS_INBOX: '/', CHAOS_DIE_AT: dieAt },
    });
    (child.stdio[3] as NodeJS.ReadableStream).resume();
    children.push(child);
    return child;
  }
  const work = (): ChildProcess => start(['work', '--servers', nats.urls.join()]);

  async function ended(child: ChildProcess): Promise<unknown> {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.exitCode ?? child.signalCode;
  }

  it('are those of a single machine, in spite of killed and late workers and a killed head', async () => {
    const port = String(await freePort());
    const serve = { listen: `127.0.0.1:${port}`, url: `http://127.0.0.1:${port}` };
    const names = Array.from({ length: FILMS }, (_, i) => `films/${String(i)}.png`);
    await mkdir(join(folder, 'films'));
    for (const [i, name] of names.entries()) {
      const data = Uint8Array.from({ length: 64 * 64 }, (_, at) => (at * (i + 1)) % 256);
      await sharp(data, { raw: { width: 64, height: 64, channels: 1 } }).toFile(join(folder, name));
    }
    await writeFile(join(folder, 'films.csv'), `path\n${names.join('\n')}\n`);
    await writeFile(join(folder, 'hold.mjs'), HOLD);
    const write = async (name: string): Promise<string> => {
      const pipeline = {
        version: 1,
        threads: 1,
        state: `./${name}-state`,
        cluster: { use: 'nats', with: { servers: nats.urls }, leaseMs: 1500, serve },
        sources: [{ use: 'manifest', with: { path: './films.csv' } }],
        stages: [
          { use: 'decode' },
          { use: './hold.mjs', with: { until: name === 'alone' ? './hold.mjs' : './open' } },
        ],
        sinks: [
          { use: 'folder', with: { path: `./${name}`, size: 96 } },
          { id: 'some', use: 'folder', when: "file.endsWith('1.png')", with: { path: `./${name}-some` } },
        ],
      };
      const path = join(folder, `${name}.yaml`);
      await writeFile(path, JSON.stringify(pipeline));
      return path;
    };
    const alone = start(['run', await write('alone'), '--once']);
    const [first, second] = [work(), work()];
    const path = await write('cluster');
    // After it has accepted the film's result, before it writes the picture.
    expect(await ended(start(['head', path, '--once'], 'folder.picture before#3'))).to.equal('SIGKILL');
    const head = start(['head', path, '--once']);
    const client = new ControlClient(join(folder, 'cluster-state'));
    const until = async (is: (films: Map<number, number>) => boolean): Promise<void> => {
      for (;;) {
        const answer = (await client.json('/api/cluster').catch(() => undefined)) as
          { workers: { name: string; films: number }[] } | undefined;
        const pidOf = (name: string): number => Number(name.slice(name.lastIndexOf(':') + 1));
        if (answer && is(new Map(answer.workers.map(({ name, films }) => [pidOf(name), films])))) return;
        expect([head.exitCode, head.signalCode]).to.deep.equal([null, null]);
        await setTimeout(50);
      }
    };
    const has = (films: Map<number, number>, { pid = 0 }: ChildProcess): boolean => (films.get(pid) ?? 0) > 0;
    await until((films) => has(films, first) && has(films, second));
    second.kill('SIGSTOP');
    first.kill('SIGKILL');
    await until((films) => !films.has(first.pid ?? 0) && !films.has(second.pid ?? 0));
    const third = work();
    await until((films) => has(films, third));
    await writeFile(join(folder, 'open'), '');
    // Its pictures are made after another worker has got its films.
    second.kill('SIGCONT');
    expect(await Promise.all([ended(head), ended(alone)])).to.deep.equal([0, 0]);
    second.kill('SIGTERM');
    third.kill('SIGTERM');
    expect(await Promise.all([ended(second), ended(third)])).to.deep.equal([0, 0]);

    for (const suffix of ['', '-some']) {
      const [own, cluster] = [join(folder, `alone${suffix}`), join(folder, `cluster${suffix}`)];
      const files = (await readdir(own)).sort();
      expect((await readdir(cluster)).sort()).to.deep.equal(files);
      expect(files).to.have.length(2 * (suffix === '' ? FILMS : 3));
      for (const file of files) {
        const [bytes, others] = [await readFile(join(own, file)), await readFile(join(cluster, file))];
        if (file.endsWith('.png')) expect(others.equals(bytes)).to.equal(true);
        else expect(untimed(others)).to.deep.equal(untimed(bytes));
      }
    }
  });
});

function untimed(bytes: Buffer): object {
  return { ...(JSON.parse(bytes.toString()) as object), receivedAt: '', completedAt: '' };
}

/** Holds films until a file is there. */
const HOLD = `
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { defineStage, z } from ${JSON.stringify(INDEX)};
export default defineStage({
  name: 'hold', summary: 'Waits.', options: z.strictObject({ until: z.string() }), runsIn: 'main',
  create: ({ until }, { resolve }) => ({
    async process(frame) {
      if (parseInt(basename(frame.origin.name)) >= ${String(FREE)})
        while (!existsSync(resolve(until))) await new Promise((done) => setTimeout(done, 20));
      return { ...frame, results: { hold: { kind: 'text', text: frame.origin.name } } };
    },
  }),
});
`;
