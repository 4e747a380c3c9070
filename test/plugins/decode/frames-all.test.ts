import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { lastValueFrom, take, toArray } from 'rxjs';
import { requestReplay } from '../../../src/core/dead-letter-entries.js';
import { runPipeline } from '../../../src/host/run-pipeline.js';
import { countFrames } from '../../../src/plugins/decode/dicom/count-frames.js';
import { TestArchive } from '../../support/archive.js';
import { dicomFile, testUid } from '../../support/dicom.js';
import { fixture } from '../../support/goldens.js';

const GRAPH = `
version: 1
sources:
  - use: watch
    with: { path: ./in, settleMs: 0, onDone: delete }
stages:
  - use: decode
    with: { frames: all }
sinks:
  - use: jsonl
    with: { path: ./out.jsonl }
`;
/** A file of `frames` films, each with pixels of its own. */
const multiFrame = (frames: number, said = frames): Buffer => {
  const pixels = Buffer.alloc(64 * 64 * frames);
  for (let i = 0; i < pixels.length; i++) pixels[i] = (i * (1 + Math.floor(i / 4096))) % 251;
  return dicomFile(1, {
    others: [
      [0x00280008, 'IS', String(said)],
      [0x00280100, 'US', 8],
      [0x00280101, 'US', 8],
      [0x00280102, 'US', 7],
      [0x7fe00010, 'OB', pixels],
    ],
  });
};

