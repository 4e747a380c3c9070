import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Frame } from '../../src/core/frame.js';
import type { Candidate } from '../../src/core/plugin.js';
import { metaHeader } from '../../src/dicom/part10.js';
import { store } from '../../src/dicom/scu.js';
import { EXPLICIT } from '../../src/dicom/syntaxes.js';
import dicomwebSource from '../../src/plugins/dicomweb.js';
import dimseSource from '../../src/plugins/dimse.js';
import dicomwebSink from '../../src/sinks/dicomweb.js';
import dimseSink from '../../src/sinks/dimse.js';
import { uidOf } from '../../src/sinks/dicom/report.js';
import { sinkContract, sourceContract, testServices } from '../../src/testing.js';
import { TestArchive } from '../support/archive.js';
import { dicomFile, dicomFilm, freePort, testUid } from '../support/dicom.js';

const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex');
const temporary = (): Promise<string> => mkdtemp(join(tmpdir(), 'rxray-contract-'));

sourceContract('dimse', async () => {
  const folder = await temporary();
  const port = await freePort();
  const settings = {
    path: join(folder, 'received'),
    port,
    callers: [{ aeTitle: 'SENDER' }],
    minFreeBytes: 0,
  };
  const offered = new Map<string, Pick<Candidate, 'name' | 'size'>>();
  return {
    plugin: dimseSource,
    with: settings,
    refused: [
      {},
      { ...settings, callers: [] },
      { ...settings, aeTitle: 'longer than sixteen' },
      { ...settings, tls: { key: join(folder, 'missing'), cert: join(folder, 'missing') } },
    ],
    async put(name) {
      const film = dicomFilm(offered.size, { side: 16 });
      const file = Buffer.concat([metaHeader({ ...film, syntax: EXPLICIT }), film.dataSet]);
      const stored = `${film.instance}-${sha256(file).slice(0, 16)}.dcm`;
      offered.set(name, { name: `${sha256(stored).slice(0, 2)}/${stored}`, size: file.length });
      const { signal } = new AbortController();
      const send = () =>
        store([film], {
          host: '127.0.0.1',
          port,
          called: 'RXRAY',
          calling: 'SENDER',
          timeoutMs: 5000,
          signal,
        });
      try {
        await send();
      } catch {
        // Nobody listens: another process has received it before.
        const earlier = await dimseSource.create(dimseSource.options.parse(settings), testServices());
        await send();
        await earlier.dispose?.();
      }
    },
    offered: (name) => offered.get(name) ?? { name, size: 0 },
    dispose: () => rm(folder, { recursive: true }),
  };
});

sourceContract('dicomweb', async () => {
  const folder = await temporary();
  const archive = await TestArchive.listen();
  const settings = { url: archive.url, path: join(folder, 'fetched'), pollMs: 100 };
  const places = new Map<string, string>();
  return {
    plugin: dicomwebSource,
    with: settings,
    refused: [
      {},
      { ...settings, url: 'ftp://example.org' },
      { ...settings, url: 'http://user:secret@127.0.0.1/' },
      { ...settings, modalities: [] },
      { ...settings, query: { limit: '5' } },
    ],
    async put(name) {
      const index = places.size;
      const [study, series, instance] = [
        testUid('study', 1),
        testUid('series', index % 2),
        testUid('film', index),
      ];
      const bytes = dicomFile(index, { side: 16 });
      archive.objects.push({ study, series, instance, modality: 'CR', bytes });
      places.set(name, `${study}/${series}/${instance}.dcm`);
      await Promise.resolve();
    },
    offered: (name) => ({ name: places.get(name) ?? '', size: 0 }),
    async dispose() {
      await archive.close();
      await rm(folder, { recursive: true });
    },
  };
});

/** The suite's frames with a DICOM film each, and what an arriving report is about. */
function films(folder: string): { complete(frame: Frame): Promise<Frame>; frameOf(report: string): string } {
  const ids = new Map<string, string>();
  return {
    async complete(frame) {
      const bytes = dicomFile(ids.size, { side: 16 });
      const path = join(folder, `${ids.size}.dcm`);
      ids.set(uidOf('report', frame.id, undefined), frame.id);
      await writeFile(path, bytes);
      return { ...frame, origin: { ...frame.origin, path, sha256: sha256(bytes) } };
    },
    frameOf: (report) => ids.get(report) ?? report,
  };
}

sinkContract('dimse', async () => {
  const folder = await temporary();
  const port = await freePort();
  const { complete, frameOf } = films(folder);
  const receiver = await dimseSource.create(
    dimseSource.options.parse({
      ...{
        port,
        aeTitle: 'PACS',
        callers: [{ aeTitle: 'RXRAY' }],
        path: join(folder, 'received'),
        minFreeBytes: 0,
      },
    }),
    testServices(),
  );
  const arrived: string[] = [];
  receiver.candidates$.subscribe(({ name }) => {
    const [, instance = ''] = /^..\/([\d.]+)-/.exec(name) ?? [];
    arrived.push(instance);
  });
  return {
    plugin: dimseSink,
    with: { port, called: 'PACS' },
    refused: [
      {},
      { port },
      { port: 0, called: 'PACS' },
      { port, called: 'PACS', tls: { ca: join(folder, 'missing') } },
    ],
    complete,
    delivered: () => Promise.resolve(arrived.map((report) => ({ id: frameOf(report) }))),
    async dispose() {
      await receiver.dispose?.();
      await rm(folder, { recursive: true });
    },
  };
});

sinkContract('dicomweb', async () => {
  const folder = await temporary();
  const { complete, frameOf } = films(folder);
  /** As a PACS: an instance that it has is not stored again. */
  const stored = new Set<string>();
  const server = createServer((request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('latin1');
      // Of the meta header: the first such UID in the request.
      const [instance = ''] = /2\.25\.\d+/.exec(body) ?? [];
      stored.add(instance);
      response.writeHead(200, { 'content-type': 'application/dicom+json' }).end('{}');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/dicom-web`;
  return {
    plugin: dicomwebSink,
    with: { url },
    refused: [{}, { url: 'ftp://example.org' }, { url: 'http://user:secret@127.0.0.1/' }, { url, size: 1 }],
    complete,
    delivered: () => Promise.resolve([...stored].map((report) => ({ id: frameOf(report) }))),
    async dispose() {
      server.close();
      server.closeAllConnections();
      await rm(folder, { recursive: true });
    },
  };
});
