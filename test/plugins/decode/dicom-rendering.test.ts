import { expect } from 'chai';
import sharp from 'sharp';
import type { Image } from '../../../src/core/frame.js';
import { metaHeader } from '../../../src/dicom/part10.js';
import type { Item } from '../../../src/dicom/write.js';
import { decode, type DecodeSettings } from '../../../src/plugins/decode.js';
import { CR, dicomFile, dicomFilm, testUid } from '../../support/dicom.js';
import { expectSame } from '../../support/goldens.js';

const JPEG_BASELINE = '1.2.840.10008.1.2.4.50';
const SIDE = 64;
const EIGHT_BITS: Item = [
  [0x00280100, 'US', 8],
  [0x00280101, 'US', 8],
  [0x00280102, 'US', 7],
];
/** The stored values of `dicomFilm(1)`. */
const STORED = Array.from({ length: SIDE * SIDE }, (_, i) => (i * 7 + 131) % 4096);

async function pictureOf(bytes: Buffer): Promise<Image> {
  return (await decode(bytes, { color: 'keep', maxPixels: 1e6, maxBytes: 1e7 })).image;
}

/** 16 bits of a share of the full range, which may lie outside of it. */
function deep(shares: readonly number[]): Image {
  const data = Uint16Array.from(shares, (share) => Math.round(65_535 * Math.min(1, Math.max(0, share))));
  return { width: SIDE, height: SIDE, channels: 1, data };
}

/** A film whose pixels are a JPEG stream. */
function withJpeg(stream: Buffer, others: Item): Buffer {
  const { dataSet } = dicomFilm(1, { others: [...EIGHT_BITS, ...others] });
  const item = (content: Buffer): Buffer => {
    const even = Buffer.concat([content, Buffer.alloc(content.length % 2)]);
    const header = Buffer.from('feff00e000000000', 'hex');
    header.writeUInt32LE(even.length, 4);
    return Buffer.concat([header, even]);
  };
  return Buffer.concat([
    metaHeader({ sopClass: CR, instance: testUid('film', 1), syntax: JPEG_BASELINE }),
    dataSet.subarray(0, dataSet.indexOf(Buffer.from('e07f1000', 'hex'))),
    Buffer.from('e07f10004f420000ffffffff', 'hex'),
    item(Buffer.alloc(0)),
    item(stream),
    Buffer.from('feffdde000000000', 'hex'),
  ]);
}

