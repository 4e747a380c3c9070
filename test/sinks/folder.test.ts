import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import sharp from 'sharp';
import type { Frame, Image, StageResult } from '../../src/core/frame.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import folderSink, { nameOf } from '../../src/sinks/folder.js';
import { annotate } from '../../src/sinks/folder/annotate.js';
import { makeFrame, testServices, type TestServices } from '../../src/testing.js';

describe('the folder sink', () => {
  let folder: string;
  let services: TestServices;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-folder-'));
  });
  afterEach(async () => {
    services.cleanup();
    await rm(folder, { recursive: true });
  });

  async function open(settings: object = {}): Promise<SinkInstance> {
    services = testServices({ baseDir: folder });
    return folderSink.create(folderSink.options.parse({ path: 'films', size: 64, ...settings }), services);
  }
  const files = async () => (await readdir(join(folder, 'films'), { recursive: true })).sort();
  const film = makeFrame({ name: 'ward 3/Doe, John.png', results: { noise: { kind: 'noise', level: 3 } } });

  it('writes a picture and the results, by frame id, and no incomplete files', async () => {
    await (await open()).write([film]);
    expect(await files()).to.deep.equal([`${film.id}.json`, `${film.id}.png`]);
    expect(JSON.parse(await readFile(join(folder, 'films', `${film.id}.json`), 'utf8'))).to.deep.include({
      id: film.id,
      file: 'ward 3/Doe, John.png',
      results: { noise: { kind: 'noise', level: 3 } },
      notice: 'Not a medical device: for research, never for diagnosis.',
    });
    expect((await sharp(join(folder, 'films', `${film.id}.png`)).metadata()).format).to.equal('png');
  });

  it('writes only one of the two, and no file name, by options', async () => {
    await (
      await open({ picture: false, includeFile: false })
    ).write([makeFrame({ name: 'a.png', image: null })]);
    const [name, ...others] = await files();
    expect(others).to.be.empty;
    expect(await readFile(join(folder, 'films', name ?? ''), 'utf8')).not.to.contain('a.png');
  });

  it('names files by its template', async () => {
    await (await open({ name: '{source}/{day}/{folder}/{stem}-{id}', picture: false })).write([film]);
    expect(await files()).to.include(join('inbox', '2026-01-01', 'ward 3', `Doe, John-${film.id}.json`));
  });

  it('refuses a film without pixels, which has no picture', async () => {
    const [outcome] = await Promise.allSettled([(await open()).write([makeFrame({ image: null })])]);
    expect(outcome).to.have.nested.property('reason.message').that.contains('put a decoding stage before');
  });

  describe('writes nothing outside its folder', () => {
    it('whatever a film is called', () => {
      const part = fc.oneof(
        fc.constantFrom('..', '.', '', '/', '\\', '../..', 'C:', 'con', 'NUL.txt', '\0', '\ud800', '~'),
        fc.string({ unit: 'grapheme', maxLength: 40 }),
      );
      const id = '0'.repeat(32);
      fc.assert(
        fc.property(fc.array(part, { maxLength: 5 }), (filmName) => {
          const origin = { ...film.origin, name: filmName.join('/') };
          const name = nameOf('{folder}/{stem}-{id}', { ...film, id, origin });
          const parts = name.split('/');
          expect(name)
            .to.match(/0{32}$/)
            .and.not.match(/[\p{Cc}\\:]/u);
          expect(parts.some((each) => each === '' || each.startsWith('.'))).to.equal(false);
        }),
      );
    });

    it('by links inside it', async () => {
      const sink = await open({ name: '{folder}/{id}', picture: false });
      await mkdir(join(folder, 'elsewhere'));
      await symlink(join(folder, 'elsewhere'), join(folder, 'films', 'ward 3'));
      const [outcome] = await Promise.allSettled([sink.write([film])]);
      expect(outcome).to.have.nested.property('reason.code', 'FRAME_SINK');
      expect(await readdir(join(folder, 'elsewhere'))).to.deep.equal([]);
    });

    it('by a link in place of a half-written file', async () => {
      const sink = await open({ picture: false });
      await symlink(join(folder, 'target'), join(folder, 'films', `${film.id}.json.part`));
      const [outcome] = await Promise.allSettled([sink.write([film])]);
      expect(outcome).to.have.nested.property('reason.code', 'OUTPUT_UNWRITABLE');
      expect(await readdir(folder)).not.to.include('target');
    });
  });

  it('fails a film with a very long name, without ending the run', async () => {
    const sink = await open({ name: '{folder}/{stem}-{id}', picture: false });
    await sink.write([makeFrame({ name: `${'ü'.repeat(127)}.png` })]);
    expect(await files()).to.have.lengthOf(1);
  });
});

