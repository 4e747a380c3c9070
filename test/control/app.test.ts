import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { filter, firstValueFrom, take, toArray, type Subject } from 'rxjs';
import sharp from 'sharp';
import { builtInRegistry } from '../../src/host/builtins.js';
import { MAX_STREAMS, type Reloaded } from '../../src/control/app.js';
import type { Live } from '../../src/control/live.js';
import { createRegistry } from '../../src/control/metrics.js';
import { ControlClient } from '../../src/control/client.js';
import { ControlServer } from '../../src/control/serve.js';
import { Worklist, type Row } from '../../src/control/worklist.js';
import type { Pipeline } from '../../src/core/config/pipeline.js';
import { loadPipeline } from '../../src/core/config/load.js';
import { createProcessContainer } from '../../src/core/container.js';
import { Monitor } from '../../src/core/monitor/monitor.js';
import { startPipeline, type PipelineRun } from '../../src/core/run.js';
import { film } from '../support/films.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

const GRAPH = `
version: 1
name: ward
threads: 1
sources: [{ use: watch, with: { path: ./inbox, settleMs: 50, scanMs: 300 } }]
stages:
  - use: decode
  - use: resize
    when: meta.width > 50
    with: { width: 32, height: 32 }
sinks: [{ use: csv, with: { path: ./out.csv } }]
`;

