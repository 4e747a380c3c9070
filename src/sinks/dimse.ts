import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { durably } from '../core/durable.js';
import { messageOf, RxrayError, Unavailable } from '../core/errors.js';
import type { Frame } from '../core/frame.js';
import { isThisMachine } from '../core/this-machine.js';
import { defineSink, MAX_TIMER_MS, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { AE_TITLE } from '../dicom/ae-title.js';
import { STATUS } from '../dicom/pdu.js';
import { type ObjectToSend, type ScuOptions, store } from '../dicom/scu.js';
import { objectMaker, objectOptions, pictureRendering } from './dicom/objects.js';
import { oneByOne } from './one-by-one.js';

const options = z.strictObject({
  host: z.string().min(1).default('127.0.0.1').describe('Host name or address of the receiver.'),
  port: z.int().min(1).max(65_535).describe('Port of the receiver.'),
  called: AE_TITLE.describe('The AE title of the receiver.'),
  aeTitle: AE_TITLE.default('RXRAY').describe('Our own AE title, as configured at the receiver.'),
  ...objectOptions,
  receiveTimeoutMs: z
    .int()
    .min(100)
    .max(MAX_TIMER_MS)
    .default(20_000)
    .describe('Time limit for each answer of the receiver.'),
  tls: z
    .strictObject({
      ca: z.string().min(1).optional().describe('Certificates to trust, a PEM file. Default: those of Node.'),
      key: z
        .string()
        .min(1)
        .optional()
        .describe('Our own private key, a PEM file, if the receiver requires one.'),
      cert: z.string().min(1).optional().describe('Our own certificate, a PEM file.'),
    })
    .optional()
    .describe('Encrypts the connection. The certificate of the receiver is verified.'),
});
type DimseOptions = z.output<typeof options>;

export default defineSink({
  name: 'dimse',
  summary: 'Sends a structured report of every DICOM film to a PACS (C-STORE).',
  options,
  examples: [
    { title: 'To an Orthanc on this machine', with: { port: 4242, called: 'ORTHANC' } },
    {
      title: 'With a picture, encrypted',
      with: {
        host: 'pacs.example.org',
        port: 2762,
        called: 'ARCHIVE',
        picture: true,
        tls: { ca: './tls/pacs.crt' },
      },
    },
  ],
  maxBatch: 16,
  outbox: true,
  pixels: ({ picture }) => picture,
  ...pictureRendering,
  create: dimseSink,
});

async function dimseSink(settings: DimseOptions, services: SinkServices): Promise<SinkInstance> {
  const { host, port, called, aeTitle: calling, receiveTimeoutMs: timeoutMs } = settings;
  const { id: component, signal, log } = services;
  const objectsOf = await objectMaker(settings, services);
  const tls = settings.tls && (await tlsOptions(settings.tls, services));
  if (tls === undefined && !isThisMachine(host)) {
    log.warn({ sink: component, host }, 'what is sent is not encrypted: see `tls`');
  }
  const scu: ScuOptions = { host, port, called, calling, timeoutMs, tls, signal };

  /** Throws for the first object that was not stored. */
  function check(objects: readonly ObjectToSend[], statuses: readonly number[]): void {
    for (const [i] of objects.entries()) {
      const status = statuses[i] ?? STATUS.processingFailure;
      // Warnings are success: the object is stored.
      if (status === STATUS.success || status >> 12 === 0xb) continue;
      const hex = status.toString(16).toUpperCase().padStart(4, '0');
      if (status >> 8 === 0xa7) throw new Unavailable(`it is out of resources (status ${hex})`);
      const why =
        status === STATUS.sopClassNotSupported
          ? 'it does not take objects of this SOP class'
          : 'it refused an object';
      throw new RxrayError('FRAME_SINK', `${called}: ${why} (status ${hex})`, { component });
    }
  }

  async function send(frames: readonly Frame[]): Promise<void> {
    const objects = (await Promise.all(frames.map(objectsOf))).flat();
    if (objects.length === 0) return;
    let statuses: readonly number[];
    try {
      statuses = await store(objects, scu);
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Unavailable(`${called} at ${host}:${String(port)} takes nothing: ${messageOf(error)}`);
    }
    check(objects, statuses);
  }

  return oneByOne(
    'dimse',
    (frames) => durably('dimse.send', () => send(frames)),
    () => undefined,
  );
}

async function tlsOptions(
  files: NonNullable<DimseOptions['tls']>,
  { resolve }: SinkServices,
): Promise<Record<string, Buffer>> {
  const entries = Object.entries(files).map(
    async ([name, file]) => [name, await readFile(resolve(file ?? ''))] as const,
  );
  return Object.fromEntries(await Promise.all(entries));
}