describe('annotate', () => {
  const pixel = async (png: Buffer, x: number, y: number): Promise<number[]> => [
    ...(await sharp(png).extract({ left: x, top: y, width: 1, height: 1 }).raw().toBuffer()),
  ];
  const grey = (value: number, width = 4, height = 4): Image => ({
    width,
    height,
    channels: 1,
    data: new Uint8Array(width * height).fill(value),
  });
  const withResult = (result: StageResult, image = grey(100)): Frame =>
    makeFrame({ image, results: { stage: result } });
  const options = { size: 64, map: true };

  it('shows the film in its own grey levels, of every sample type', async () => {
    for (const data of [
      new Uint8Array(16).fill(100),
      new Uint16Array(16).fill(100 * 257),
      Float32Array.from({ length: 16 }, (_, i) => (i === 0 ? -1 : i === 15 ? 1.55 : 0)),
    ]) {
      const png = await annotate(makeFrame({ image: { width: 4, height: 4, channels: 1, data } }), options);
      expect(await pixel(png, 40, 24), data.constructor.name).to.deep.equal([100, 100, 100]);
    }
  });

  it('lays the anomaly map over it: brightest where the film differs most, and clear elsewhere', async () => {
    const map = { ...grey(0), data: new Uint8Array(16).fill(90, 12) };
    const anomaly = { kind: 'anomaly', anomalyScore: 1, rawSum: 1, percentile: null, map } as const;
    const png = await annotate(withResult(anomaly), options);
    const [red = 0, green = 0, blue = 0] = await pixel(png, 32, 62);
    expect(Math.min(red, green), 'light yellow is the top of the scale').to.be.above(180);
    expect(blue).to.be.below(green);
    expect(await pixel(png, 32, 4)).to.deep.equal([100, 100, 100]);
    expect(
      await pixel(await annotate(withResult(anomaly), { ...options, map: false }), 32, 62),
    ).to.deep.equal([100, 100, 100]);
  });

  it('draws the boxes of a detector in the scale of the picture', async () => {
    const png = await annotate(
      withResult({ kind: 'detection', boxes: [{ x: 1, y: 1, width: 2, height: 2 }] }, grey(0)),
      options,
    );
    const [, green = 0, blue = 0] = await pixel(png, 16, 32);
    expect(Math.min(green, blue)).to.be.above(100);
    expect(await pixel(png, 32, 32)).to.deep.equal([0, 0, 0]);
  });

  it("maps boxes in the film's pixels to the part of it that the image shows", async () => {
    const image = grey(0, 40, 40);
    const view = { x: 100, y: 0, width: 200, height: 200, film: { width: 400, height: 200 } };
    const result = (film: object): StageResult => ({
      kind: 'detection',
      boxes: [{ x: 150, y: 50, width: 100, height: 100, label: 'opacity', score: 0.9 }],
      film,
    });
    const frame = (film: object): Frame => ({ ...withResult(result(film), image), view });
    const png = await annotate(frame(view.film), options);
    // From a quarter to three quarters of the picture, 64 pixels wide.
    const [, green = 0, blue = 0] = await pixel(png, 16, 40);
    expect(Math.min(green, blue)).to.be.above(100);
    const other = await annotate(frame({ width: 40, height: 40 }), options);
    expect(await pixel(other, 16, 40), 'another image, of which no view is known').to.deep.equal([0, 0, 0]);
  });

  it('prints the results below the film, and that this is no medical device', async () => {
    const lines = async (frame: Frame): Promise<number> =>
      ((await sharp(await annotate(frame, options)).metadata()).height - 64 - 20) / 20;
    expect(await lines(makeFrame({ image: grey(0) }))).to.equal(2);
    const label = {
      kind: 'classification',
      label: '<&>',
      probability: 1,
      probabilities: {},
      topK: [],
    } as const;
    expect(await lines(withResult(label))).to.equal(3);
    const png = await annotate(makeFrame({ image: grey(0) }), options);
    const { channels } = await sharp(png).extract({ left: 0, top: 94, width: 440, height: 20 }).stats();
    // light letters on a dark ground; a machine without any font shows none
    if ((channels[0]?.max ?? 0) < 100) console.warn('      no fonts here: the text was not seen');
    else expect(channels[0]?.max).to.be.above(200);
  });
});
