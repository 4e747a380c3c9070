import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { firstValueFrom, ReplaySubject, skip } from 'rxjs';
import type { Candidate, SourceInstance } from '../../src/core/plugin.js';
import { associatePdu, COMMAND, commandBytes, dataPdus, FIELD, PDU } from '../../src/dicom/pdu.js';
import { store, type ScuOptions } from '../../src/dicom/scu.js';
import { EXPLICIT } from '../../src/dicom/syntaxes.js';
import dimse from '../../src/plugins/dimse.js';
import { testServices, type TestServices } from '../../src/testing.js';
import { CR, dicomFile, dicomFilm, execute, has } from '../support/dicom.js';

/** A receiver in a folder of its own. */
class Bench {
  readonly #offered = new ReplaySubject<Candidate>();
  readonly offered$ = this.#offered.asObservable();
  port = 0;
  source!: SourceInstance;
  services!: TestServices;

  private constructor(readonly folder: string) {}

  static async open(
    settings: object = {},
    options: { once?: boolean; folder?: string } = {},
  ): Promise<Bench> {
    const bench = new Bench(options.folder ?? (await mkdtemp(join(tmpdir(), 'rxray-dimse-'))));
    bench.services = testServices({ baseDir: bench.folder, once: options.once ?? false });
    bench.source = await dimse.create(
      dimse.options.parse({
        port: 0,
        callers: [{ aeTitle: 'SENDER' }],
        minFreeBytes: 0,
        ...settings,
      }),
      bench.services,
    );
    bench.source.candidates$.subscribe(bench.#offered);
    const line = bench.services.logged.find((each) => each.includes('listening for DICOM')) ?? '{}';
    bench.port = (JSON.parse(line) as { port?: number }).port ?? 0;
    return bench;
  }

  scu(more: Partial<ScuOptions> = {}): ScuOptions {
    return {
      ...{ host: '127.0.0.1', port: this.port, called: 'RXRAY', calling: 'SENDER', timeoutMs: 20_000 },
      signal: new AbortController().signal,
      ...more,
    };
  }

  /** Names of what lies in the folder, parts of transfers too. */
  async files(): Promise<string[]> {
    const found = await readdir(join(this.folder, 'received'), { recursive: true, withFileTypes: true });
    return found.filter((entry) => entry.isFile()).map(({ name }) => name);
  }

  async close(): Promise<void> {
    await this.source.dispose?.();
    await rm(this.folder, { recursive: true, force: true });
  }
}

describe('dimse source', () => {
  let bench: Bench;
  afterEach(() => bench.close());

  it('stores every object durably as a DICOM file before it confirms it, and offers it', async () => {
    bench = await Bench.open();
    const films = [1, 2, 3].map((i) => dicomFilm(i));
    expect(await store(films, bench.scu())).to.deep.equal([0, 0, 0]);
    const [first] = films;
    const candidate = await firstValueFrom(bench.offered$);
    expect(candidate.name).to.match(new RegExp(`^[0-9a-f]{2}/${first?.instance ?? ''}-[0-9a-f]{16}\\.dcm$`));
    expect(await readFile(candidate.path)).to.deep.equal(dicomFile(1));
    expect(await bench.files()).to.have.length(3);
    // Sent again, it is the same file; another object under the same UID is another.
    const other = dicomFilm(1, { others: [[0x00204000, 'LT', 'another']] });
    expect(await store([...films, other], bench.scu())).to.deep.equal([0, 0, 0, 0]);
    expect(await bench.files()).to.have.length(4);
    await firstValueFrom(bench.offered$.pipe(skip(3)));
    await bench.source.settle?.(candidate, 'done', '');
    expect(await bench.files()).to.have.length(4);
  });

  it('offers what was received before, and deletes what is done if it is asked to', async () => {
    bench = await Bench.open();
    await store([dicomFilm(1), dicomFilm(2)], bench.scu());
    await bench.source.dispose?.();
    const { folder } = bench;
    await writeFile(join(folder, 'received', '.incoming', 'torn.part'), 'x');
    bench = await Bench.open({ onDone: 'delete' }, { once: true, folder });
    const found: Candidate[] = [];
    bench.offered$.subscribe((candidate) => found.push(candidate));
    await new Promise<void>((resolve) => bench.offered$.subscribe({ complete: resolve }));
    expect(found).to.have.length(2);
    expect(await bench.files()).to.have.length(2);
    for (const candidate of found) await bench.source.settle?.(candidate, 'done', '');
    expect(await bench.files()).to.deep.equal([]);
  });

  it('rejects senders that it does not know, and those who call another', async () => {
    bench = await Bench.open({
      callers: [{ aeTitle: 'SENDER' }, { aeTitle: 'FAR', hosts: ['10.0.0.0/8'] }],
    });
    for (const [more, reason] of [
      [{ calling: 'STRANGER' }, /does not know our AE title/],
      [{ calling: 'FAR' }, /does not know our AE title/],
      [{ called: 'OTHER' }, /does not have the AE title/],
    ] as const) {
      const error = await store([dicomFilm(1)], bench.scu(more)).catch((thrown: unknown) => thrown);
      expect(String(error)).to.match(reason);
    }
    expect(await bench.files()).to.deep.equal([]);
  });

  it('refuses objects that it has no room for, and continues', async () => {
    bench = await Bench.open({ minFreeBytes: 2 ** 50 });
    expect(await store([dicomFilm(1)], bench.scu())).to.deep.equal([0xa700]);
    await bench.close();
    bench = await Bench.open({ maxBytes: 8000 });
    const small = dicomFilm(2, { side: 16 });
    expect(await store([dicomFilm(1), small], bench.scu())).to.deep.equal([0x0110, 0]);
    expect(await bench.files()).to.have.length(1);
  });

  it('names an address that is not available', async () => {
    bench = await Bench.open();
    const [outcome] = await Promise.allSettled([Bench.open({ port: bench.port })]);
    expect(outcome).to.have.nested.property('reason.code', 'CONFIG_CREATE');
    expect(outcome)
      .to.have.nested.property('reason.message')
      .that.contains(`127.0.0.1:${bench.port}`)
      .and.contains('EADDRINUSE');
    for (const port of [-1, 65_536, 80.5, '80a'])
      expect(dimse.options.safeParse({ port, callers: [{ aeTitle: 'SENDER' }] }).success, `${port}`).to.equal(
        false,
      );
  });

  it('uses no UID as a path', async () => {
    bench = await Bench.open();
    const bad = ['../../evil', '..', '/etc/evil', 'a\0b'].map((instance) => ({ ...dicomFilm(1), instance }));
    expect(await store([...bad, dicomFilm(2)], bench.scu())).to.deep.equal([0x117, 0x117, 0x117, 0x117, 0]);
    expect((await readdir(bench.folder)).sort()).to.deep.equal(['received']);
    expect(await bench.files()).to.have.length(1);
  });

  /** An association by hand, after the acceptance. */
  async function associated(): Promise<Socket> {
    const socket = connect(bench.port, '127.0.0.1').on('error', () => undefined);
    const contexts = [{ id: 1, abstractSyntax: CR, transferSyntaxes: [EXPLICIT], result: 0 }];
    socket.write(associatePdu(1, { called: 'RXRAY', calling: 'SENDER', contexts, maxLength: 16_384 }));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer[0]).to.equal(PDU.associateAccept);
    return socket;
  }

  it('removes incomplete transfers, and continues', async () => {
    bench = await Bench.open();
    const { instance, dataSet } = dicomFilm(1);
    const socket = await associated();
    const command = commandBytes(
      new Map<number, string | number>([
        [FIELD.sopClass, CR],
        [FIELD.command, COMMAND.store],
        [FIELD.messageId, 1],
        [FIELD.dataSetType, 1],
        [FIELD.instance, instance],
      ]),
    );
    for (const part of dataPdus(1, true, command, 16_384)) socket.write(part);
    const [part] = dataPdus(1, false, dataSet, 4096);
    await new Promise((done) => socket.write(part ?? '', done));
    while ((await bench.files()).length === 0) await new Promise((done) => setTimeout(done, 10));
    socket.destroy();
    while ((await bench.files()).length > 0) await new Promise((done) => setTimeout(done, 10));
    // Bytes that are no DICOM, a PDU that is too long, data without a command, a malformed command.
    const long = Buffer.from([PDU.data, 0, 0x7f, 0xff, 0xff, 0xff]);
    const alone = [...dataPdus(1, false, dataSet, 4096)][0] ?? long;
    const malformed = [...dataPdus(1, true, Buffer.alloc(64, 0xff), 4096)][0] ?? long;
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), long, alone, malformed]) {
      const hostile =
        bytes === long || bytes === alone || bytes === malformed
          ? await associated()
          : connect(bench.port, '127.0.0.1').on('error', () => undefined);
      hostile.write(bytes);
      hostile.resume();
      await once(hostile, 'close');
    }
    expect(await store([dicomFilm(1)], bench.scu())).to.deep.equal([0]);
    expect(await bench.files()).to.have.length(1);
  });

  it('bounds the associations, and ends silent ones', async () => {
    bench = await Bench.open({ maxAssociations: 1, timeoutMs: 1000 });
    const socket = await associated();
    const refused = await store([dicomFilm(1)], bench.scu()).catch((thrown: unknown) => thrown);
    expect(String(refused)).to.match(/rejected|closed|ECONNRESET|EPIPE/);
    socket.resume();
    await once(socket, 'close');
    expect(await store([dicomFilm(1)], bench.scu())).to.deep.equal([0]);
  });

  it('serves echoscu and storescu of dcmtk, and refuses SOP classes that are not of storage', async function () {
    if (!has('storescu')) return this.skip();
    bench = await Bench.open();
    const address = ['-aet', 'SENDER', '-aec', 'RXRAY', '127.0.0.1', String(bench.port)];
    expect((await execute('echoscu', ['-v', ...address])).output).to.match(
      /Received Echo Response \(Success\)/,
    );
    await writeFile(join(bench.folder, 'film.dcm'), dicomFile(7));
    const { code, output } = await execute('storescu', ['-v', ...address, join(bench.folder, 'film.dcm')]);
    expect(code, output).to.equal(0);
    expect(await bench.files()).to.have.length(1);
    const { output: found } = await execute('findscu', [
      '-v',
      '-S',
      '-k',
      'QueryRetrieveLevel=STUDY',
      ...address,
    ]);
    expect(found).to.match(/No Acceptable Presentation Contexts/);
  });

  it('receives over TLS, from senders with a certificate alone', async function () {
    if (!has('openssl')) return this.skip();
    const keys = await mkdtemp(join(tmpdir(), 'rxray-keys-'));
    const [key, cert] = [join(keys, 'key.pem'), join(keys, 'cert.pem')];
    const made = await execute('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-subj',
      '/CN=localhost',
    ]);
    expect(made.code, made.output).to.equal(0);
    bench = await Bench.open({ tls: { key, cert, ca: cert } });
    const tls = { ca: await readFile(cert), servername: 'localhost' };
    const own = { key: await readFile(key), cert: await readFile(cert) };
    expect(await store([dicomFilm(1)], bench.scu({ tls: { ...tls, ...own } }))).to.deep.equal([0]);
    const error = await store([dicomFilm(2)], bench.scu({ tls })).catch((thrown: unknown) => thrown);
    expect(error).to.be.instanceOf(Error);
    await rm(keys, { recursive: true });
  });
});