describe('decode: DICOM values and colours, by the formulas of PS3.3', () => {
  it('maps by a VOI LUT whose first value is negative, though the pixels are unsigned', async () => {
    const ramp = Uint16Array.from({ length: 2000 }, (_, i) => Math.round((i / 1999) * 4095));
    const descriptor = Buffer.from(Int16Array.of(2000, -500, 12).buffer);
    const lut: Item = [
      [0x00283002, 'SS', descriptor],
      [0x00283006, 'OW', Buffer.from(ramp.buffer)],
    ];
    const film = dicomFile(1, {
      others: [
        [0x00281052, 'DS', '-1024'],
        [0x00281053, 'DS', '1'],
        [0x00283010, 'SQ', [lut]],
      ],
    });
    const at = (value: number): number => ramp[Math.min(1999, Math.max(0, value - 1024 + 500))] ?? 0;
    expectSame(await pictureOf(film), deep(STORED.map((value) => at(value) / 4095)), 1);
  });

  describe('a VOI LUT', () => {
    const descriptor = [0x00283002, 'US', [4096, 0, 12]] as const;
    const inverse = Buffer.from(Uint16Array.from({ length: 4096 }, (_, i) => 4095 - i).buffer);
    const data = [0x00283006, 'OW', inverse] as const;
    const window: Item = [
      [0x00281050, 'DS', '1000'],
      [0x00281051, 'DS', '2000'],
    ];
    const film = (luts: readonly Item[], others: Item = window): Buffer =>
      dicomFile(1, { others: [...others, [0x00283010, 'SQ', luts]] });
    const rendered = async (bytes: Buffer, voi: DecodeSettings['voi'] = 'auto') => {
      const { image, meta } = await decode(bytes, { color: 'keep', maxPixels: 1e6, maxBytes: 1e7, voi });
      return { image, warnings: meta.warnings };
    };
    const byLut = deep(STORED.map((value) => (4095 - value) / 4095));
    const byWindow = deep(STORED.map((value) => (value - 999.5) / 1999 + 0.5));
    const missing = 'a VOI LUT has no LUTDescriptor or no LUTData and was ignored';

    for (const [what, lut] of [
      ['data', [descriptor]],
      ['bytes in its data', [descriptor, [0x00283006, 'OW', Buffer.alloc(0)]]],
      ['descriptor', [data]],
      ['complete descriptor', [[0x00283002, 'US', [4096, 0]], data]],
    ] as const) {
      it(`without ${what} is ignored with a warning, in favour of the next one, the window, or the range of the data`, async () => {
        const used = [
          [film([lut, [descriptor, data]]), byLut],
          [film([lut]), byWindow],
          [film([lut], []), deep(STORED.map((value) => value / 4095))],
        ] as const;
        for (const [bytes, expected] of used) {
          const { image, warnings } = await rendered(bytes);
          expectSame(image, expected, 1);
          expect(warnings).to.deep.equal([missing]);
        }
      });
    }

    it('keeps its number when one before it is ignored', async () => {
      const { image, warnings } = await rendered(film([[descriptor], [descriptor, data]]), { index: 1 });
      expectSame(image, byLut, 1);
      expect(warnings).to.deep.equal([missing]);
      const other = await rendered(film([[descriptor]]), { index: 0 });
      expectSame(other.image, byWindow, 1);
      expect(other.warnings).to.include('the file has no usable window 0, its first one was used');
    });

    it('fails the film if it is cut off, wherever', async () => {
      for (const bytes of [2, 4094, 4098, 5000, 8190]) {
        const cut = [0x00283006, 'OW', inverse.subarray(0, bytes)] as const;
        const error: unknown = await rendered(film([[descriptor, cut]])).catch((thrown: unknown) => thrown);
        expect(error, String(bytes)).to.have.property('code', 'FRAME_DAMAGED');
        expect(error)
          .to.have.property('message')
          .that.contains(`has ${bytes / 2} entries, its descriptor says 4096`);
      }
    });

    it('may be packed into bytes, also with another number of bits in its descriptor', async () => {
      const bytes = Uint8Array.from({ length: 4096 }, (_, i) => 255 - (i >> 4));
      for (const bits of [8, 16]) {
        const lut: Item = [
          [0x00283002, 'US', [4096, 0, bits]],
          [0x00283006, 'OW', bytes],
        ];
        const { image, warnings } = await rendered(film([lut]));
        expectSame(image, deep(STORED.map((value) => (255 - (value >> 4)) / 255)), 1);
        expect(warnings ?? []).to.have.length(bits === 8 ? 0 : 1);
      }
    });
  });

  it('says so when it ignores a modality LUT without data', async () => {
    const lut: Item = [[0x00283002, 'US', [4096, 0, 12]]];
    const { meta } = await decode(dicomFile(1, { others: [[0x00283000, 'SQ', [lut]]] }), {
      ...{ color: 'keep', maxPixels: 1e6, maxBytes: 1e7 },
    });
    expect(meta.warnings).to.deep.equal([
      'the modality LUT has no LUTDescriptor or no LUTData and was ignored',
    ]);
  });

  it('takes rescale and window of an Enhanced object from its functional groups', async () => {
    const groups: Item = [
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
      [
        0x00289145,
        'SQ',
        [
          [
            [0x00281052, 'DS', '-1024'],
            [0x00281053, 'DS', '1'],
          ],
        ],
      ],
    ];
    const film = dicomFile(1, { others: [[0x52009229, 'SQ', [groups]]] });
    const shares = STORED.map((value) => (value - 1024 - 39.5) / 399 + 0.5);
    expectSame(await pictureOf(film), deep(shares), 1);
  });

  it('shows a window narrower than 1, of values far below 1', async () => {
    const film = dicomFile(1, {
      others: [
        [0x00281050, 'DS', '0.2'],
        [0x00281051, 'DS', '0.4'],
        [0x00281052, 'DS', '0'],
        [0x00281053, 'DS', '0.0001'],
      ],
    });
    expectSame(await pictureOf(film), deep(STORED.map((value) => (value * 1e-4 - 0.2) / 0.4 + 0.5)), 3);
  });

  it('ignores numbers from which no picture can be made, and line ends around numbers', async () => {
    const rendered = async (center: string, width: string, slope: string, intercept: string) =>
      pictureOf(
        dicomFile(1, {
          others: [
            [0x00281050, 'DS', center],
            [0x00281051, 'DS', width],
            [0x00281052, 'DS', intercept],
            [0x00281053, 'DS', slope],
          ],
        }),
      );
    const [low, high] = [Math.min(...STORED), Math.max(...STORED)];
    const spread = deep(STORED.map((value) => (value - low) / (high - low)));
    for (const [center, width] of [
      ['1e308', '4096'],
      ['2048', '1e300'],
      ['2048', '1e-300'],
    ] as const)
      expectSame(await rendered(center, width, '1', '0'), spread, 1);
    const windowed = deep(STORED.map((value) => (value - 2047.5) / 4095 + 0.5));
    for (const [slope, intercept] of [
      ['1e-300', '0'],
      ['1', '1e25'],
      ['1\n', '\t0'],
    ] as const)
      expectSame(await rendered('2048\r\n', '4096\n', slope, intercept), windowed, 1);
  });

  it('inverts 8 bits with a slope below 0', async () => {
    const stored = Uint8Array.from({ length: SIDE * SIDE }, (_, i) => i % 251);
    const film = dicomFile(1, {
      others: [
        ...EIGHT_BITS,
        [0x00281052, 'DS', '255'],
        [0x00281053, 'DS', '-1'],
        [0x7fe00010, 'OW', stored],
      ],
    });
    const data = stored.map((value) => 255 - value);
    expectSame(await pictureOf(film), { width: SIDE, height: SIDE, channels: 1, data });
  });

  it('ignores an orientation inside a JPEG stream', async () => {
    const data = Uint8Array.from({ length: SIDE * SIDE }, (_, i) => (i >> 6) * 3 + (i & 63));
    const grey = sharp(data, { raw: { width: SIDE, height: SIDE, channels: 1 } }).toColourspace('b-w');
    const plain = await grey.clone().jpeg().toBuffer();
    for (const orientation of [2, 3, 6]) {
      const exif = Buffer.from(
        `Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0${String.fromCharCode(orientation)}`,
        'latin1',
      );
      const segment = Buffer.concat([Buffer.from('ffe10022', 'hex'), exif, Buffer.alloc(7)]);
      const turned = Buffer.concat([plain.subarray(0, 2), segment, plain.subarray(2)]);
      expect((await sharp(turned).metadata()).orientation).to.equal(orientation);
      expectSame(await pictureOf(withJpeg(turned, [])), await pictureOf(withJpeg(plain, [])));
    }
  });

  it('takes the colours of a JPEG stream without markers from the header', async () => {
    const stream = await sharp({
      create: { width: SIDE, height: SIDE, channels: 3, background: { r: 200, g: 100, b: 50 } },
    })
      .jpeg({ quality: 100, chromaSubsampling: '4:4:4' })
      .toBuffer();
    for (const marker of ['JFIF', 'Adobe']) expect(stream.includes(marker), marker).to.equal(false);
    for (const [interpretation, colour] of [
      ['YBR_FULL', [200, 100, 50]],
      ['RGB', [124, 86, 182]],
    ] as const) {
      const film = withJpeg(stream, [
        [0x00280002, 'US', 3],
        [0x00280004, 'CS', interpretation],
        [0x00280006, 'US', 0],
      ]);
      const data = Uint8Array.from({ length: 3 * SIDE * SIDE }, (_, i) => colour[i % 3] ?? 0);
      expectSame(await pictureOf(film), { width: SIDE, height: SIDE, channels: 3, data }, 2);
    }
  });
});
