import { readFile } from 'node:fs/promises';
import { BlockList, createServer, isIP, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { relative, resolve, sep } from 'node:path';
import { Observable, Subject } from 'rxjs';
import { z } from 'zod';
import { messageOf, RxrayError } from '../core/errors.js';
import { type Candidate, defineSource, MAX_TIMER_MS, type SourceServices } from '../core/plugin.js';
import { AE_TITLE } from '../dicom/ae-title.js';
import { PDU, pdu, REJECTIONS } from '../dicom/pdu.js';
import { serveAssociation } from '../dicom/scp.js';
import { FilmGroups, groupOptions } from './dimse/groups.js';
import { IncomingFolder } from './dimse/incoming.js';

const options = z.strictObject({
  aeTitle: AE_TITLE.default('RXRAY').describe('Our own AE title. Calls to another one are rejected.'),
  host: z
    .string()
    .default('127.0.0.1')
    .describe('The address to listen on. Default: only this machine can send; `0.0.0.0`: all networks.'),
  port: z.int().min(0).max(65_535).default(11_112).describe('The port to listen on; 0: any free port.'),
  callers: z
    .array(
      z.strictObject({
        aeTitle: AE_TITLE.describe('The AE title of a sender.'),
        hosts: z
          .array(z.string().refine(isNetwork, 'expected an IP address or a network as `10.1.0.0/16`'))
          .min(1)
          .default(['127.0.0.1', '::1'])
          .describe('IP addresses, or networks such as `10.1.0.0/16`, from which it may send.'),
      }),
    )
    .min(1)
    .describe('The allowed senders. Others are rejected.'),
  path: z
    .string()
    .min(1)
    .default('./received')
    .describe('The folder for received files, relative to the pipeline file. Created if it is missing.'),
  onDone: z
    .enum(['keep', 'delete'])
    .default('keep')
    .describe(
      'What happens to a received file that is done. A failed one stays, and the dead letter has a copy.',
    ),
  groups: groupOptions
    .optional()
    .describe(
      'Holds objects back until their study or series is complete, and then processes them together. Default: each when it ' +
        'arrives.',
    ),
  maxBytes: z
    .int()
    .positive()
    .default(512 * 1024 * 1024)
    .describe('Largest object in bytes. A larger one is refused with the status 0110.'),
  minFreeBytes: z
    .int()
    .min(0)
    .default(256 * 1024 * 1024)
    .describe(
      'Objects are refused with the status A700 (out of resources) while the disk has less free space than this.',
    ),
  maxAssociations: z
    .int()
    .min(1)
    .max(1000)
    .default(16)
    .describe('Maximum number of associations at a time; further ones are rejected.'),
  maxPduBytes: z
    .int()
    .min(4096)
    .max(16 * 1024 * 1024)
    .default(128 * 1024)
    .describe('Longest P-DATA PDU. A longer one ends the association.'),
  timeoutMs: z
    .int()
    .min(100)
    .max(MAX_TIMER_MS)
    .default(60_000)
    .describe('An association without a complete PDU for this long is ended.'),
  tls: z
    .strictObject({
      key: z.string().min(1).describe('The private key, a PEM file.'),
      cert: z.string().min(1).describe('The certificate, a PEM file.'),
      ca: z
        .string()
        .min(1)
        .optional()
        .describe(
          'Certificates that sign those of the senders, a PEM file. Senders without one are rejected.',
        ),
    })
    .optional()
    .describe('Encrypts the connections.'),
});
type DimseOptions = z.output<typeof options>;

export default defineSource({
  name: 'dimse',
  summary:
    'Receives DICOM objects over the network (C-STORE, C-ECHO). Each is durable on disk before it is confirmed.',
  options,
  examples: [
    { title: 'From a PACS on this machine', with: { callers: [{ aeTitle: 'ORTHANC' }] } },
    {
      title: 'From a modality in the network, encrypted',
      with: {
        host: '0.0.0.0',
        callers: [{ aeTitle: 'CR_ROOM_1', hosts: ['10.1.4.0/24'] }],
        tls: { key: './tls/rxray.key', cert: './tls/rxray.crt', ca: './tls/senders.crt' },
        onDone: 'delete',
      },
    },
    {
      title: 'Whole studies: all films together, when none has arrived for half a minute',
      with: { callers: [{ aeTitle: 'ORTHANC' }], groups: { by: 'study', complete: { afterMs: 30_000 } } },
    },
  ],
  takes: ({ path }, file, baseDir) =>
    IncomingFolder.holds(relative(resolve(baseDir, path), file).split(sep).join('/')),
  async create(settings, services) {
    const path = services.resolve(settings.path);
    const { id: source, log } = services;
    const offered = new Subject<Candidate>();
    const offer = (candidate: Candidate): void => offered.next(candidate);
    const received = async (candidate: Candidate): Promise<void> => {
      if (groups === undefined) offer(candidate);
      else await groups.add(candidate);
    };
    const cannotWrite = (cause: unknown): never => {
      throw new RxrayError('CONFIG_CREATE', `the folder ${path} cannot be written: ${messageOf(cause)}`, {
        cause,
      });
    };
    const folder = await IncomingFolder.open(path, {
      ...settings,
      onStored: (candidate) => void received(candidate),
    }).catch(cannotWrite);
    const groups =
      settings.groups &&
      (await FilmGroups.open(folder.root, settings.groups, settings.maxBytes, { source, log, offer }).catch(
        cannotWrite,
      ));
    const look = async (name: string): Promise<Candidate | undefined> => {
      const candidate = await folder.look(name);
      return candidate && (groups?.of(candidate) ?? candidate);
    };
    const receiver = services.once ? undefined : await Receiver.listen(settings, services, folder);
    return {
      candidates$: new Observable((subscriber) => {
        const live = offered.subscribe(subscriber);
        offerAll(folder, services, received, () => subscriber.closed)
          .then(() => groups?.start({ only: services.once }))
          .then(
            () => {
              if (services.once) subscriber.complete();
            },
            (error: unknown) => subscriber.error(error),
          );
        return () => {
          live.unsubscribe();
          receiver?.stop();
          groups?.close();
        };
      }),
      look,
      lost: ({ name }) => {
        void look(name).then((candidate) => candidate && offer(candidate));
      },
      settle: async (candidate, outcome) => {
        if (outcome === 'done' && settings.onDone === 'delete') await folder.remove(candidate);
        await groups?.settled(candidate.name);
      },
      dispose: async () => {
        groups?.close();
        await receiver?.close();
      },
    };
  },
});

/** Files per query of the journal. */
const AT_ONCE = 64;

/** Offers files that were received earlier and are not settled. */
async function offerAll(
  folder: IncomingFolder,
  { unsettled }: SourceServices,
  offer: (candidate: Candidate) => Promise<void>,
  isClosed: () => boolean,
): Promise<void> {
  let some: Candidate[] = [];
  const ask = async (): Promise<void> => {
    for (const candidate of await unsettled(some)) await offer(candidate);
    some = [];
  };
  for await (const candidate of folder.files()) {
    if (isClosed()) return;
    if (some.push(candidate) === AT_ONCE) await ask();
  }
  if (some.length > 0) await ask();
}

/** The server with its associations. */
class Receiver {
  readonly #sockets = new Set<Socket>();
  readonly #serving = new Set<Promise<void>>();

  private constructor(
    private readonly server: Server,
    private readonly settings: DimseOptions,
    private readonly services: SourceServices,
    private readonly folder: IncomingFolder,
  ) {}

  /** Throws CONFIG_CREATE if the address is not available, or the files of `tls` cannot be read. */
  static async listen(
    settings: DimseOptions,
    services: SourceServices,
    folder: IncomingFolder,
  ): Promise<Receiver> {
    const { host, port, tls } = settings;
    const { log, id: source } = services;
    try {
      const server =
        tls === undefined
          ? createServer()
          : createTlsServer({ ...(await tlsOptions(tls, services)), handshakeTimeout: settings.timeoutMs });
      const receiver = new Receiver(server, settings, services, folder);
      server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) =>
        receiver.#accept(socket),
      );
      server.on('tlsClientError', (error: Error) =>
        log.warn({ source }, `a TLS handshake failed: ${messageOf(error)}`),
      );
      await new Promise<void>((done, failed) => {
        server.once('error', failed);
        server.listen(port, host, done);
      });
      server.on('error', (error) => log.error({ source }, `the receiver: ${messageOf(error)}`));
      const address = server.address();
      const listening = typeof address === 'object' && address !== null ? address.port : port;
      log.info({ source, host, port: listening, aeTitle: settings.aeTitle }, 'listening for DICOM');
      if (tls === undefined && host !== 'localhost' && !isFrom(host, LOOPBACK)) {
        log.warn({ source, host }, 'what is received from the network is not encrypted: see `tls`');
      }
      return receiver;
    } catch (cause) {
      throw new RxrayError(
        'CONFIG_CREATE',
        `DICOM cannot be received at ${host}:${String(port)}: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** Accepts no more associations. */
  stop(): void {
    this.server.close();
  }

  /** Ends open associations, too: senders repeat what was not confirmed. */
  async close(): Promise<void> {
    this.stop();
    for (const socket of this.#sockets) {
      if (socket.writable) socket.end(pdu(PDU.abort, Buffer.of(0, 0, 2, 0)));
      socket.destroySoon();
    }
    await Promise.all(this.#serving);
  }

  #accept(socket: Socket): void {
    const { aeTitle: title, maxAssociations, maxPduBytes, timeoutMs, callers } = this.settings;
    const { id: source, log } = this.services;
    const peer = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    // Reading from the socket reports errors.
    socket.on('error', () => undefined);
    if (this.#sockets.size >= maxAssociations) {
      log.warn(
        { source, peer },
        `an association was rejected: ${maxAssociations} are under way (\`maxAssociations\`)`,
      );
      socket.end(pdu(PDU.associateReject, Buffer.of(0, ...REJECTIONS.tooMany)));
      socket.destroySoon();
      return;
    }
    this.#sockets.add(socket);
    const serving = serveAssociation(socket, {
      aeTitle: title,
      maxPdu: maxPduBytes,
      timeoutMs,
      allows: (calling) => {
        const allowed = callers.some(({ aeTitle: known, hosts }) => known === calling && isFrom(peer, hosts));
        if (!allowed)
          log.warn({ source, peer }, 'an association was rejected: its caller is not among `callers`');
        return allowed;
      },
      receive: (identity) => this.folder.receive(identity),
    })
      .catch((error: unknown) => {
        log.warn({ source, peer }, `an association broke off: ${messageOf(error)}`);
      })
      .finally(() => {
        this.#sockets.delete(socket);
        this.#serving.delete(serving);
      });
    this.#serving.add(serving);
  }
}

const LOOPBACK = ['127.0.0.0/8', '::1'];

function isFrom(address: string, hosts: readonly string[]): boolean {
  const family = isIP(address);
  return family !== 0 && listOf(hosts).check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function listOf(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list;
}

function isNetwork(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

async function tlsOptions(
  { key, cert, ca }: NonNullable<DimseOptions['tls']>,
  { resolve: place }: SourceServices,
): Promise<{ key: Buffer; cert: Buffer; ca?: Buffer; requestCert: boolean }> {
  return {
    key: await readFile(place(key)),
    cert: await readFile(place(cert)),
    ...(ca !== undefined && { ca: await readFile(place(ca)) }),
    requestCert: ca !== undefined,
  };
}
