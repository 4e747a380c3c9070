import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import { type Candidate, type SourceInstance } from '../../src/core/plugin.js';
import {
  associatePdu,
  COMMAND,
  commandBytes,
  dataPdus,
  FIELD,
  PDU,
  pdu,
  type PresentationContext,
} from '../../src/dicom/pdu.js';
import { store, type ScuOptions } from '../../src/dicom/scu.js';
import { EXPLICIT, IMPLICIT } from '../../src/dicom/syntaxes.js';
import dimse from '../../src/plugins/dimse.js';
import { testServices } from '../../src/testing.js';
import { Random } from '../chaos/random.js';
import { CR, dicomFilm } from '../support/dicom.js';

/** How many fuzzed associations; `npm run chaos:dicom` makes more. */
const CASES = Number(process.env['RXRAY_DICOM_CASES'] ?? 60);
const SEED = Number(process.env['RXRAY_DICOM_SEED'] ?? 1);

const CONTEXT: PresentationContext = { id: 1, abstractSyntax: CR, transferSyntaxes: [EXPLICIT], result: 0 };
const request = (contexts = [CONTEXT], maxLength = 16_384): Buffer =>
  associatePdu(PDU.associateRequest, { called: 'RXRAY', calling: 'SENDER', contexts, maxLength });
const release = pdu(PDU.releaseRequest, Buffer.alloc(4));

/** A C-STORE of a small film, as PDUs. */
function storing(index: number, sopClass = CR): Buffer {
  const { instance, dataSet } = dicomFilm(index, { side: 16 });
  const command = commandBytes(
    new Map<number, string | number>([
      [FIELD.sopClass, sopClass],
      [FIELD.command, COMMAND.store],
      [FIELD.messageId, 1],
      [FIELD.dataSetType, 1],
      [FIELD.instance, instance],
    ]),
  );
  return Buffer.concat([...dataPdus(1, true, command, 16_384), ...dataPdus(1, false, dataSet, 600)]);
}

