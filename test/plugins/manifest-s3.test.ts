import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Copy } from '../../src/core/plugin.js';
import manifest from '../../src/plugins/manifest.js';
import { FilmFetcher } from '../../src/plugins/manifest/fetch.js';
import { CuttingProxy, S3_KEYS, S3Server, s3Version, setEnvironment } from '../support/s3-server.js';

const version = s3Version();
const LARGE = randomBytes(400_000);

describe(`films in S3${version === undefined ? '' : ` (${version})`}`, function () {
  let server: S3Server;
  let folder: string;
  let restore: () => void;
  let fetchers: FilmFetcher[] = [];

  before(async function () {
    // A machine without an S3 server: .ci/run installs one.
    if (version === undefined) this.skip();
    server = await S3Server.start({ 'a+b #?é%.dcm': 'odd', 'large.dcm': LARGE });
  });
  after(async () => {
    if (version !== undefined) await server.close();
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-films-'));
    restore = setEnvironment({ ...S3_KEYS, HOME: folder, AWS_EC2_METADATA_DISABLED: 'true' });
  });
  afterEach(async () => {
    await Promise.all(fetchers.map((each) => each.dispose()));
    fetchers = [];
    restore();
    await rm(folder, { recursive: true, force: true });
  });

  function fetch(address: string, endpoint = server.endpoint, more: object = {}): Promise<Copy | undefined> {
    const s3 = { endpoint, pathStyle: true };
    const settings = manifest.options.parse({ path: 'films.csv', s3, ...more });
    const fetcher = new FilmFetcher(folder, settings as never, new AbortController().signal);
    fetchers.push(fetcher);
    return fetcher.fetch({ path: address, name: address, size: 0, mtimeMs: 0 }, 1_000_000);
  }
  const failure = async (...args: Parameters<typeof fetch>): Promise<Error & { code?: string }> => {
    const [outcome] = await Promise.allSettled([fetch(...args)]);
    expect(outcome.status).to.equal('rejected');
    expect(await readdir(folder)).to.deep.equal([]);
    return (outcome as PromiseRejectedResult).reason as Error & { code?: string };
  };

  it('are fetched whatever their key looks like', async () => {
    const copy = await fetch('s3://films/a+b #?é%.dcm');
    expect(await readFile(copy?.path ?? '', 'utf8')).to.equal('odd');
  });

  it('are fetched from where the connection broke off', async () => {
    const proxy = await CuttingProxy.before(server.port, [100_000, 150_000]);
    try {
      const copy = await fetch('s3://films/large.dcm', proxy.endpoint);
      expect((await readFile(copy?.path ?? '')).equals(LARGE)).to.equal(true);
      const starts = proxy.requests.map((text) => Number(/^range: bytes=(\d+)-/im.exec(text)?.[1] ?? 0));
      expect(starts).to.have.length(3);
      const [first, second = NaN, third = NaN] = starts;
      expect(first).to.equal(0);
      // What has arrived when a connection breaks off need not have been written.
      expect(second).to.be.within(0, 100_000);
      expect(third).to.be.within(Math.max(second, 1), 250_000);
    } finally {
      proxy.close();
    }
  });

  it('fail with the reason if the bucket does not have them', async () => {
    const error = await failure('s3://films/none.dcm');
    expect(error).to.have.property('code', 'FRAME_UNREADABLE');
    expect(error.message).to.contain('404 NoSuchKey: the bucket films has no object none.dcm');
  });

  it('do not fail by themselves if the access is at fault', async () => {
    const none = await failure('s3://nothing/a.dcm');
    expect(none).to.not.have.property('code');
    expect(none.message).to.contain('404 NoSuchBucket: there is no bucket nothing');
    process.env['AWS_SECRET_ACCESS_KEY'] = 'another';
    expect((await failure('s3://films/large.dcm')).message).to.contain(
      'S3 answered 403 SignatureDoesNotMatch',
    );
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'])
      Reflect.deleteProperty(process.env, name);
    expect((await failure('s3://films/large.dcm')).message).to.contain(
      'no credentials for S3 on this machine',
    );
  });

  it('are fetched with new credentials when the old ones have expired', async () => {
    let requests = 0;
    // Such keys come from Amazon's STS, which this server does not have.
    const expiring = createServer((request, response) => {
      requests += 1;
      const isOld = request.headers.authorization?.includes('Credential=old/') === true;
      response.writeHead(isOld ? 400 : 200, { 'content-type': 'application/xml' });
      response.end(isOld ? '<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>' : 'film');
    }).listen(0, '127.0.0.1');
    await once(expiring, 'listening');
    const endpoint = `http://127.0.0.1:${String((expiring.address() as AddressInfo).port)}`;
    try {
      process.env['AWS_ACCESS_KEY_ID'] = 'old';
      const error = await failure('s3://films/a.dcm', endpoint);
      expect(error.message).to.contain('400 ExpiredToken: the credentials have expired');
      expect(requests).to.equal(1);
      process.env['AWS_ACCESS_KEY_ID'] = 'new';
      const [fetcher] = fetchers;
      const copy = await fetcher?.fetch({ path: 's3://films/a.dcm', name: 'a', size: 0, mtimeMs: 0 }, 100);
      expect(await readFile(copy?.path ?? '', 'utf8')).to.equal('film');
    } finally {
      expiring.closeAllConnections();
      expiring.close();
    }
  });

  it('are fetched after the server was killed and started again', async () => {
    await server.kill();
    expect((await failure('s3://films/large.dcm', server.endpoint, { attempts: 2 })).message).to.contain(
      'ECONNREFUSED',
    );
    const copy = fetch('s3://films/large.dcm', server.endpoint, { attempts: 20 });
    await server.restart();
    expect((await copy)?.size).to.equal(LARGE.length);
  });
});
