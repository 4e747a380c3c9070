import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { errorKind } from '../../src/core/errors.js';
import type { Frame, StageResult } from '../../src/core/frame.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import { parse } from '../../src/dicom/parse.js';
import { metaHeader } from '../../src/dicom/part10.js';
import { EXPLICIT } from '../../src/dicom/syntaxes.js';
import type { Item } from '../../src/dicom/write.js';
import { encodeRle } from '../../src/imaging/rle.js';
import dicomweb from '../../src/sinks/dicomweb.js';
import { presentationOf } from '../../src/sinks/dicom/presentation.js';
import { segmentationsOf } from '../../src/sinks/dicom/segmentation.js';
import { readSourceFilm } from '../../src/sinks/dicom/source-film.js';
import dimse from '../../src/sinks/dimse.js';
import { makeFrame, testServices } from '../../src/testing.js';
import { toyClassifier } from '../support/bundles.js';
import { dicomFile, execute, freePort, has, testUid } from '../support/dicom.js';
import { Orthanc } from '../support/orthanc.js';

const RESULTS: Record<string, StageResult> = {
  classes: {
    kind: 'classification',
    label: 'Lungenentzündung',
    probability: 0.9,
    probabilities: { Lungenentzündung: 0.9, normal: 0.1 },
    suspicion: 0.9,
    topK: [],
  },
  anomaly: { kind: 'anomaly', anomalyScore: 0.123456789012345, rawSum: 3, percentile: 99.2, abnormal: true },
  lungs: {
    kind: 'segmentation',
    areaFraction: 0.3,
    plausible: false,
    film: { width: 64, height: 64 },
    left: { areaFraction: 0.15, box: { x: 30.5, y: 4, width: 20, height: 30 } },
    right: null,
    rle: encodeRle({
      width: 8,
      height: 8,
      data: Uint8Array.from({ length: 64 }, (_, i) => (i % 8 < 2 ? 255 : 0)),
    }),
  },
};