describe('hostile DICOM senders', function () {
  this.timeout(CASES * 500 + 240_000);
  let folder: string;
  let source: SourceInstance;
  let port: number;
  let offered: Candidate[];

  async function open(settings: object = {}): Promise<void> {
    const services = testServices({ baseDir: folder, once: false });
    const options = { port: 0, callers: [{ aeTitle: 'SENDER' }], minFreeBytes: 0, ...settings };
    source = await dimse.create(dimse.options.parse(options), services);
    offered = [];
    source.candidates$.subscribe((candidate) => offered.push(candidate));
    const line = services.logged.find((each) => each.includes('listening for DICOM')) ?? '{}';
    port = (JSON.parse(line) as { port: number }).port;
  }
  const scu = (): ScuOptions => ({
    ...{ host: '127.0.0.1', port, called: 'RXRAY', calling: 'SENDER', timeoutMs: 20_000 },
    signal: new AbortController().signal,
  });
  const files = async (): Promise<string[]> =>
    (await readdir(join(folder, 'received'), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map(({ name }) => name);

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-hostile-'));
  });
  afterEach(async () => {
    await source.dispose?.();
    await rm(folder, { recursive: true, force: true });
  });

  /** Sends bytes, says that nothing more comes, and waits for the end; returns what was answered. */
  async function say(bytes: Buffer): Promise<Buffer> {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    const answers: Buffer[] = [];
    socket.on('data', (answer: Buffer) => answers.push(answer));
    const closed = once(socket, 'close');
    socket.end(bytes);
    await closed;
    return Buffer.concat(answers);
  }

  /** The end of a connection is seen here before the receiver has opened what was broken off, or removed it. */
  async function nothingIsComing(): Promise<void> {
    for (let quiet = 0; quiet < 10; quiet++) {
      if ((await files()).some((name) => name.endsWith('.part'))) quiet = 0;
      await setTimeout(10);
    }
  }

  it('that ask for PDUs that are too small, or for too many contexts, are rejected', async () => {
    await open();
    for (const length of [1, 6, 7, 63]) {
      expect((await say(Buffer.concat([request([CONTEXT], length), storing(1), release])))[0]).to.equal(
        PDU.abort,
      );
    }
    const many = Array.from({ length: 5000 }, (_, i) => ({ ...CONTEXT, id: (2 * i + 1) % 256 }));
    expect((await say(request(many)))[0]).to.equal(PDU.abort);
    expect(await files()).to.deep.equal([]);
    expect(await store([dicomFilm(1)], scu())).to.deep.equal([0]);
  });

  it('that send wrong lengths are rejected, and nothing that they sent is kept', async () => {
    await open();
    const lies = [
      Buffer.from([PDU.associateRequest, 0, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([PDU.releaseRequest, 0, 0, 0, 0xff, 0xff]),
      Buffer.from([0x7f, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
      Buffer.concat([request(), pdu(PDU.data)]),
      Buffer.concat([request(), pdu(PDU.data, Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 3, 0, 0]))]),
      Buffer.concat([request(), pdu(PDU.data, Buffer.from([0, 0, 0, 1, 1]))]),
      Buffer.concat([request(), ...dataPdus(1, true, Buffer.alloc(100_000), 16_384)]),
      Buffer.concat([request(), storing(1, `${CR}.${'9'.repeat(60_000)}`)]),
      Buffer.concat([request([{ ...CONTEXT, abstractSyntax: `${CR}.../../../x` }]), storing(1)]),
      Buffer.concat([request(), storing(1).subarray(0, 700)]),
      request().subarray(0, 50),
    ];
    for (const lie of lies) await say(lie);
    await nothingIsComing();
    expect(await files()).to.deep.equal([]);
    expect(await store([dicomFilm(1)], scu())).to.deep.equal([0]);
  });

  it('that send a byte now and then are disconnected', async () => {
    await open({ maxAssociations: 1, timeoutMs: 500 });
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    const closed = new Promise((done) => socket.once('close', done));
    const bytes = request();
    let at = 0;
    const drip = setInterval(() => socket.write(bytes.subarray(at, ++at)), 20);
    await closed;
    clearInterval(drip);
    expect(at).to.be.lessThan(bytes.length);
    expect(await store([dicomFilm(1)], scu())).to.deep.equal([0]);
  });

  it('that send one object many times at once leave one file, which is offered once', async () => {
    await open();
    const film = dicomFilm(1, { side: 256 });
    const statuses = await Promise.all(Array.from({ length: 8 }, () => store([film, film], scu())));
    expect(new Set(statuses.flat())).to.deep.equal(new Set([0]));
    expect(await files()).to.have.length(1);
    expect(offered).to.have.length(1);
  });

  it('with fuzzed associations do no harm', async () => {
    await open({ timeoutMs: 5000 });
    const random = new Random(SEED);
    const whole = Buffer.concat([request(), storing(1), storing(2), release]);
    for (let i = 0; i < CASES; i++) {
      const bytes = Buffer.from(whole);
      for (let change = random.below(4); change >= 0; change--) {
        // Most of them in headers: pixels are not looked at.
        const at = random.below(random.chance(0.7) ? 500 : bytes.length);
        bytes[at] = random.below(256);
      }
      await say(random.chance(0.3) ? bytes.subarray(0, random.below(bytes.length)) : bytes);
    }
    await nothingIsComing();
    expect(await store([dicomFilm(3)], scu())).to.deep.equal([0]);
  });
});

describe('hostile DICOM receivers', () => {
  /** What becomes of sending a film to a receiver that does `answer` with each PDU's worth of bytes. */
  async function sendTo(answer: (socket: Socket, count: number) => void): Promise<number[] | Error> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket.on('error', () => undefined));
      let count = 0;
      answer(socket, count);
      socket.on('data', () => answer(socket, ++count));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const signal = new AbortController().signal;
    const options = { host: '127.0.0.1', port, called: 'PACS', calling: 'RXRAY', timeoutMs: 400, signal };
    try {
      return await store([dicomFilm(1)], options);
    } catch (error) {
      return error as Error;
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  }
  const accepting = (contexts = [{ ...CONTEXT }], maxLength = 16_384): Buffer =>
    associatePdu(PDU.associateAccept, {
      ...{ called: 'PACS', calling: 'RXRAY', maxLength },
      contexts: contexts.map(({ id, result, transferSyntaxes }) => ({ id, result, transferSyntaxes })),
    });

  it('that disconnect, are silent or send garbage give an error each, in bounded time', async () => {
    for (const [answer, reason] of [
      [(socket: Socket) => socket.destroy(), /closed|ECONNRESET/],
      [() => undefined, /did not answer within 400 ms/],
      [
        (socket: Socket, count: number) => count > 0 && socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
        /PDU type 72/,
      ],
      [
        (socket: Socket, count: number) =>
          count > 0 && socket.write(Buffer.from([PDU.associateAccept, 0, 0xff, 0xff, 0xff, 0xff])),
        /4294967295 bytes/,
      ],
      [(socket: Socket, count: number) => count > 0 && socket.write(accepting([CONTEXT], 5)), /nothing fits/],
      [
        (socket: Socket, count: number) =>
          count === 1 ? socket.write(accepting()) : count > 1 && socket.destroy(),
        /closed|ECONNRESET|EPIPE/,
      ],
      [
        (socket: Socket, count: number) =>
          count === 1
            ? socket.write(accepting())
            : count > 1 && socket.write(pdu(PDU.abort, Buffer.alloc(4))),
        /aborted/,
      ],
      [
        (socket: Socket, count: number) => {
          if (count === 1) socket.write(accepting());
          if (count !== 2) return;
          const [endless = Buffer.alloc(0)] = dataPdus(1, true, Buffer.alloc(20_000), 16_384);
          for (let i = 0; i < 50; i++) socket.write(endless);
        },
        /too long/,
      ],
    ] as const) {
      const found = await sendTo(answer);
      expect(found, String(reason)).to.be.instanceOf(Error);
      expect((found as Error).message).to.match(reason);
    }
  });

  it('that accept another transfer syntax than was offered get nothing', async () => {
    const implicit = [{ ...CONTEXT, transferSyntaxes: [IMPLICIT] }];
    const found = await sendTo((socket, count) => {
      if (count === 1) socket.write(accepting(implicit));
      if (count === 2) socket.write(pdu(PDU.releaseReply, Buffer.alloc(4)));
    });
    expect(found).to.deep.equal([0x0122]);
  });
});
