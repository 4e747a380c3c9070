import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { lastValueFrom, toArray } from 'rxjs';
import type { Part } from '../../src/core/part.js';
import type { Candidate, SourceInstance } from '../../src/core/plugin.js';
import manifest from '../../src/plugins/manifest.js';
import { FilmFetcher } from '../../src/plugins/manifest/fetch.js';
import { testServices, type TestServices } from '../../src/testing.js';

describe('the manifest source', () => {
  let folder: string;
  let services: TestServices;
  let source: SourceInstance | undefined;
  let server: Server | undefined;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-manifest-'));
  });
  afterEach(async () => {
    await source?.dispose?.();
    source = undefined;
    services.cleanup();
    server?.close();
    server = undefined;
    await rm(folder, { recursive: true });
  });

  async function open(
    list: string | Uint8Array,
    settings: object = {},
    part?: Part,
  ): Promise<SourceInstance> {
    const { path = 'films.csv' } = settings as { path?: string };
    await writeFile(join(folder, path), list);
    services = testServices({ baseDir: folder, once: true, part });
    source = await manifest.create(manifest.options.parse({ path, ...settings }), services);
    return source;
  }
  const offered = async (from: SourceInstance): Promise<Candidate[]> =>
    lastValueFrom(from.candidates$.pipe(toArray()));
  const names = async (from: SourceInstance): Promise<string[]> =>
    (await offered(from)).map(({ name }) => name);

  async function serve(listener: RequestListener): Promise<string> {
    server = createServer(listener).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  }

  const many = Array.from({ length: 500 }, (_, i) => `s/${'x'.repeat(i % 37)}${String(i)}.png`);
  for (const [form, list, settings] of [
    ['with a header', `path\n${many.join('\n')}\n`, {}],
    ['without a header, without a line end, from Windows', many.join('\r\n'), { columns: ['path'] }],
    ['compressed', gzipSync(`path\n${many.join('\n')}\n`), { path: 'films.csv.gz' }],
  ] as const) {
    it(`offers each film in exactly one part: a list ${form}`, async () => {
      for (const count of [1, 2, 7, 499, 1000]) {
        const found: string[] = [];
        for (let index = 0; index < count; index += count > 7 ? 83 : 1) {
          source = await open(list, settings, { index, count });
          found.push(...(await names(source)));
          await source.dispose?.();
        }
        if (count <= 7) expect(found.sort()).to.deep.equal([...many].sort());
        else expect(new Set(found)).to.have.property('size', found.length);
      }
    });
  }

  it('splits a list at every byte without losing or repeating a line', async () => {
    const list = 'path\na\n\nbb\r\nccc\n"d,d"';
    for (let count = 1; count <= list.length + 2; count += 1) {
      const found: string[] = [];
      for (let index = 0; index < count; index += 1) {
        source = await open(list, {}, { index, count });
        found.push(...(await names(source)));
        await source.dispose?.();
      }
      expect(found, `${String(count)} parts`).to.deep.equal(['a', 'bb', 'ccc', 'd,d']);
    }
  });

  it('reads an S3 inventory: encoded keys, present versions, no folders', async () => {
    const list = [
      '"films","a%2B+b%2Fc.dcm","12","2026-01-02T03:04:05.000Z","true","false"',
      '"films","old.dcm","12","2026-01-02T03:04:05.000Z","false","false"',
      '"films","deleted.dcm","","2026-01-02T03:04:05.000Z","true","true"',
    ].join('\n');
    const columns = ['Bucket', 'Key', 'Size', 'LastModifiedDate', 'IsLatest', 'IsDeleteMarker'];
    const [film, ...others] = await offered(await open(list, { columns }));
    expect(others).to.deep.equal([]);
    expect(film).to.deep.equal({
      path: 's3://films/a+ b/c.dcm',
      name: 's3://films/a+ b/c.dcm',
      size: 12,
      mtimeMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    });
  });

  it('reads lists as Excel writes them: semicolons, a line `sep=`, a separator at the end; UTF-16 is refused', async () => {
    for (const list of [
      '\uFEFFpath;size\r\n"a;1.png";1\r\nb.png;2\r\n',
      'sep=;\r\n"Path";"Size";\r\n"a;1.png";1;\r\nb.png;2;\r\n',
      'path\tsize\na;1.png\t1\nb.png\t2',
    ]) {
      for (const count of [1, 3]) {
        const found: string[] = [];
        for (let index = 0; index < count; index += 1) {
          found.push(...(await names(await open(list, {}, { index, count }))));
          await source?.dispose?.();
        }
        expect(found.sort(), JSON.stringify(list)).to.deep.equal(['a;1.png', 'b.png']);
      }
    }
    expect(await names(await open('sep=;\na;b.png\n', { columns: ['path', 'size'] }))).to.deep.equal([]);
    for (const bytes of [
      Buffer.from('path\na.png', 'utf16le'),
      Buffer.from('\uFEFFpath', 'utf16le').swap16(),
    ]) {
      const [outcome] = await Promise.allSettled([open(bytes)]);
      expect(outcome)
        .to.have.nested.property('reason.message')
        .that.contains('is UTF-16 text: save it as UTF-8');
    }
  });

  it('names the lines that it cannot read, and continues', async () => {
    const found = await names(await open('path,size\na.png,1\n"b.png,2\nc.png\nd.png,x\ne.png,5\n'));
    expect(found).to.deep.equal(['a.png', 'e.png']);
    const told = services.logged.map((line) => JSON.parse(line) as { name: string; reason: string });
    expect(told.map(({ name }) => name)).to.deep.equal([3, 4, 5].map((n) => `films.csv, line ${String(n)}`));
    expect(told[1]?.reason).to.equal('expected 2 columns, got 1');
  });

  it('refuses a file that is not a list of films', async () => {
    const create = async (list: string | Uint8Array, settings = {}) =>
      (await Promise.allSettled([open(list, settings).then(offered)]))[0];
    expect(await create('')).to.have.nested.property('reason.code', 'CONFIG_CREATE');
    expect(await create('name,size\n'))
      .to.have.nested.property('reason.message')
      .that.contains('column `path`');
    expect(await create(new Uint8Array(100_000), { columns: ['path'] }))
      .to.have.nested.property('reason.message')
      .that.contains('longer than');
  });

  it('offers a missing film with its error', async () => {
    const [film] = await offered(await open('path\nmissing.png\n'));
    expect(film).to.have.nested.property('error.code', 'FRAME_UNREADABLE');
  });

  it('finds files in the other Unicode form, with other slashes, and with blanks around the name', async () => {
    for (const name of ['Mu\u0308ller.png', 'b.png']) await writeFile(join(folder, name), name);
    const list = Buffer.from('path\nM\u00fcller.png\n.\\b.png\n b.png\u00a0\nnone.png\n');
    const found = await offered(await open(Buffer.concat([list, Buffer.from('M\xfcller.png\n', 'latin1')])));
    expect(found.map(({ path }) => path.slice(folder.length + 1))).to.deep.equal([
      ...['Mu\u0308ller.png', 'b.png', 'b.png', 'none.png', 'M\ufffdller.png'],
    ]);
    expect(found.map(({ error }) => error?.message ?? '')).to.deep.equal([
      ...[
        '',
        '',
        '',
        `the file cannot be read: ENOENT: no such file or directory, stat '${join(folder, 'none.png')}'`,
      ],
      'the file cannot be read: its name in the list is not UTF-8 text',
    ]);
  });

  it('fetches a film on request, with retries if the server is busy', async () => {
    let requests = 0;
    const host = await serve((request, response) => {
      requests += 1;
      if (requests === 1) response.writeHead(503).end();
      else response.end(`${request.url ?? ''} ${request.headers.authorization ?? ''}`);
    });
    const from = await open(`path\nhttp://${host}/a%20b.png\n`, { headers: { Authorization: 'Bearer x' } });
    const [film] = await offered(from);
    const copy = film && (await from.fetch?.(film, 1000));
    expect(await readFile(copy?.path ?? '', 'utf8')).to.equal('/a%20b.png Bearer x');
  });

  it('says why a film cannot be fetched, and leaves nothing behind', async () => {
    const host = await serve((request, response) => {
      if (request.url === '/large') response.end('too long');
      else response.writeHead(404).end();
    });
    const from = await open(`path\nhttp://${host}/large\nhttp://${host}/none\n`, { attempts: 1 });
    const outcomes = await Promise.allSettled(
      (await offered(from)).map(async (film) => from.fetch?.(film, 4)),
    );
    expect(outcomes).to.have.nested.property('[0].reason.code', 'FRAME_TOO_LARGE');
    expect(outcomes).to.have.nested.property('[1].reason.code', 'FRAME_UNREADABLE');
    expect(outcomes).to.have.nested.property('[1].reason.message').that.contains('404');
    expect(await readdir(join(services.stateDir, 'fetched-tested'))).to.deep.equal([]);
  });

  it('gives up on a server that does not answer or sends nothing more, not on a slow one, also after garbage collections', async () => {
    // Together they take twice as long as the limit.
    const SLOW_BYTES = 13;
    const host = await serve(({ url }, response) => {
      if (url === '/answer') return;
      response.writeHead(200).write('x');
      if (url !== '/slow') return;
      let left = SLOW_BYTES - 1;
      const sending = setInterval(() => {
        if (left-- > 0) return void response.write('x');
        clearInterval(sending);
        response.end();
      }, 100);
    });
    setFlagsFromString('--expose-gc');
    const collecting = setInterval(runInNewContext('gc') as () => void, 20);
    const options = { headers: {}, s3: { pathStyle: false }, attempts: 1 };
    services = testServices({ baseDir: folder });
    const fetcher = new FilmFetcher(folder, options, services.signal, 600);
    const fetched = async (path: string): Promise<unknown> =>
      fetcher.fetch({ path: `http://${host}/${path}`, name: path, size: 0, mtimeMs: 0 }, 1000);
    try {
      const outcomes = await Promise.allSettled(['answer', 'bytes', 'slow'].map(fetched));
      const failed = 'the film could not be fetched: the server';
      expect(outcomes).to.have.nested.property(
        '[0].reason.message',
        `${failed} did not answer within 600 ms`,
      );
      expect(outcomes).to.have.nested.property(
        '[1].reason.message',
        `${failed} sent nothing more for 600 ms`,
      );
      expect(outcomes).to.have.nested.property('[2].value.size', SLOW_BYTES);
    } finally {
      clearInterval(collecting);
      server?.closeAllConnections();
    }
  }).timeout(10_000);

  it('fetches s3: films with the AWS client, whatever their key looks like', async () => {
    const asked: (string | undefined)[] = [];
    const host = await serve((request, response) => {
      asked.push(request.url?.split('?')[0], request.headers.authorization?.split(' ')[0]);
      response.end('bytes');
    });
    const variables = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' };
    Object.assign(process.env, variables);
    try {
      const from = await open('"films","a+b%23%3F.dcm"\n', {
        columns: ['bucket', 'key'],
        s3: { endpoint: `http://${host}`, region: 'eu-central-1', pathStyle: true },
      });
      const [film] = await offered(from);
      const copy = film && (await from.fetch?.(film, 1000));
      expect(await readFile(copy?.path ?? '', 'utf8')).to.equal('bytes');
      expect(asked).to.deep.equal(['/films/a%20b%23%3F.dcm', 'AWS4-HMAC-SHA256']);
    } finally {
      for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name);
    }
  });
});