describe('the sinks dimse and dicomweb', () => {
  let folder: string;
  let orthanc: Orthanc | undefined;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-dicom-sinks-'));
    await toyClassifier(join(folder, 'bundle'));
    if (Orthanc.isInstalled()) orthanc = await Orthanc.start(await freePort());
  });
  after(async () => {
    await orthanc?.stop();
    await rm(folder, { recursive: true });
  });

  async function frameOf(index: number, file = dicomFile(index)): Promise<Frame> {
    const frame = makeFrame({ name: `film-${index}.dcm` });
    const path = join(folder, `film-${index}.dcm`);
    await writeFile(path, file);
    const sha256 = createHash('sha256').update(file).digest('hex');
    return {
      ...frame,
      id: sha256.slice(0, 32),
      origin: { ...frame.origin, path, sha256 },
      meta: { width: 64, height: 64, photometricInterpretation: 'MONOCHROME2' },
      results: RESULTS,
      completedAt: '2026-01-02T03:04:05.678Z',
    };
  }

  const services = () =>
    testServices({
      baseDir: folder,
      stages: [
        { id: 'decode', use: 'decode', with: {} },
        { id: 'classes', use: 'resnet', with: { bundle: './bundle' } },
      ],
    });
  const stow = (settings: object): SinkInstance | Promise<SinkInstance> =>
    dicomweb.create(dicomweb.options.parse(settings), services());
  const send = (settings: object): SinkInstance | Promise<SinkInstance> =>
    dimse.create(dimse.options.parse({ called: 'ORTHANC', ...settings }), services());

  it('send an Enhanced SR and a picture that Orthanc stores once, dsrdump reads and dciodvfy passes', async function () {
    if (orthanc === undefined) return this.skip();
    const frame = await frameOf(1);
    const [overHttp, overDicom] = [
      await stow({ url: orthanc.url, picture: true, size: 128 }),
      await send({ port: orthanc.dicom, picture: true, size: 128 }),
    ];
    for (const sink of [overHttp, overHttp, overDicom]) await sink.write([frame]);
    await overDicom.write([await frameOf(2), await frameOf(3)]);
    const reports = await orthanc.objects('SR');
    expect(reports).to.have.length(3);
    expect(await orthanc.objects('OT')).to.have.length(3);
    const of = (bytes: Buffer) => parse(bytes, { maxBytes: 1e9 }, []).dataSet;
    const report = reports.find((each) => of(each).string(0x0020000d) === testUid('study', 1));
    const [picture] = await orthanc.objects('OT');
    await writeFile(join(folder, 'sr.dcm'), report ?? '');
    await writeFile(join(folder, 'sc.dcm'), picture ?? '');
    const { output } = await execute('dsrdump', ['+Pc', join(folder, 'sr.dcm')]);
    for (const line of [
      'Prüfung^Röntgen',
      '(121049,DCM,"Language of Content Item and Descendants")=(en,RFC5646,"English")',
      'Probability of Lungenentzündung")="0.9" ({ratio},UCUM,"ratio")',
      'Percentile among normal films")="99.2" (%,UCUM,"percent")',
      'Verdict: above the threshold of the model")=(373066001,SCT,"Yes")',
      'Area of the lung at the left of the image, of the film")="0.15"',
      '(111001,DCM,"Algorithm Name")="toy"',
      '(111002,DCM,"Algorithm Parameters")="sha256:',
      '(111030,DCM,"Image Region")=(POLYLINE,30.5/4',
      'IMAGE:=(CR image,',
    ]) {
      expect(output).to.include(line);
    }
    if (!has('dciodvfy')) return;
    for (const file of ['sr.dcm', 'sc.dcm']) {
      const { output: verdict } = await execute('dciodvfy', [join(folder, file)]);
      expect(verdict).not.to.match(/^Error/m);
    }
  });

  it('send a segmentation and a presentation state that Orthanc stores, dciodvfy passes and dcmtk reads', async function () {
    if (orthanc === undefined) return this.skip();
    const all = { report: false, segmentation: true, presentation: true };
    const frame = await frameOf(9);
    for (const sink of [
      await stow({ url: orthanc.url, ...all }),
      await send({ port: orthanc.dicom, ...all }),
    ]) {
      await sink.write([frame]);
    }
    const objects = { seg: await orthanc.objects('SEG'), pr: await orthanc.objects('PR') };
    expect(objects.seg).to.have.length(1);
    expect(objects.pr).to.have.length(1);
    for (const [name, [bytes]] of Object.entries(objects))
      await writeFile(join(folder, `${name}.dcm`), bytes ?? '');
    // The mask is not plausible: one segment. Its two columns of eight are as wide as the film.
    const pixels = parse(objects.seg[0] ?? Buffer.alloc(0), { maxBytes: 1e9 }, []).dataSet.value(0x7fe00010);
    expect(pixels?.toString('hex')).to.equal('ffff000000000000'.repeat(64));
    const dumped = await execute('dcmdump', [join(folder, 'seg.dcm'), join(folder, 'pr.dcm')]);
    expect(dumped.code).to.equal(0);
    for (const line of [
      '[AUTOMATIC]',
      '[Lungs]',
      testUid('film', 9),
      '[lung at the left of the image]',
      '30.5\\4\\50.5\\4',
      '[SCALE TO FIT]',
    ]) {
      expect(dumped.output).to.include(line);
    }
    if (has('dcmp2pgm')) {
      await writeFile(join(folder, 'film.dcm'), dicomFile(9));
      const paths = ['pr.dcm', 'film.dcm', 'out.pgm'].map((name) => join(folder, name));
      const { code, output } = await execute('dcmp2pgm', ['-p', ...paths]);
      expect(code, output).to.equal(0);
    }
    if (!has('dciodvfy')) return;
    for (const file of ['seg.dcm', 'pr.dcm']) {
      const { output: verdict } = await execute('dciodvfy', [join(folder, file)]);
      expect(verdict).not.to.match(/^Error/m);
    }
  });

  /** Two lungs: the image's columns 8–23 and 40–55. */
  const lungs = {
    ...RESULTS['lungs'],
    kind: 'segmentation',
    plausible: true,
    rle: encodeRle({
      width: 8,
      height: 8,
      data: Uint8Array.from({ length: 64 }, (_, i) => ([1, 2, 5, 6].includes(i % 8) ? 255 : 0)),
    }),
  };

  for (const [orientation, labels] of [
    ['L\\F', ['Right lung', 'Left lung']],
    ['R\\F', ['Left lung', 'Right lung']],
    ['', ['Lung at the left of the image', 'Lung at the right of the image']],
  ] as const) {
    it(`make a segment of each lung, for rows that run to "${orientation}"`, async () => {
      const frame = await frameOf(10, dicomFile(10, { others: [[0x00200020, 'CS', orientation]] }));
      const film = await readSourceFilm(frame, 'stow');
      const [object, ...others] = segmentationsOf({ ...frame, results: { lungs } }, film, {
        algorithms: new Map(),
      });
      if (object === undefined) throw new Error('there is no segmentation');
      expect(others).to.deep.equal([]);
      const { sopClass, instance, dataSet: bytes } = object;
      const file = Buffer.concat([metaHeader({ sopClass, instance, syntax: EXPLICIT }), bytes]);
      const { dataSet } = parse(file, { maxBytes: 1e9 }, []);
      expect(dataSet.items(0x00620002).map((item) => item.string(0x00620005))).to.deep.equal(labels);
      const pixels = dataSet.value(0x7fe00010)?.toString('hex') ?? '';
      expect(pixels).to.equal('00ffff0000000000'.repeat(64) + '0000000000ffff00'.repeat(64));
      if (!has('dciodvfy')) return;
      await writeFile(join(folder, 'two.dcm'), file);
      const { output } = await execute('dciodvfy', [join(folder, 'two.dcm')]);
      expect(output).not.to.match(/^Error/m);
    });
  }

  const US = (...values: number[]): Buffer => Buffer.from(Uint16Array.from(values).buffer);
  for (const [title, others, photometric, expected] of [
    [
      'a film with a modality LUT and a VOI LUT',
      [
        [
          0x00283000,
          'SQ',
          [
            [
              [0x00283002, 'US', US(2, 100, 16)],
              [0x00283004, 'LO', 'US'],
              [0x00283006, 'US', US(7, 65535)],
            ],
          ],
        ],
        [
          0x00283010,
          'SQ',
          [
            [
              [0x00283002, 'US', US(4, 7, 8)],
              [0x00283006, 'US', US(0, 9, 128, 255)],
            ],
          ],
        ],
      ],
      'MONOCHROME2',
      [/\(0028,3002\) US 2\\100\\16/, /0007\\ffff/, /\(0028,3002\) US 4\\7\\8/, /OW 0900\\ff80/],
    ],
    [
      'an Enhanced film',
      [
        [
          0x52009229,
          'SQ',
          [
            [
              [
                0x00289145,
                'SQ',
                [
                  [
                    [0x00281052, 'DS', '-1024'],
                    [0x00281053, 'DS', '2'],
                    [0x00281054, 'LO', 'HU'],
                  ],
                ],
              ],
              [
                0x00289132,
                'SQ',
                [
                  [
                    [0x00281050, 'DS', '40'],
                    [0x00281051, 'DS', '400'],
                  ],
                ],
              ],
            ],
          ],
        ],
      ],
      'MONOCHROME1',
      [/\[-1024\]/, /\[HU\]/, /\(0028,1051\) DS \[400\]/, /\[INVERSE\]/],
    ],
    [
      'a film in colour',
      [[0x00280004, 'CS', 'RGB']],
      'RGB',
      [/=ColorSoftcopyPresentationState/, /\(0028,2000\) OB/, /\[SRGB\]/],
    ],
  ] as const) {
    it(`make a presentation state of ${title}`, async function () {
      if (!has('dcmdump')) return this.skip();
      const frame = await frameOf(11, dicomFile(11, { others: others as unknown as Item }));
      const meta = { ...frame.meta, photometricInterpretation: photometric };
      const film = await readSourceFilm(frame, 'stow');
      const { sopClass, instance, dataSet } = await presentationOf({ ...frame, meta }, film);
      const path = join(folder, 'state.dcm');
      await writeFile(path, Buffer.concat([metaHeader({ sopClass, instance, syntax: EXPLICIT }), dataSet]));
      const { output } = await execute('dcmdump', ['+L', path]);
      for (const line of expected) expect(output).to.match(line);
      if (!has('dciodvfy')) return;
      const { output: verdict } = await execute('dciodvfy', [path]);
      expect(verdict).not.to.match(/^Error/m);
    });
  }

  it('refuse a film that is no DICOM file, is gone, or has been replaced', async () => {
    const sink = await send({ port: 1 });
    const png = await frameOf(4, Buffer.from('no DICOM'));
    const gone = await frameOf(5);
    await rm(gone.origin.path);
    const replaced = await frameOf(6);
    await writeFile(replaced.origin.path, dicomFile(7));
    for (const [frame, reason] of [
      [png, /not a DICOM file/],
      [gone, /the film's file is gone/],
      [replaced, /another film has replaced/],
    ] as const) {
      const error: unknown = await sink.write([frame]).catch((thrown: unknown) => thrown);
      expect(String(error)).to.match(reason);
      expect(errorKind(error)).to.equal('frame');
    }
  });

  it('call a receiver that is down, or out of resources, an outage, and one that refuses a refusal', async () => {
    const frame = await frameOf(8);
    const kindOf = async (sink: SinkInstance | Promise<SinkInstance>): Promise<unknown> =>
      errorKind(await (await sink).write([frame]).catch((thrown: unknown) => thrown));
    const port = await freePort();
    expect(await kindOf(send({ port }))).to.equal('outage');
    expect(await kindOf(stow({ url: `http://127.0.0.1:${port}` }))).to.equal('outage');
    for (const [status, body, kind] of [
      [503, '', 'outage'],
      [200, JSON.stringify({ '00081198': { Value: [{ '00081197': { Value: [0xa700] } }] } }), 'outage'],
      [202, JSON.stringify({ '00081198': { Value: [{ '00081197': { Value: [0x0122] } }] } }), 'frame'],
      [409, '', 'frame'],
      [302, '', 'frame'],
      [200, '', undefined],
    ] as const) {
      const server: Server = createServer((_, response) => response.writeHead(status).end(body)).listen(
        0,
        '127.0.0.1',
      );
      await new Promise((resolve) => server.once('listening', resolve));
      const { port: listening } = server.address() as AddressInfo;
      expect(await kindOf(stow({ url: `http://127.0.0.1:${listening}` })), String(status)).to.equal(kind);
      server.closeAllConnections();
      server.close();
    }
  });

  it('refuse a password in the address, and headers that are none', () => {
    const lint = (settings: object) => dicomweb.lint?.(dicomweb.options.parse(settings), {} as never);
    expect(lint({ url: 'http://me:secret@pacs.example.org/' })).to.have.length(1);
    expect(lint({ url: 'http://pacs.example.org/', headers: { 'a b': 'c' } })).to.have.length(1);
    expect(lint({ url: 'http://pacs.example.org/' })).to.deep.equal([]);
  });
});
