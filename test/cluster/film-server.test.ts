import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Credit } from '../../src/cluster/credit.js';
import { fetchFilm, FilmServer, sendResults } from '../../src/cluster/film-server.js';
import type { Results } from '../../src/cluster/protocol.js';
import { clusterSchema } from '../../src/core/config/schema.js';

describe('a head that serves films', () => {
  const token = 'secret';
  let folder: string;
  let server: FilmServer;
  let url: string;
  const memory = new Credit(1000);
  const taken: Results[] = [];
  const releases: (() => void)[] = [];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-films-'));
    await writeFile(join(folder, 'film'), 'film');
    const path = join(folder, 'film');
    const { size, mtimeMs } = await stat(path);
    const film = { path, name: 'film', size, mtimeMs };
    const gone = { ...film, path: join(folder, 'gone') };
    const changed = { ...film, mtimeMs: mtimeMs - 1 };
    server = await FilmServer.open({
      ...{ host: '127.0.0.1', port: 0, token },
      filmOf: (id) => ({ aa: film, bb: gone, dd: changed })[id],
      reserve: (bytes) => memory.take(bytes),
      take: (message, release) => {
        releases.push(release);
        taken.push(message as Results);
        return (message as Results).epoch === 1;
      },
    });
    url = `http://127.0.0.1:${String(server.port)}`;
  });
  after(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  it('serves the bytes of a film in flight to clients with the token', async () => {
    expect(Buffer.from((await fetchFilm({ url, token }, 'aa', 4)) ?? []).toString()).to.equal('film');
    expect((await fetch(`${url}/films/aa`)).status).to.equal(401);
    const [outcome] = await Promise.allSettled([fetchFilm({ url, token: 'secreT' }, 'aa', 4)]);
    expect(outcome).to.have.nested.property('reason.message', 'the head answered 401');
  });

  it('serves no other films, and none that are gone or have changed', async () => {
    expect(await fetchFilm({ url, token }, 'cc', 4)).to.equal(null);
    expect(await fetchFilm({ url, token }, 'bb', 4)).to.equal(null);
    expect(await fetchFilm({ url, token }, 'dd', 4)).to.equal(null);
    expect(await fetchFilm({ url, token }, 'aa', 3)).to.equal(null);
    expect(await fetchFilm({ url, token }, 'aa', 5)).to.equal(null);
    const paths = ['/films/../film', '/films/aa/..', '/'];
    for (const path of paths) {
      const { status } = await fetch(url + path, { headers: { authorization: `Bearer ${token}` } });
      expect(status).to.equal(404);
    }
  });

  it('takes results with what was rendered, as long as it has memory', async () => {
    const rendered = Uint8Array.from({ length: 900 }, (_, i) => i % 256);
    const findings = { folder: { meta: {}, results: {}, rendered } };
    const results = (epoch: number): Results => ({
      ...{ kind: 'results', worker: 'w', epoch, graph: 'g' },
      results: [{ id: 'aa', attempt: 1, outcome: { kind: 'made', sha256: '', findings } }],
    });
    expect(await sendResults({ url, token }, results(1))).to.equal(true);
    expect(taken.at(-1)).to.deep.equal(results(1));
    // The first one still needs its memory.
    expect(await sendResults({ url, token }, results(1))).to.equal(false);
    expect(taken).to.have.length(1);
    releases.pop()?.();
    // For another head.
    expect(await sendResults({ url, token }, results(2))).to.equal(false);
    expect(taken).to.have.length(2);
    releases.pop()?.();
    const [outcome] = await Promise.allSettled([sendResults({ url, token: 'secreT' }, results(1))]);
    expect(outcome).to.have.nested.property('reason.message', 'the head answered 401');
    const authorized = { authorization: `Bearer ${token}` };
    const unknown = await fetch(`${url}/results`, { method: 'POST', headers: authorized, body: 'results' });
    expect(unknown.status).to.equal(400);
    expect(memory.take(1000)).to.be.a('function');
  });

  it('needs an address, and a certificate unless workers are on the same machine', () => {
    const nats = { use: 'nats', with: { servers: ['nats://127.0.0.1'] }, films: 'head' };
    const isFine = (serve?: object): boolean => clusterSchema.safeParse({ ...nats, serve }).success;
    expect(isFine()).to.equal(false);
    expect(isFine({ url: 'https://head:8485' })).to.equal(false);
    expect(isFine({ url: 'http://head:8485' })).to.equal(false);
    expect(isFine({ url: 'https://head:8485', cert: 'cert.pem', key: 'key.pem' })).to.equal(true);
    expect(isFine({ url: 'http://127.0.0.1:8485' })).to.equal(true);
  });
});
