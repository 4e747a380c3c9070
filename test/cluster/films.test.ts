import { readFile, writeFile } from 'node:fs/promises';
import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { openHead } from '../../src/cluster/head.js';
import { ClusterWorker } from '../../src/cluster/worker.js';
import { parsePipeline } from '../../src/core/config/load.js';
import { Monitor } from '../../src/core/monitor/monitor.js';
import type { Log } from '../../src/core/plugin.js';
import { startPipeline, type PipelineRun } from '../../src/core/run.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { createHost } from '../../src/host/host.js';
import { S3_KEYS, S3Server, s3Version, setEnvironment } from '../support/s3-server.js';
import { selfSigned } from '../support/tls-front.js';
import { freePort, NatsServers, natsVersion } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

describe('films that workers do not find on a disk', function () {
  // For a machine with other work to do.
  this.timeout(240_000);
  let folder: string;
  let nats: NatsServers;
  /** In the reverse order. */
  let closing: (() => unknown)[] = [];
  /** Of the head. */
  let monitor: Monitor;

  before(async function () {
    // .ci/run installs the server.
    if (natsVersion() === undefined) this.skip();
    nats = await NatsServers.start(1);
  });
  after(async () => {
    if (natsVersion() !== undefined) await nats.close();
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-films-'));
    await writeFile(join(folder, 'text.mjs'), STAGE);
  });
  afterEach(async () => {
    for (const close of closing.reverse()) await close();
    closing = [];
    await rm(folder, { recursive: true, force: true });
  });

  /** A head in this process, until it has processed the films of a list. */
  async function head(names: readonly string[], films: object, settings: object = {}): Promise<PipelineRun> {
    await writeFile(join(folder, 'films.csv'), `path\n${names.join('\n')}\n`);
    const text = JSON.stringify({
      version: 1,
      cluster: { use: 'nats', with: { servers: nats.urls }, leaseMs: 10_000, ...films },
      sources: [{ use: 'manifest', with: { path: './films.csv', ...settings } }],
      stages: [{ use: './text.mjs' }],
      sinks: [{ use: 'jsonl', with: { path: './out.jsonl' } }],
    });
    const { pipeline, issues } = await parsePipeline(text, {
      file: join(folder, 'pipeline.yaml'),
      registry: builtInRegistry(),
    });
    const cluster = pipeline?.cluster;
    if (pipeline === undefined || cluster === undefined) throw new Error(JSON.stringify(issues));
    const host = createHost(silent);
    closing.push(() => host.unbindAllAsync());
    monitor = new Monitor();
    return startPipeline(pipeline, host, {
      once: true,
      monitor,
      remote: (journal) => openHead(cluster, journal, silent, folder),
    });
  }

  /** By the name of the film. */
  async function results(): Promise<Map<string, string>> {
    const lines = (await readFile(join(folder, 'out.jsonl'), 'utf8')).trimEnd().split('\n');
    const films = lines.map(
      (line) => JSON.parse(line) as { file: string; results: { text: { text: string } } },
    );
    expect(new Set(films.map(({ file }) => file)).size).to.equal(lines.length);
    return new Map(films.map((film) => [film.file, film.results.text.text]));
  }

  it('come from the head over HTTPS, with a certificate that only the worker knows', async function () {
    const identity = selfSigned();
    // Without openssl.
    if (identity === undefined) return this.skip();
    await writeFile(join(folder, 'cert.pem'), identity.cert);
    await writeFile(join(folder, 'key.pem'), identity.key);
    await mkdir(join(folder, 'films'));
    const names = Array.from({ length: 20 }, (_, i) => `films/${String(i)}.txt`);
    for (const name of names) await writeFile(join(folder, name), name);
    const port = await freePort();
    const serve = {
      listen: `127.0.0.1:${String(port)}`,
      url: `https://127.0.0.1:${String(port)}`,
      ...{ cert: './cert.pem', key: './key.pem' },
    };
    // This process does not trust the certificate: it hands the films back, and says why.
    const warnings: string[] = [];
    const host = createHost({ ...silent, warn: (_, message) => warnings.push(message) });
    const stranger = new ClusterWorker(host, { shutdownTimeoutMs: 100, registry: builtInRegistry() });
    closing.push(() => host.unbindAllAsync());
    await stranger.start({ servers: nats.urls, credentials: '' });
    const run = await head(names, { films: 'head', serve, attempts: 100 });
    while (warnings.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(warnings[0]).to.match(/cannot be fetched from the head: self.signed certificate/);
    stranger.stop();
    await stranger.finished;
    const worker = spawn(process.execPath, [CLI, 'work', '--servers', nats.urls.join()], {
      stdio: 'ignore',
      env: { ...process.env, NODE_OPTIONS: '', NODE_EXTRA_CA_CERTS: join(folder, 'cert.pem') },
    });
    closing.push(async () => {
      worker.kill('SIGKILL');
      if (worker.exitCode === null && worker.signalCode === null) await once(worker, 'exit');
    });
    expect(await run.finished).to.include({ done: 20, failed: 0 });
    expect([...(await results())].sort()).to.deep.equal(names.map((name) => [name, name]).sort());
  });

  it('come from S3, also when the server is killed meanwhile, and those that are not there fail', async function () {
    // .ci/run installs the server.
    if (s3Version() === undefined) return this.skip();
    const names = Array.from({ length: 60 }, (_, i) => `${String(i)}.txt`);
    const server = await S3Server.start(Object.fromEntries(names.map((name) => [name, name])));
    closing.push(() => server.close(), setEnvironment(S3_KEYS));
    const host = createHost(silent);
    const worker = new ClusterWorker(host, { shutdownTimeoutMs: 100, registry: builtInRegistry() });
    await worker.start({ servers: nats.urls, credentials: '' });
    closing.push(
      () => host.unbindAllAsync(),
      async () => {
        worker.stop();
        await worker.finished;
      },
    );
    const addresses = [...names, 'none.txt'].map((name) => `s3://films/${name}`);
    const s3 = { endpoint: server.endpoint, pathStyle: true };
    const run = await head(addresses, { films: 'object', attempts: 100 }, { s3, attempts: 10 });
    let settled = 0;
    const some = new Promise<void>((resolve) =>
      run.settled$.subscribe(() => {
        settled += 1;
        if (settled === 10) resolve();
      }),
    );
    await some;
    await server.kill();
    await server.restart();
    expect(await run.finished).to.include({ done: 60, failed: 1, unfinished: 0 });
    expect(monitor.meter('manifest').framesOut).to.equal(60);
    expect([...(await results())].sort()).to.deep.equal(
      names.map((name) => [`s3://films/${name}`, name]).sort(),
    );
  });
});

const STAGE = `
import { defineStage, z } from ${JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)};
export default defineStage({
  name: 'text', summary: 'Reads a text.', options: z.strictObject({}), runsIn: 'main',
  create: () => ({
    async process(frame) {
      await new Promise((done) => setTimeout(done, 20));
      return { ...frame, results: { text: { kind: 'text', text: Buffer.from(frame.encoded).toString() } } };
    },
  }),
});
`;
