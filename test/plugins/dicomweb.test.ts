import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { filter, firstValueFrom, lastValueFrom, ReplaySubject, skip, toArray } from 'rxjs';
import type { Candidate, SourceInstance } from '../../src/core/plugin.js';
import dicomweb from '../../src/plugins/dicomweb.js';
import { testServices, type TestServices, type TestServicesOptions } from '../../src/testing.js';
import { sendFilm, TestArchive } from '../support/archive.js';
import { dicomFile, testUid } from '../support/dicom.js';

const MOST = 1_000_000;

describe('dicomweb source', () => {
  let folder: string;
  let archive: TestArchive;
  let services: TestServices;
  const sources: SourceInstance[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-dicomweb-'));
    archive = await TestArchive.listen();
  });
  afterEach(async () => {
    services.abort();
    for (const source of sources.splice(0)) await source.dispose?.();
    await archive.close();
    await rm(folder, { recursive: true });
  });

  async function open(settings: object = {}, options: TestServicesOptions = {}): Promise<SourceInstance> {
    services = testServices({ baseDir: folder, ...options });
    const all = { url: archive.url, pollMs: 100, ...settings };
    const source = await dicomweb.create(dicomweb.options.parse(all), services);
    sources.push(source);
    return source;
  }

  function put(index: number, modality = 'CR', series = index % 2): void {
    archive.objects.push({
      ...{ study: testUid('study', 1), series: testUid('series', series), instance: testUid('film', index) },
      ...{ modality, bytes: dicomFile(index) },
    });
  }

  const all = (source: SourceInstance): Promise<Candidate[]> =>
    lastValueFrom(source.candidates$.pipe(toArray()), { defaultValue: [] });
  const files = async (): Promise<string[]> =>
    (await readdir(join(folder, 'fetched'), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map(({ name }) => name);

  it('fetches a film when it is admitted, and keeps it until it is settled', async () => {
    for (const i of [1, 2, 3]) put(i);
    put(4, 'SR', 7);
    const source = await open({}, { once: true });
    const found = await all(source);
    expect(found.map(({ name }) => name.split('/').at(-1)).sort()).to.deep.equal(
      [1, 2, 3].map((i) => `${testUid('film', i)}.dcm`),
    );
    expect(await files()).to.deep.equal([]);
    const [first] = found;
    if (first === undefined) throw new Error('nothing was offered');
    const index = Number(/\.(\d+)\.dcm$/.exec(first.name)?.[1]);
    const copy = await source.fetch?.(first, MOST);
    expect(await readFile(copy?.path ?? '')).to.deep.equal(dicomFile(index));
    // The host deletes its copy; a sink reads the film's header later.
    await rm(copy?.path ?? '');
    expect(await readFile(first.path)).to.deep.equal(dicomFile(index));
    // What is there already is not fetched again.
    const before = archive.requests.length;
    await rm((await source.fetch?.(first, MOST))?.path ?? '');
    expect(archive.requests).to.have.length(before);
    await source.settle?.(first, 'failed', '');
    expect(await files()).to.have.length(1);
    await source.settle?.(first, 'done', '');
    expect(await readdir(join(folder, 'fetched'))).to.deep.equal(['.incoming']);
    expect(await source.look?.(first.name)).to.deep.equal(first);
    expect(await source.look?.('../../etc/passwd')).to.equal(undefined);
  });

  it('fetches a film while the last one of its series is settled', async () => {
    for (const i of [1, 3]) put(i);
    const source = await open({ modalities: ['CR'] }, { once: true });
    const [one, other] = await all(source);
    if (one === undefined || other === undefined) throw new Error('two films were to be offered');
    for (let round = 0; round < 200; round++) {
      const [settled, fetched] = round % 2 === 0 ? [one, other] : [other, one];
      const [copy] = await Promise.all([
        source.fetch?.(fetched, MOST),
        round > 0 && source.settle?.(settled, 'done', ''),
      ]);
      await rm(copy?.path ?? '');
    }
  });

  it('searches again, for new films only, and by pages', async () => {
    for (let i = 0; i < 230; i++) put(i, 'CR', 0);
    const settled: string[] = [];
    const source = await open(
      { modalities: ['CR'], days: 3, query: { BodyPartExamined: 'CHEST' } },
      { unsettled: async (some) => some.filter(({ name }) => !settled.includes(name)) },
    );
    const seen = new ReplaySubject<Candidate>();
    source.candidates$.subscribe(seen);
    await firstValueFrom(seen.pipe(skip(229)));
    expect(archive.requests[0]).to.match(
      /^GET \/dicom-web\/series\?StudyDate=20\d{6}-&BodyPartExamined=CHEST&Modality=CR&includefield=00201209&limit=100&offset=0$/,
    );
    const lists = (): string[] => archive.requests.filter((each) => each.includes('/instances?'));
    expect(lists()).to.have.length(3);
    for (let i = 0; i < 230; i++)
      settled.push(`${testUid('study', 1)}/${testUid('series', 0)}/${testUid('film', i)}.dcm`);
    put(900, 'CR', 5);
    const late = await firstValueFrom(seen.pipe(skip(230)));
    expect(late.name).to.contain(testUid('film', 900));
    // The first series has not changed: its films were not listed again.
    expect(lists()).to.have.length(4);
  });

  it('lists a series again whose archive counts a film that it does not list yet', async () => {
    for (const i of [2, 4]) put(i);
    let lists = 0;
    archive.trick = (request) => {
      if (request.url?.includes('/instances?') !== true) return false;
      lists += 1;
      if (lists > 1) return false;
      const [late] = archive.objects.splice(1);
      setImmediate(() => {
        if (late !== undefined) archive.objects.push(late);
      });
      return false;
    };
    const source = await open({ modalities: ['CR'] });
    const seen = new ReplaySubject<Candidate>();
    source.candidates$.subscribe(seen);
    expect((await firstValueFrom(seen)).name).to.contain(testUid('film', 2));
    await firstValueFrom(seen.pipe(filter(({ name }) => name.includes(testUid('film', 4)))));
    expect(lists).to.equal(2);
  });

  it('reads on where an archive gives fewer entries than were asked for, and warns', async () => {
    for (let i = 0; i < 80; i++) put(i, 'CR', 0);
    archive.trick = (request, response) => {
      const url = new URL(request.url ?? '', archive.url);
      if (Number(url.searchParams.get('limit')) <= 50) return false;
      url.searchParams.set('limit', '50');
      request.url = url.pathname + url.search;
      response.setHeader('warning', '299 archive "There are more results."');
      return false;
    };
    expect(await all(await open({ modalities: ['CR'] }, { once: true }))).to.have.length(80);
  });

  it('waits while the archive is down, reports it, and continues', async () => {
    put(1);
    const { port } = archive;
    const source = await open();
    const candidate = await firstValueFrom(source.candidates$);
    await archive.close();
    const fetching = source.fetch?.(candidate, MOST);
    while (!services.logged.some((line) => line.includes('"level":"outage"')))
      await new Promise(setImmediate);
    archive = await TestArchive.listen(port);
    put(1);
    expect(await readFile((await fetching)?.path ?? '')).to.deep.equal(dicomFile(1));
    expect(services.logged.filter((line) => line.includes('outage')).at(-1)).to.contain('null');
  });

  it('ends a run with --once, and reports that the archive could not be searched', async () => {
    archive.trick = (_, response) => Boolean(response.writeHead(403).end());
    expect(await all(await open({}, { once: true }))).to.deep.equal([]);
    expect(services.logged.join()).to.match(/unread.*127\.0\.0\.1.*403 Forbidden/);
  });

  it('checks everything that an archive sends', async () => {
    put(1);
    const source = await open({ answerTimeoutMs: 400 }, { once: true });
    const [candidate] = await all(source);
    if (candidate === undefined) throw new Error('nothing was offered');
    const answers: [RegExp, (response: ServerResponse) => unknown][] = [
      [/it sent another object/, (response) => sendFilm(response, dicomFile(2))],
      [/no DICOM object/, (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>')],
      [
        /incomplete/,
        (response) =>
          response
            .writeHead(200, { 'content-type': 'multipart/related; boundary=x' })
            .end('--x\r\nContent-Type: application/dicom\r\n\r\nhalf of'),
      ],
      [/404 Not Found/, (response) => response.writeHead(404).end()],
      [/302 Found/, (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
      [/more bytes than/, (response) => sendFilm(response, Buffer.alloc(2 * MOST))],
    ];
    for (const [reason, answer] of answers) {
      archive.trick = (_: IncomingMessage, response: ServerResponse) => {
        answer(response);
        return true;
      };
      const error: unknown = await source.fetch?.(candidate, MOST).catch((thrown: unknown) => thrown);
      expect(String(error)).to.match(reason);
      expect(error)
        .to.have.property('code')
        .that.matches(/^FRAME_(?:UNREADABLE|TOO_LARGE)$/);
    }
    expect(await files()).to.deep.equal([]);
  });

  it('uses no UID as a path, and refuses a malformed list', async () => {
    put(1);
    archive.objects.push({
      ...archive.objects[0],
      instance: '../../../evil',
      series: testUid('series', 1),
    } as never);
    archive.objects.push({ ...archive.objects[0], series: '..', instance: '1.2' } as never);
    expect(await all(await open({}, { once: true }))).to.have.length(1);
    for (const body of ['{"no": "list"}', 'garbage', '[[]]']) {
      archive.trick = (_, response) => Boolean(response.writeHead(200).end(body));
      expect(await all(await open({}, { once: true }))).to.deep.equal([]);
      expect(services.logged.join()).to.match(/not the JSON of DICOMweb/);
    }
  });
});
