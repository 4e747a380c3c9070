import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Stored {
  readonly study: string;
  readonly series: string;
  readonly instance: string;
  readonly modality: string;
  readonly bytes: Buffer;
}

/** A DICOMweb service for tests: searches by Modality, in pages, and gives films in multipart answers. */
export class TestArchive {
  readonly objects: Stored[] = [];
  /** `GET /series?…` and so on, as they came. */
  readonly requests: string[] = [];
  /** Answers a request in the archive's place where it returns true. */
  trick: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;

  private constructor(private readonly server: Server) {}

  static async listen(port = 0): Promise<TestArchive> {
    const server = createServer();
    const archive = new TestArchive(server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      archive.requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
      if (!archive.trick(request, response)) archive.#answer(request, response);
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return archive;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/dicom-web`;
  }

  async close(): Promise<void> {
    if (!this.server.listening) return;
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '', this.url);
    const [, series, instance] =
      /\/studies\/[\d.]+\/series\/([\d.]+)\/instances(?:\/([\d.]+))?$/.exec(pathname) ?? [];
    if (instance !== undefined) {
      const found = this.objects.find((each) => each.instance === instance);
      if (found === undefined) response.writeHead(404).end();
      else sendFilm(response, found.bytes);
      return;
    }
    const [limit, offset] = ['limit', 'offset'].map((name) => Number(searchParams.get(name) ?? 0));
    const matching =
      series === undefined
        ? [...new Map(this.objects.map((each) => [each.series, each])).values()].filter(
            ({ modality }) => modality === searchParams.get('Modality'),
          )
        : this.objects.filter((each) => each.series === series);
    const page = matching.slice(offset, (offset ?? 0) + (limit ?? 0)).map((each) => ({
      '0020000D': { vr: 'UI', Value: [each.study] },
      '0020000E': { vr: 'UI', Value: [each.series] },
      ...(series !== undefined && { '00080018': { vr: 'UI', Value: [each.instance] } }),
      '00201209': { vr: 'IS', Value: [this.objects.filter((other) => other.series === each.series).length] },
    }));
    response.writeHead(200, { 'content-type': 'application/dicom+json' }).end(JSON.stringify(page));
  }
}

export function sendFilm(response: ServerResponse, bytes: Buffer): void {
  response
    .writeHead(200, { 'content-type': 'multipart/related; type="application/dicom"; boundary="in-between"' })
    .end(
      Buffer.concat([
        Buffer.from('--in-between\r\nContent-Type: application/dicom\r\n\r\n'),
        bytes,
        Buffer.from('\r\n--in-between--\r\n'),
      ]),
    );
}