/** One running graph for all: a start takes longer than everything that is asked of it. */
describe('the control interface', () => {
  let dir: string;
  let stateDir: string;
  let graph: PipelineRun;
  let monitor: Monitor;
  let worklist: Worklist;
  let server: ControlServer;
  let client: ControlClient;
  let page: string;
  let open: string;
  let stopping = false;
  let reloaded: Reloaded = { taken: true, message: 'taken over' };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-control-'));
    stateDir = join(dir, '.rxray');
    await mkdir(join(dir, 'inbox'));
    await mkdir(join(dir, 'page'));
    await writeFile(join(dir, 'page/index.html'), '<!doctype html><title>rxray</title>');
    await writeFile(join(dir, 'pipeline.yaml'), GRAPH);
    const { pipeline } = await loadPipeline(join(dir, 'pipeline.yaml'), builtInRegistry());
    monitor = new Monitor();
    graph = await startPipeline(pipeline!, createProcessContainer(silent), { monitor });
    worklist = new Worklist(stateDir, monitor, silent);
    const controlled = {
      version: '1.2.3',
      monitor,
      worklist,
      run: () => graph,
      stopping: () => stopping,
      reload: async () => reloaded,
      engine: () => Promise.reject(new Error('there is no network in this graph')),
      pageDir: join(dir, 'page'),
    };
    server = new ControlServer(controlled, silent);
    // A crash has left its socket.
    await writeFile(join(stateDir, 'control.sock'), '');
    await server.listenOnSocket(stateDir);
    client = new ControlClient(stateDir);
    page = await server.listenOnPort({ host: '127.0.0.1', port: 0 });
    open = await server.listenOnPort({ host: '0.0.0.0', port: 0 });

    const settled = firstValueFrom(monitor.settled$.pipe(take(3), toArray()));
    await writeFile(join(dir, 'inbox/large.png'), await film(96, 80).png().toBuffer());
    await writeFile(join(dir, 'inbox/small.png'), await film(40, 40).png().toBuffer());
    await writeFile(join(dir, 'inbox/bad.png'), 'not a film');
    await writeFile(join(dir, 'inbox/Thumbs.db'), 'no image by its name');
    await settled;
  });

  after(async () => {
    await server.close();
    graph.stop();
    await graph.finished;
    await worklist.close();
    await rm(dir, { recursive: true, force: true });
  });

  async function rows(query: object = {}): Promise<{ total: number; films: Row[] }> {
    return (await client.json('/api/films/search', { method: 'POST', body: query })) as never;
  }

  async function idOf(file: string): Promise<string> {
    return (await rows({ text: file })).films[0]!.id;
  }

  describe('on its socket', () => {
    it('replaces the socket of a crashed process, and refuses other users', async () => {
      const { mode } = await stat(join(stateDir, 'control.sock'));
      expect(mode & 0o777).to.equal(0o600);
      expect(await client.json('/api/status')).to.include({
        name: 'ward',
        state: 'running',
        threads: 1,
        version: '1.2.3',
      });
    });

    it('reports what is wrong with a request', async () => {
      const refused = await client.json('/api/films/nobody').catch((error: unknown) => error);
      expect(refused).to.include({ code: 'CONTROL_REFUSED', message: 'the worklist has no film of that id' });
      const query = await rows({ sort: 'sideways' }).catch((error: unknown) => error);
      expect(String(query)).to.match(/newest/);
    });

    it('says when no process is running', async () => {
      const elsewhere = await new ControlClient(join(dir, 'elsewhere'))
        .json('/')
        .catch((error: unknown) => error);
      expect(elsewhere).to.have.property('code', 'CONTROL_NOT_RUNNING');
    });
  });

  it('gives the graph with its numbers, node by node', async () => {
    const live = (await client.json('/api/graph')) as { nodes: Record<string, unknown>[]; films: object };
    expect(live.films).to.deep.equal({
      ...{ done: 2, failed: 1, skipped: 0, already: 0, failedBefore: 0, leftAlone: 1 },
    });
    expect(
      live.nodes.map(({ id, kind, from, framesOut, errors }) => ({ id, kind, from, framesOut, errors })),
    ).to.deep.equal([
      { id: 'watch', kind: 'source', from: [], framesOut: 3, errors: 0 },
      { id: 'decode', kind: 'stage', from: ['watch'], framesOut: 2, errors: 1 },
      { id: 'resize', kind: 'stage', from: ['decode'], framesOut: 1, errors: 0 },
      { id: 'csv', kind: 'sink', from: ['resize'], framesOut: 1, errors: 0 },
    ]);
  });

  it('finds films by outcome and name, and pages through them', async () => {
    expect((await rows()).total).to.equal(3);
    expect((await rows({ outcome: 'failed' })).films.map(({ file }) => file)).to.deep.equal(['bad.png']);
    expect((await rows({ text: 'LARGE' })).films.map(({ file }) => file)).to.deep.equal(['large.png']);
    const without = await fetch(`${page}api/films/search`, { method: 'POST' });
    expect(await without.json()).to.have.property('total', 3);
    const endless = await fetch(`${page}api/films/search`, { method: 'POST', body: 'x'.repeat(100_000) });
    expect(endless.status).to.equal(413);
    const [first, second] = [await rows({ limit: 1 }), await rows({ limit: 1, offset: 1 })];
    expect(first.films).to.have.length(1);
    expect(first.films[0]!.id).not.to.equal(second.films[0]!.id);
    const [bad] = (await rows({ text: 'bad' })).films;
    expect(bad!.failure).to.include({ stage: 'decode' });
  });

  it('shows all details of a film except its path', async () => {
    const detail = (await client.json(`/api/films/${await idOf('large')}`)) as Record<string, unknown>;
    expect(detail).to.include({ file: 'large.png', graphIsPresent: true }).and.not.have.property('path');
    expect(detail['stages']).to.deep.equal(['decode', 'resize']);
    expect((detail['timings'] as { component: string }[]).map(({ component }) => component)).to.deep.equal([
      'decode',
      'resize',
      'csv',
    ]);
  });

  describe('on a port of this machine', () => {
    it('serves the page with a strict policy, and pictures of every stage', async () => {
      const home = await fetch(page);
      expect(await home.text()).to.contain('<title>rxray</title>');
      expect(home.headers.get('content-security-policy')).to.contain("default-src 'none'");
      expect(home.headers.get('x-frame-options')).not.to.equal(null);
      const id = await idOf('large');
      const sizes = await Promise.all(
        ['stages/decode', 'stages/resize', 'thumbnail'].map(async (path) => {
          const response = await fetch(`${page}api/films/${id}/${path}`);
          const { format, width, height } = await sharp(await response.arrayBuffer()).metadata();
          return [format, width, height];
        }),
      );
      expect(sizes).to.deep.equal([
        ['png', 96, 80],
        ['png', 32, 32],
        ['webp', 96, 80],
      ]);
    });

    it('serves pixels at full bit depth', async () => {
      const response = await fetch(`${page}api/films/${await idOf('large')}/stages/decode/pixels`);
      expect(response.headers.get('x-image-type')).to.equal('Uint8Array');
      expect((await response.arrayBuffer()).byteLength).to.equal(96 * 80);
    });

    it('serves pixels to many clients at once, a few at a time', async () => {
      const id = await idOf('large');
      const answers = Array.from({ length: 20 }, async () => {
        const answer = await fetch(`${page}api/films/${id}/stages/resize/pixels`);
        return (await answer.arrayBuffer()).byteLength;
      });
      expect(new Set(await Promise.all(answers))).to.deep.equal(new Set([32 * 32]));
    });

    it('sends a picture once to a client that caches it', async () => {
      const url = `${page}api/films/${await idOf('large')}/stages/resize`;
      const etag = (await fetch(url)).headers.get('etag') ?? '';
      const again = await fetch(url, { headers: { 'if-none-match': etag } });
      expect(again.status).to.equal(304);
    });

    it('has no picture of a stage that a film did not reach, or failed in', async () => {
      const byTheWay = await fetch(`${page}api/films/${await idOf('small')}/stages/resize`);
      expect([byTheWay.status, await byTheWay.json()]).to.have.nested.property(
        '[1].error.code',
        'NO_PICTURE',
      );
      const failed = await fetch(`${page}api/films/${await idOf('bad')}/stages/decode`);
      expect(await failed.json())
        .to.have.nested.property('error.message')
        .that.matches(/PNG|image/);
    });

    it('refuses other host names, and requests of other sites', async () => {
      expect(await ask(page, { host: 'evil.example' })).to.equal(403);
      expect(await ask(page, { origin: 'https://evil.example' })).to.equal(403);
      expect(await ask(page, { 'sec-fetch-site': 'cross-site' })).to.equal(403);
      expect(await ask(page, {})).to.equal(200);
    });
  });

  describe('on a port for others', () => {
    it('requires the token, as a header or once for a cookie', async () => {
      const { origin, hash } = new URL(open);
      const token = hash.replace('#token=', '');
      const address = origin.replace('0.0.0.0', '127.0.0.1');
      expect((await fetch(`${address}/api/status`)).status).to.equal(401);
      expect((await fetch(`${address}/metrics`)).status).to.equal(401);
      const wrong = { authorization: `Bearer ${token.replace(/.$/, '_')}x` };
      expect((await fetch(`${address}/api/status`, { headers: wrong })).status).to.equal(401);
      const right = { authorization: `Bearer ${token}` };
      expect((await fetch(`${address}/api/status`, { headers: right })).status).to.equal(200);

      expect(await (await fetch(`${address}/api/session`)).json()).to.deep.equal({ tokenNeeded: true });
      const refused = await fetch(`${address}/api/session`, { method: 'POST', body: '{"token":"x"}' });
      expect(refused.status).to.equal(401);
      const session = await fetch(`${address}/api/session`, {
        method: 'POST',
        body: JSON.stringify({ token }),
      });
      const cookie = session.headers.get('set-cookie')!;
      expect(cookie)
        .to.match(/HttpOnly/)
        .and.match(/SameSite=Strict/)
        .and.not.contain(token);
      const headers = { cookie: cookie.split(';')[0]! };
      expect((await fetch(`${address}/api/status`, { headers })).status).to.equal(200);
    });

    it('serves only its health without a token', async () => {
      const address = new URL(open).origin.replace('0.0.0.0', '127.0.0.1');
      expect((await fetch(`${address}/healthz`)).status).to.equal(200);
      expect(await (await fetch(`${address}/readyz`)).json()).to.deep.equal({ status: 'running' });
      stopping = true;
      expect((await fetch(`${address}/readyz`)).status).to.equal(503);
      stopping = false;
    });

    it('names what is in trouble, and is not ready while no film can come in', async () => {
      const address = new URL(open).origin.replace('0.0.0.0', '127.0.0.1');
      const ready = async (): Promise<[number, unknown]> => {
        const answer = await fetch(`${address}/readyz`);
        return [answer.status, await answer.json()];
      };
      const since = new Date();
      monitor.outage('csv', { since, message: 'ENOSPC in /home/ward' });
      const sink = { entry: 'csv', kind: 'sink', since: since.toISOString() };
      expect(await ready()).to.deep.equal([200, { status: 'degraded', troubles: [sink] }]);
      const { nodes } = (await client.json('/api/graph')) as Live;
      expect(nodes.at(-1)?.trouble).to.deep.equal({ since: sink.since, message: 'ENOSPC in /home/ward' });
      monitor.outage('watch', { since, message: 'the folder is gone' });
      const source = { entry: 'watch', kind: 'source', since: since.toISOString() };
      expect(await ready()).to.deep.equal([503, { status: 'stalled', troubles: [source, sink] }]);
      const metrics = createRegistry(monitor, '1.2.3');
      expect(await metrics.metrics()).to.contain(
        `rxray_trouble_timestamp_seconds{entry="csv",kind="sink"} ${String(since.getTime() / 1000)}`,
      );
      monitor.outage('csv', null);
      monitor.outage('watch', null);
      expect(await ready()).to.deep.equal([200, { status: 'running' }]);
    });
  });

  it('streams films and live numbers as they come', async () => {
    const ending = new AbortController();
    const seen = new Map<string, unknown>();
    for await (const { event, data } of client.events('/api/events', ending.signal)) {
      if (!seen.has('live'))
        await writeFile(join(dir, 'inbox/later.png'), await film(60, 60).png().toBuffer());
      seen.set(event, data);
      if (seen.has('film')) break;
    }
    ending.abort();
    expect(seen.get('film')).to.include({ file: 'later.png', outcome: 'done' });
    expect(seen.get('live')).to.have.property('nodes').with.length(4);
  });

  it('disconnects a client that does not read the stream', async () => {
    const { port, hostname } = new URL(page);
    const socket = connect(Number(port), hostname).on('error', () => undefined);
    socket.write(`GET /api/events HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
    await once(socket, 'readable');
    const closed = once(socket, 'close');
    const events = Reflect.get(monitor.attached$, 'source') as Subject<Pipeline>;
    for (let i = 0; i < 40_000 && !socket.destroyed; i++) {
      events.next(monitor.pipeline!);
      if (i % 200 === 0) await setImmediate();
    }
    // What lies in the buffers of the system is there to be read; then comes the end.
    socket.resume();
    await closed;
  });

  it('keeps connections for requests, however many clients read events', async () => {
    const { port, hostname } = new URL(page);
    const streams = Array.from({ length: MAX_STREAMS + 5 }, async () => {
      const socket = connect(Number(port), hostname).on('error', () => undefined);
      socket.write(`GET /api/events HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
      const [head] = (await once(socket, 'data')) as [Buffer];
      return { socket, status: head.toString().slice(9, 12) };
    });
    const opened = await Promise.all(streams);
    const busy = opened.filter(({ status }) => status === '503');
    expect(busy).to.have.length(5);
    expect((await fetch(`${page}healthz`)).status).to.equal(200);
    for (const { socket } of opened) socket.destroy();
    // Places are free again when their readers have gone.
    let status = 503;
    while (status === 503) {
      const again = await fetch(`${page}api/events`);
      ({ status } = again);
      await again.body?.cancel();
    }
    expect(status).to.equal(200);
  });

  it('streams the output of one entry, with pictures', async () => {
    for (const [entry, side] of [
      // A thread goes on from it to resize at once.
      ['decode', [70, 60]],
      ['resize', [32, 32]],
    ] as const) {
      let data: Record<string, unknown> = {};
      for await (const told of client.events(`/api/tap/${entry}?pictures`)) {
        data = told.data as Record<string, unknown>;
        // The film before may still be on its way to the second stage.
        if (data['file'] === `tapped-${entry}.png`) break;
        if (told.event !== 'frame')
          await writeFile(join(dir, `inbox/tapped-${entry}.png`), await film(70, 60).png().toBuffer());
      }
      expect(data).to.deep.include({ file: `tapped-${entry}.png`, missed: 0 });
      const { width, height } = await sharp(Buffer.from(data['png'] as string, 'base64')).metadata();
      expect([width, height], entry).to.deep.equal(side);
    }
    const unknown = await client
      .events('/api/tap/nothing')
      .next()
      .catch((error: unknown) => error);
    expect(String(unknown)).to.contain('there are watch, decode, resize, csv');
  });

  it('reloads the pipeline file on request, or says what is wrong with it', async () => {
    const post = async (): Promise<[number, unknown]> => {
      const response = await fetch(`${page}api/reload`, { method: 'POST' });
      return [response.status, await response.json()];
    };
    expect((await post())[0]).to.equal(200);
    reloaded = { taken: false, message: 'an unknown key' };
    expect(await post()).to.deep.equal([409, { error: { code: 'RELOAD', message: 'an unknown key' } }]);
  });

  it('lists failed films, and replays or discards them on request', async () => {
    const failures = async (): Promise<{ id: string; file: string }[]> =>
      ((await client.json('/api/failures')) as { failures: { id: string; file: string }[] }).failures;
    const [bad, ...others] = await failures();
    expect(others).to.deep.equal([]);
    expect(bad).to.include({ file: 'bad.png', stage: 'decode', kept: true, replaying: false });
    expect(bad).not.to.have.property('path');

    const again = firstValueFrom(monitor.settled$.pipe(filter(({ id }) => id === bad!.id)));
    const asked = await client.json(`/api/films/${bad!.id}/replay`, { method: 'POST' });
    expect(asked).to.include({ id: bad!.id, replaying: true });
    expect(await again).to.include({ id: bad!.id, outcome: 'failed' });

    const body = { ids: [bad!.id] };
    const failed = async (): Promise<unknown> =>
      client.json('/api/films/search', { method: 'POST', body: { outcome: 'failed' } });
    expect(await failed()).to.have.property('total', 1);
    await client.json('/api/failures/discard', { method: 'POST', body });
    expect(await failures()).to.deep.equal([]);
    expect(await failed()).to.have.property('total', 0);
    expect(await client.json(`/api/films/${bad!.id}`)).to.include({ outcome: 'failed', discarded: true });
    const gone = await client
      .json('/api/failures/replay', { method: 'POST', body })
      .catch((error: unknown) => error);
    expect(String(gone)).to.contain('dead letter');
  });

  it('serves metrics to Prometheus', async () => {
    const metrics = await (await fetch(`${page}metrics`)).text();
    expect(metrics).to.contain('# TYPE rxray_stage_duration_seconds histogram');
    expect(metrics).to.match(/^rxray_stage_duration_seconds_bucket\{stage="decode",le="\+Inf"\} [3-9]$/m);
    expect(metrics).to.match(/^rxray_stage_errors_total\{stage="decode"\} [12]$/m);
    expect(metrics).to.match(/^rxray_sink_frames_total\{sink="csv"\} \d$/m);
    expect(metrics).to.match(/^rxray_films_total\{outcome="failed"\} [12]$/m);
    expect(metrics).to.match(/^rxray_sink_parked_films\{sink="csv"\} 0$/m);
    expect(metrics).to.match(/^process_resident_memory_bytes \d/m);
  });

  it('keeps the worklist for the next process', async () => {
    const again = new Worklist(stateDir, new Monitor(), silent);
    const { films } = await again.find({ sort: 'newest', offset: 0, limit: 10 });
    expect(films.map(({ file }) => file)).to.include.members(['large.png', 'small.png', 'bad.png']);
    expect((await stat(join(stateDir, 'worklist.jsonl'))).mode & 0o777).to.equal(0o600);
    expect(await readFile(join(stateDir, 'worklist.jsonl'), 'utf8')).to.match(/\n$/);
    await again.close();
  });
});

/** The status of an answer; fetch does not let one choose the Host. */
async function ask(address: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    request(new URL('/api/status', address), { headers }, (response) => {
      void text(response).then(() => resolve(response.statusCode ?? 0));
    })
      .on('error', reject)
      .end();
  });
}