describe('decode with `frames: all`', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-frames-'));
    await mkdir(join(folder, 'in'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const put = (name: string, bytes: Uint8Array) => writeFile(join(folder, 'in', name), bytes);
  const run = async (graph = GRAPH) =>
    (await lastValueFrom(runPipeline(graph, { baseDir: folder, once: true }).pipe(toArray())))
      .map(
        ({ name, outcome, failure }) =>
          `${name} ${outcome}${failure === undefined ? '' : ` ${failure.code}`}`,
      )
      .sort();
  const files = () => readdir(join(folder, 'in'));

  it('makes a film of each frame, once, and settles the file when all of them are settled', async () => {
    await put('loop.dcm', multiFrame(3));
    await put('film.dcm', dicomFile(2));
    expect(await run()).to.deep.equal([
      'film.dcm done',
      'loop.dcm#1of3 done',
      'loop.dcm#2of3 done',
      'loop.dcm#3of3 done',
    ]);
    expect(await files()).to.deep.equal([]);
    const lines = (await readFile(join(folder, 'out.jsonl'), 'utf8')).trim().split('\n');
    const pages = lines.map((line) => (JSON.parse(line) as { meta: { page?: number } }).meta.page);
    expect(pages.sort()).to.deep.equal([1, 2, 3, undefined]);
    await put('loop.dcm', multiFrame(3));
    expect(await run()).to.deep.equal([]);
    expect(await files()).to.deep.equal([]);
  });

  it('keeps the file of a damaged frame, puts that frame alone into the dead letter, and replays it', async () => {
    const bytes = Buffer.from(await readFile(fixture('dicom/jpeg-baseline-multi-frame.dcm')));
    const second = bytes.lastIndexOf(Buffer.from('ffd8ff', 'hex'));
    bytes.fill(0, second + 2, second + 300);
    await put('loop.dcm', bytes);
    expect(await run()).to.deep.equal(['loop.dcm#1of2 done', 'loop.dcm#2of2 failed FRAME_DAMAGED']);
    expect(await files()).to.deep.equal(['loop.dcm']);
    const letters = join(folder, '.rxray/deadletter');
    const [id = '', ...others] = await readdir(letters);
    expect(others).to.deep.equal([]);
    expect(await readFile(join(letters, id, 'loop.dcm#2of2'))).to.deep.equal(bytes);
    await requestReplay(join(folder, '.rxray'), id);
    expect(await run()).to.deep.equal(['loop.dcm#2of2 failed FRAME_DAMAGED']);
    expect(await readdir(letters)).to.deep.equal([id]);
  });

  it('keeps one copy of a file whose frames all fail', async () => {
    await put('loop.dcm', multiFrame(3));
    const tooSmall = GRAPH.replace('frames: all', 'frames: all, maxPixels: 9');
    expect(await run(tooSmall)).to.have.length(3);
    const letters = join(folder, '.rxray/deadletter');
    const inodes = (await readdir(letters, { recursive: true }))
      .filter((name) => name.includes('loop'))
      .map(async (name) => (await stat(join(letters, name))).ino);
    expect(inodes).to.have.length(3);
    expect(new Set(await Promise.all(inodes)).size).to.equal(1);
    expect(await run(GRAPH)).to.deep.equal([]);
  });

  it('splits a file that was fetched, downloads it once, and leaves no copy', async () => {
    let downloads = 0;
    const server = createServer((_, response) => {
      downloads += 1;
      response.end(multiFrame(3));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const url = `http://127.0.0.1:${port}/loop.dcm`;
      await writeFile(join(folder, 'films.csv'), `path\n${url}\n`);
      const graph = GRAPH.replace(/- use: watch\n.*/, '- use: manifest\n    with: { path: ./films.csv }');
      expect(await run(graph)).to.deep.equal([1, 2, 3].map((i) => `${url}#${i}of3 done`));
      expect(downloads).to.equal(1);
      expect(await readdir(join(folder, '.rxray'))).not.to.include('fetched-manifest');
      expect(await run(graph)).to.deep.equal([]);
      expect(downloads).to.equal(1);
    } finally {
      server.close();
    }
  });

  it('goes on with the remaining frames of a file that was fetched, and takes one film at a time', async () => {
    const server = createServer((_, response) => void response.end(multiFrame(4))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      await writeFile(join(folder, 'films.csv'), `path\nhttp://127.0.0.1:${port}/a.dcm\n`);
      const graph = GRAPH.replace(/- use: watch\n.*/, '- use: manifest\n    with: { path: ./films.csv }');
      const limited = `${graph}limits: { frames: 1 }\n`;
      const some = runPipeline(limited, { baseDir: folder, once: true }).pipe(take(2), toArray());
      expect(await lastValueFrom(some)).to.have.length(2);
      const rest = await run(limited);
      const lines = (await readFile(join(folder, 'out.jsonl'), 'utf8')).trim().split('\n');
      const names = lines.map((line) => (JSON.parse(line) as { file: string }).file);
      expect(rest.length).to.be.within(1, 2);
      expect(new Set(names).size).to.equal(4);
      expect(names).to.have.length(4);
    } finally {
      server.close();
    }
  });

  it('splits a film of a DICOMweb archive, and deletes its file with the last frame', async () => {
    const archive = await TestArchive.listen();
    try {
      const [study, series, instance] = [testUid('study', 1), testUid('series', 1), testUid('film', 1)];
      archive.objects.push({ study, series, instance, modality: 'CR', bytes: multiFrame(3) });
      const graph = GRAPH.replace(/- use: watch\n.*/, `- use: dicomweb\n    with: { url: '${archive.url}' }`);
      const name = `${study}/${series}/${instance}.dcm`;
      expect(await run(graph)).to.deep.equal([1, 2, 3].map((i) => `${name}#${i}of3 done`));
      expect(await readdir(join(folder, 'fetched'), { recursive: true })).to.deep.equal(['.incoming']);
      expect(await run(graph)).to.deep.equal([]);
    } finally {
      await archive.close();
    }
  });

  it('refuses a number of frames that the file is too small for', async () => {
    await put('loop.dcm', multiFrame(2, 9_000));
    expect(await run()).to.deep.equal(['loop.dcm failed FRAME_UNSUPPORTED']);
  });

  it('counts the frames of multi-frame DICOM files alone', async () => {
    const limits = { maxPixels: 1e6, maxBytes: 1e7 };
    for (const [name, frames] of [
      ['multi-frame.dcm', 2],
      ['jpeg-baseline-multi-frame.dcm', 2],
      ['deflated-12bit-window.dcm', 1],
      ['bomb.dcm', 1],
      ['rgb.png', 1],
    ] as const) {
      expect(await countFrames(fixture(`dicom/${name}`), limits), name).to.equal(frames);
    }
    expect(await countFrames(join(folder, 'gone.dcm'), limits)).to.equal(1);
    // A header that is longer than what is read of it at first.
    const long = dicomFile(1, {
      others: [
        [0x00280008, 'IS', '2'],
        [0x00204000, 'UT', 'x'.repeat(200_000)],
        [0x7fe00010, 'OW', Buffer.alloc(64 * 64 * 4)],
      ],
    });
    await put('long.dcm', long);
    expect(await countFrames(join(folder, 'in/long.dcm'), limits)).to.equal(2);
  });
});
