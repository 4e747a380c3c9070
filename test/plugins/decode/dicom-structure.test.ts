import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { metaHeader } from '../../../src/dicom/part10.js';
import { bytesOf, type Item } from '../../../src/dicom/write.js';
import { decode, type DecodeSettings } from '../../../src/plugins/decode.js';
import type { Decoded } from '../../../src/plugins/decode/decoder.js';
import { CR, dicomFile, dicomFilm, testUid } from '../../support/dicom.js';
import { expectSame, fixture } from '../../support/goldens.js';

const run = (bytes: Buffer, more: Partial<DecodeSettings> = {}): Promise<Decoded> =>
  decode(bytes, { color: 'grey', maxPixels: 1e6, maxBytes: 1e7, ...more });
const warningsOf = ({ meta }: Decoded): string => JSON.stringify(meta['warnings'] ?? []);

const UNDEFINED = Buffer.from('ffffffff', 'hex');
const END = Buffer.from('feffdde000000000', 'hex');
function item(content: Buffer): Buffer {
  const header = Buffer.from('feff00e000000000', 'hex');
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}
/** An element of undefined length in explicit VR little endian. */
function open(tag: string, vr: string, ...items: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(tag, 'hex'), Buffer.from(`${vr}\0\0`), UNDEFINED, ...items, END]);
}
const PIXELS = Buffer.from('e07f1000', 'hex');

describe('decode: the structure of DICOM files', () => {
  it('skips what is encapsulated in other elements: icons, private data', async () => {
    const bytes = dicomFile(1);
    const at = bytes.indexOf(PIXELS);
    const garbage = [item(Buffer.alloc(0)), item(Buffer.from('\xff\xd8\xff no element', 'latin1'))];
    const icon = open('e07f1000', 'OB', ...garbage);
    const opened = Buffer.concat([
      Buffer.from('feff00e0ffffffff', 'hex'),
      icon,
      Buffer.from('feff0de000000000', 'hex'),
    ]);
    const more = [open('29001010', 'OB', ...garbage), open('88000002', 'SQ', opened)];
    const found = await run(Buffer.concat([bytes.subarray(0, at), ...more, bytes.subarray(at)]));
    expectSame(found.image, (await run(bytes)).image);
  });

  it('unfolds segmented palettes of 8 and 16 bit, with indirect segments too', async () => {
    const ramp = Buffer.from(Array.from({ length: 64 * 64 }, (_, i) => i % 256));
    const film = (bits: 8 | 16, cells: readonly number[]): Buffer => {
      const segments = bits === 8 ? Buffer.from(cells) : Buffer.from(Uint16Array.from(cells).buffer);
      const palette: Item = [1, 2, 3].flatMap((i): Item => [
        [0x00281100 + i, 'US', [256, 0, bits]],
        [0x00281220 + i, 'OW', segments],
      ]);
      return dicomFile(1, {
        others: [
          [0x00280004, 'CS', 'PALETTE COLOR'],
          [0x00280100, 'US', 8],
          [0x00280101, 'US', 8],
          [0x00280102, 'US', 7],
          [0x7fe00010, 'OW', ramp],
          ...palette,
        ],
      });
    };
    // 0, then up to 200 in 127 steps; and the same again.
    const expected = Array.from({ length: 256 }, (_, i) => Math.round(((i % 128) * 200) / 127));
    for (const [bits, cells] of [
      [8, [0, 1, 0, 1, 127, 200, 2, 2, 0, 0, 0, 0]],
      [16, [0, 1, 0, 1, 127, 51_400, 2, 2, 0, 0]],
    ] as const) {
      const { image } = await run(film(bits, cells));
      expect([...image.data.slice(0, 256)], `${bits} bit`).to.deep.equal(expected);
    }
    for (const cells of [
      [0, 0],
      [2, 1, 0, 0],
      [0, 9, 1],
      [7, 1, 1],
      [0, 1, 0, 2, 1, 1, 0],
    ]) {
      const error: unknown = await run(film(16, cells)).catch((thrown: unknown) => thrown);
      expect(String(error), cells.join()).to.match(/palette|lookup table/);
    }
  });

  it('uses the markers of frames instead of a wrong offset table', async () => {
    const source = readFileSync(fixture('dicom/jpeg-baseline-multi-frame.dcm'));
    const element = source.indexOf(PIXELS);
    const streams: Buffer[] = [];
    for (let at = element + 12; source.readUInt16LE(at + 2) === 0xe000;) {
      const length = source.readUInt32LE(at + 4);
      streams.push(source.subarray(at + 8, at + 8 + length));
      at += 8 + length;
    }
    const [, first = source, second = source] = streams;
    const parts = [first, second].flatMap((stream) => [stream.subarray(0, 200), stream.subarray(200)]);
    const film = (offsets: readonly number[]): Buffer =>
      Buffer.concat([
        source.subarray(0, element + 12),
        item(Buffer.from(Uint32Array.from(offsets).buffer)),
        ...parts.map(item),
        END,
      ]);
    const right = [0, first.length + 16];
    for (const offsets of [right, [], [0, 208], [208, right[1] ?? 0], [0, 7], [0]]) {
      const found = await run(film(offsets), { frames: 2 });
      expectSame(found.image, (await run(source, { frames: 2 })).image);
      const isTold = offsets.length > 0 && offsets !== right;
      expect(warningsOf(found).includes('offset table is wrong'), offsets.join()).to.equal(isTold);
    }
  });

  it('takes the first of several frames that the header does not declare, with a warning', async () => {
    const source = readFileSync(fixture('dicom/jpeg-baseline-multi-frame.dcm'));
    const bytes = Buffer.from(source);
    const at = bytes.indexOf(Buffer.from('28000800', 'hex'));
    bytes.write('1 ', at + 8);
    const found = await run(bytes);
    expectSame(found.image, (await run(source)).image);
    expect(warningsOf(found)).to.match(/it has 2 frames, its header says 1/);
  });

  it('takes the byte order of the pixels from the data, not from a transfer syntax that contradicts them', async () => {
    const { sopClass, instance, dataSet } = dicomFilm(1);
    const found = await run(
      Buffer.concat([metaHeader({ sopClass, instance, syntax: '1.2.840.10008.1.2.2' }), dataSet]),
    );
    expectSame(found.image, (await run(dicomFile(1))).image);
    expect(warningsOf(found)).to.contain('not encoded as the transfer syntax says');
  });

  it('warns if another file follows, which is not read', async () => {
    for (const film of [dicomFile(1), readFileSync(fixture('dicom/jpeg-baseline-multi-frame.dcm'))]) {
      const found = await run(Buffer.concat([film, dicomFile(2)]));
      expectSame(found.image, (await run(film)).image);
      expect(warningsOf(found)).to.contain('another DICOM file follows');
    }
  });

  it('keeps 1-bit pixels of one value as they are', async () => {
    const elements: Item = [
      [0x00080016, 'UI', CR],
      [0x00280002, 'US', 1],
      [0x00280004, 'CS', 'MONOCHROME2'],
      [0x00280010, 'US', 8],
      [0x00280011, 'US', 8],
      [0x00280100, 'US', 1],
      [0x00280101, 'US', 1],
      [0x00280102, 'US', 0],
      [0x00280103, 'US', 0],
      [0x7fe00010, 'OB', Buffer.alloc(8, 0xff)],
    ];
    const meta = metaHeader({ sopClass: CR, instance: testUid('film', 1), syntax: '1.2.840.10008.1.2.1' });
    const { image } = await run(Buffer.concat([meta, bytesOf(elements)]));
    expect(new Set(image.data)).to.deep.equal(new Set([255]));
  });
});
