import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { bufferCount, firstValueFrom, lastValueFrom, ReplaySubject, skip, toArray } from 'rxjs';
import type { Candidate, SourceInstance } from '../../src/core/plugin.js';
import { associatePdu, COMMAND, commandBytes, dataPdus, FIELD, PDU } from '../../src/dicom/pdu.js';
import { type ObjectToSend, store, type ScuOptions } from '../../src/dicom/scu.js';
import { EXPLICIT } from '../../src/dicom/syntaxes.js';
import dimse from '../../src/plugins/dimse.js';
import { testServices, type TestServices } from '../../src/testing.js';
import { CR, dicomFile, dicomFilm, execute, has, testUid } from '../support/dicom.js';

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
    options: { once?: boolean; folder?: string; settled?: readonly string[] } = {},
  ): Promise<Bench> {
    const bench = new Bench(options.folder ?? (await mkdtemp(join(tmpdir(), 'rxray-dimse-'))));
    bench.services = testServices({
      baseDir: bench.folder,
      once: options.once ?? false,
      unsettled: (candidates) =>
        Promise.resolve(candidates.filter(({ name }) => options.settled?.includes(name) !== true)),
    });
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

  const ofStudy = (index: number, study: number): ObjectToSend =>
    dicomFilm(index, { others: [[0x0020000d, 'UI', testUid('study', study)]] });
  const records = () => readdir(join(bench.folder, 'received', '.groups'));

  it('holds films back until their study has as many as `count`, and offers them together', async () => {
    bench = await Bench.open({ groups: { complete: { count: 2 } } });
    await store([ofStudy(1, 1), ofStudy(2, 2), ofStudy(3, 1)], bench.scu());
    const found = await firstValueFrom(bench.offered$.pipe(bufferCount(2)));
    expect(found.map(({ name }) => name.slice(3).split('-')[0])).to.deep.equal([
      testUid('film', 1),
      testUid('film', 3),
    ]);
    const [{ group } = {}] = found;
    expect(group).to.deep.include({ by: 'study', films: 2, complete: true });
    expect(found[1]?.group).to.deep.equal(group);
    expect(await records()).to.deep.equal([`${group?.id ?? ''}.json`]);
    // A file that was lost is offered again with its group.
    const again = firstValueFrom(bench.offered$.pipe(skip(2)));
    if (found[0] !== undefined) bench.source.lost?.(found[0]);
    expect(await again).to.deep.equal(found[0]);
    for (const candidate of found) await bench.source.settle?.(candidate, 'done', '');
    expect(await records()).to.deep.equal([]);
  });

  it('goes on with groups after a restart: the rest of one, and one that waits', async () => {
    const groups = { by: 'series', complete: { count: 3 } };
    const inSeries = (index: number, series: number): ObjectToSend =>
      dicomFilm(index, { others: [[0x0020000e, 'UI', testUid('series', series)]] });
    bench = await Bench.open({ groups });
    await store([1, 2, 3].map((i) => inSeries(i, 1)).concat(inSeries(4, 2), inSeries(5, 2)), bench.scu());
    const [first, second, third] = await firstValueFrom(bench.offered$.pipe(bufferCount(3)));
    if (first === undefined || second === undefined) throw new Error('nothing was offered');
    // As if the process had ended here: one film is done and deleted, and one is done by the journal.
    await bench.source.dispose?.();
    await rm(first.path);
    const { folder } = bench;
    bench = await Bench.open({ groups }, { folder, settled: [second.name] });
    expect(await firstValueFrom(bench.offered$)).to.deep.equal(third);
    await store([inSeries(6, 2)], bench.scu());
    const rest = await firstValueFrom(bench.offered$.pipe(skip(1), bufferCount(3)));
    expect(rest.map(({ group }) => group?.films)).to.deep.equal([3, 3, 3]);
    for (const candidate of [third, ...rest]) {
      if (candidate !== undefined) await bench.source.settle?.(candidate, 'failed', '');
    }
    expect(await records()).to.deep.equal([]);
  });

  it('processes a group that is not complete after `afterMs`, and at the end of a run with --once', async () => {
    for (const [complete, isComplete] of [
      [{ afterMs: 1 }, true],
      [{ count: 9, afterMs: 1 }, false],
    ] as const) {
      bench = await Bench.open();
      await store([ofStudy(1, 1), ofStudy(2, 1)], bench.scu());
      await bench.source.dispose?.();
      bench = await Bench.open({ groups: { complete } }, { folder: bench.folder });
      const [one] = await firstValueFrom(bench.offered$.pipe(bufferCount(2)));
      expect(one?.group).to.deep.include({ films: 2, complete: isComplete });
      await bench.close();
    }
    bench = await Bench.open({ groups: { complete: { count: 9 } } });
    await store([ofStudy(1, 1), ofStudy(2, 1)], bench.scu());
    await bench.source.dispose?.();
    const { folder } = bench;
    bench = await Bench.open({ groups: { complete: { count: 9 } } }, { folder, once: true });
    const found = await lastValueFrom(bench.offered$.pipe(toArray()));
    expect(found.map(({ group }) => group?.complete)).to.deep.equal([false, false]);
  });

  it('offers an object without a study at once', async () => {
    bench = await Bench.open({ groups: { complete: { count: 9 } } });
    await store([dicomFilm(1, { others: [[0x0020000d, 'UI', '']] })], bench.scu());
    expect(await firstValueFrom(bench.offered$)).not.to.have.property('group');
  });

  it('refuses groups that say not when they are complete', () => {
    for (const complete of [{}, undefined, { count: 1 }, { afterMs: 0 }, { after: 5 }]) {
      const options = { callers: [{ aeTitle: 'SENDER' }], groups: { complete } };
      expect(dimse.options.safeParse(options).success, JSON.stringify(complete)).to.equal(false);
    }
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
    const [outcome] = await Promise.allSettled([Bench.open({ port: bench.port }, { folder: bench.folder })]);
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
