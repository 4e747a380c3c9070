import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { firstValueFrom } from 'rxjs';
import { describeGraph, pipelineOf } from '../../src/cluster/graph.js';
import { GraphRunner } from '../../src/cluster/graph-runner.js';
import { checkHead, desiredWorkers, openHead } from '../../src/cluster/head.js';
import { ClusterWorker } from '../../src/cluster/worker.js';
import { parsePipeline } from '../../src/core/config/load.js';
import type { Pipeline } from '../../src/core/config/pipeline.js';
import type { Journal } from '../../src/core/journal/journal.js';
import { Monitor } from '../../src/core/monitor/monitor.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { createHost } from '../../src/host/host.js';
import { setEnvironment } from '../support/s3-server.js';
import { NatsServers, natsVersion } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const version = natsVersion();
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

describe('a head and its workers', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-cluster-'));
    await writeFile(join(folder, 'stage.mjs'), STAGE);
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function load(servers: readonly string[], sink = '{ use: console }'): Promise<Pipeline> {
    const text = `
version: 1
threads: 1
cluster: { use: nats, with: { servers: ${JSON.stringify(servers)} }, leaseMs: 500 }
sources: [{ use: watch, with: { path: ./inbox } }]
stages: [{ use: ./stage.mjs, with: { weights: ./weights.bin } }]
sinks: [${sink}]
`;
    await writeFile(join(folder, 'weights.bin'), 'weights');
    const { pipeline, issues } = await parsePipeline(text, {
      file: join(folder, 'pipeline.yaml'),
      registry: builtInRegistry(),
    });
    expect(issues).to.deep.equal([]);
    return pipeline as Pipeline;
  }

  it('a worker that waits for the servers ends on SIGTERM', async () => {
    const args = [CLI, 'work', '--servers', 'nats://127.0.0.1:1'];
    const worker = spawn(process.execPath, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', RXRAY_LOG: 'warn' },
    });
    const ended = once(worker, 'exit');
    for await (const line of createInterface(worker.stderr)) if (line.includes('waiting for the NATS')) break;
    worker.kill('SIGTERM');
    expect(await ended).to.deep.equal([0, null]);
  });

  it('a worker that cannot connect leaves no folder behind', async () => {
    const restore = setEnvironment({ TMPDIR: join(folder, 'temporary') });
    await mkdir(join(folder, 'temporary'));
    const host = createHost(log);
    try {
      const worker = new ClusterWorker(host, { shutdownTimeoutMs: 100, registry: builtInRegistry() });
      const credentials = join(folder, 'none.creds');
      const [outcome] = await Promise.allSettled([
        worker.start({ servers: ['nats://127.0.0.1:1'], credentials }),
      ]);
      expect(outcome.status).to.equal('rejected');
      expect(await readdir(join(folder, 'temporary'))).to.deep.equal([]);
    } finally {
      restore();
      await host.unbindAllAsync();
    }
  });

  it('have one graph: plugins and files that settings name are compared by their bytes', async () => {
    const graph = await describeGraph(await load(['nats://127.0.0.1']));
    expect(Object.keys(graph.files)).to.deep.equal([join(folder, 'stage.mjs'), join(folder, 'weights.bin')]);
    const there = await pipelineOf(graph, builtInRegistry(), folder);
    expect(there.stages.map(({ id, settings }) => ({ id, settings }))).to.deep.equal([
      { id: 'stage', settings: { weights: './weights.bin' } },
    ]);
    await writeFile(join(folder, 'weights.bin'), 'other weights');
    const [outcome] = await Promise.allSettled([pipelineOf(graph, builtInRegistry(), folder)]);
    expect(outcome).to.have.nested.property('reason.code', 'CONFIG_CREATE');
    expect(outcome)
      .to.have.nested.property('reason.message')
      .that.matches(/weights\.bin$/);
    expect((await describeGraph(await load(['nats://127.0.0.1']))).hash).to.equal(graph.hash);
  });

  it('have as many threads as `threads:` says, and films for a second', async () => {
    const graph = await describeGraph(await load(['nats://127.0.0.1']));
    const there = await pipelineOf(graph, builtInRegistry(), folder);
    const host = createHost({ debug() {}, info() {}, warn() {}, error() {} });
    const monitor = new Monitor();
    const runner = await GraphRunner.open(there, host, monitor);
    expect(monitor.threads).to.equal(1);
    // What takes a second, within limits: other workers may be idle, and messages take their time.
    expect([0, 0.1, 7.2, 1000].map((rate) => runner.room(rate))).to.deep.equal([2, 2, 8, 32]);
    await runner.dispose();
    await host.unbindAllAsync();
  });

  it('need `cluster:`, and an address for pictures; refuse a sink whose pictures workers cannot make', async () => {
    const sinks = (picture: string): string[] => [
      `{ use: folder, with: { path: ./out, ${picture} } }`,
      `{ use: dicomweb, with: { url: 'http://127.0.0.1:1', ${picture} } }`,
    ];
    await writeFile(join(folder, 'sink.mjs'), SINK);
    const serve = { listen: '', url: '', cert: undefined, key: undefined };
    const refused = (pipeline: Pipeline, why: string): void => {
      expect(() => checkHead(pipeline))
        .to.throw(why)
        .with.property('code', 'CONFIG_REFUSED');
    };
    for (const sink of sinks('picture: true')) {
      const pipeline = await load(['nats://127.0.0.1'], sink);
      refused(pipeline, '`cluster.serve`, which is missing');
      checkHead({ ...pipeline, cluster: { ...checkHead(await load(['nats://127.0.0.1'])), serve } });
    }
    refused(await load(['nats://127.0.0.1'], '{ use: ./sink.mjs }'), 'its plugin has no `render`');
    for (const sink of sinks('picture: false')) checkHead(await load(['nats://127.0.0.1'], sink));
    // A head that runs keeps its connections.
    const pipeline = await load(['nats://127.0.0.1']);
    const running = checkHead(pipeline);
    expect(() => checkHead({ ...pipeline, cluster: { ...running, leaseMs: 600 } }, running)).to.throw(
      'restart',
    );
    const { cluster: _cluster, ...alone } = pipeline;
    refused(alone, '`cluster:`');
  });

  it('ask for as many workers as finish the backlog in time', () => {
    expect(desiredWorkers(0, 5, 60)).to.equal(0);
    expect(desiredWorkers(1, null, 60)).to.equal(1);
    expect(desiredWorkers(600, 5, 60)).to.equal(2);
    expect(desiredWorkers(601, 5, 60)).to.equal(3);
  });

  describe(`over NATS${version === undefined ? '' : ` (${version})`}`, function () {
    before(function () {
      // Without a server there is nothing to connect to: .ci/run installs Debian's.
      if (version === undefined) this.skip();
    });

    it('a head reports its workers, and how many it needs', async () => {
      const servers = await NatsServers.start(1);
      const journal = { noted: async () => null, note: async () => undefined } as unknown as Journal;
      const pipeline = await load(servers.urls);
      const head = await openHead({ ...checkHead(pipeline), drainSeconds: 10 }, journal, log);
      head.use(pipeline, new Monitor());
      const host = createHost(log);
      const work = new ClusterWorker(host, { shutdownTimeoutMs: 1000, registry: builtInRegistry() });
      try {
        await work.start(checkHead(pipeline).with);
        // One thread, and nothing is known of its speed yet.
        while (head.status(0).workers[0]?.room !== 2) await setTimeout(20);
        const [worker] = head.status(0).workers;
        expect(worker).to.include({ name: `${hostname()}:${String(process.pid)}`, films: 0, through: 0 });
        expect(worker?.filmsPerSecond).to.equal(null);
        // Files that nobody has taken in count, and no rate is known yet.
        expect(head.status(70)).to.include({ backlog: 70, desired: 1 });
        expect(head.status(0)).to.include({ backlog: 0, desired: 0 });
      } finally {
        work.stop();
        await work.finished;
        await host.unbindAllAsync();
        await head.close();
        await servers.close();
      }
    });

    it('a head ends when a later one has begun with its journal', async () => {
      const servers = await NatsServers.start(1);
      // Two copies of one journal, as after a restore.
      const copy = (): Journal =>
        ({ noted: async () => JSON.stringify({ id: 'j', epoch: 4 }), note: async () => undefined }) as never;
      const pipeline = await load(servers.urls);
      const cluster = checkHead(pipeline);
      const heads = [await openHead(cluster, copy(), log), await openHead(cluster, copy(), log)];
      try {
        for (const head of heads) head.use(pipeline, new Monitor());
        const ends = heads.map((head) => firstValueFrom(head.fatal$).catch((error: unknown) => error));
        expect(await Promise.race(ends)).to.have.property('code', 'STATE_LOCKED');
      } finally {
        await Promise.all(heads.map((head) => head.close()));
        await servers.close();
      }
    });
  });
});

const SINK = `
import { defineSink, z } from 'rxray';
export default defineSink({
  name: 'sink', summary: 'Does nothing.', options: z.strictObject({}), pixels: true,
  create: () => ({ write: async () => undefined }),
});
`;

const STAGE = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'stage', summary: 'Does nothing.', options: z.strictObject({ weights: z.string() }),
  create: () => ({ process: (frame) => frame }),
});
`;
