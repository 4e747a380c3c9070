import { z } from 'zod';
import { isShadow } from '../../core/verdict.js';
import type { Frame } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import type { ObjectToSend } from '../../dicom/scu.js';
import { bytesOf, type Item } from '../../dicom/write.js';
import { components } from '../../imaging/components.js';
import type { Mask } from '../../imaging/mask-distance.js';
import { decodeRle } from '../../imaging/rle.js';
import { fitsFilm } from '../measurements.js';
import { type Algorithm, VERSION } from './algorithms.js';
import { type Code, codeItem, cut, dcm, referenceItem, sct } from './content.js';
import {
  equipment,
  frameNumberOf,
  instanceNumber,
  momentOf,
  patientAndStudy,
  referencedSeries,
  uidOf,
} from './report.js';
import type { SourceFilm } from './source-film.js';

const SEGMENTATION = '1.2.840.10008.5.1.4.1.1.66.4';
const SEGMENT_IDENTIFICATION = 0x0062000a;
const REFERENCED_SEGMENT = 0x0062000b;

const mask = z.object({
  kind: z.literal('segmentation'),
  plausible: z.boolean().optional(),
  rle: z.object({ size: z.tuple([z.int().positive(), z.int().positive()]), counts: z.string() }),
});

/**
 * The lungs that each stage with a mask has found, as a DICOM Segmentation (PS3.3, A.51): binary segments with the pixels
 * of the film, one for each lung, or one for the whole mask if it is not plausible as two lungs. Masks of another image
 * than the whole film in its own size are left out. UIDs are derived from the frame's id; the object is in the film's
 * study, in a series of its own.
 */
export function segmentationsOf(
  frame: Frame,
  film: SourceFilm,
  { algorithms }: { readonly algorithms: ReadonlyMap<string, Algorithm> },
): ObjectToSend[] {
  return Object.entries(frame.results).flatMap(([stage, result]) => {
    const found = mask.safeParse(result).data;
    if (found === undefined || isShadow(result) || !fitsFilm(frame, { ...result })) return [];
    const { width, height } = frame.meta as { width: number; height: number };
    const [rows, columns] = found.rle.size;
    const lungs = { width: columns, height: rows, data: decodeRle(found.rle) };
    const segments = found.plausible === true ? eachLung(lungs, film) : [{ ...LUNGS, mask: lungs }];
    const algorithm = algorithms.get(stage) ?? { name: stage, version: VERSION };
    return [segmentationOf(frame, film, { stage, width, height, segments, algorithm })];
  });
}

function segmentationOf(
  frame: Frame,
  film: SourceFilm,
  {
    stage,
    width,
    height,
    segments,
    algorithm,
  }: {
    stage: string;
    width: number;
    height: number;
    segments: readonly Segment[];
    algorithm: Algorithm;
  },
): ObjectToSend {
  const instance = uidOf('segmentation', frame.id, stage, frame.repeat);
  const organization = uidOf('dimensions', instance);
  const { date, time } = momentOf(frame);
  const source = referenceItem({ ...film, frame: frameNumberOf(frame, film) });
  const isLossy = film.text(0x00282110) === '01';
  const elements: Item = [
    ...patientAndStudy(film),
    [0x00080008, 'CS', ['DERIVED', 'PRIMARY']],
    [0x00080016, 'UI', SEGMENTATION],
    [0x00080018, 'UI', instance],
    [0x00080023, 'DA', date],
    [0x00080033, 'TM', time],
    [0x00080060, 'CS', 'SEG'],
    ...equipment(VERSION),
    [0x0008103e, 'LO', 'rxray: segmentations, for research only'],
    referencedSeries(film, 0x0008114a, source),
    [0x0020000e, 'UI', uidOf('segmentations', film.series)],
    [0x00200011, 'IS', '9003'],
    [0x00200013, 'IS', instanceNumber(film)],
    [0x00200020, 'CS', ''],
    [0x00209221, 'SQ', [[[0x00209164, 'UI', organization]]]],
    [
      0x00209222,
      'SQ',
      [
        [
          [0x00209164, 'UI', organization],
          [0x00209165, 'AT', tagBytes(REFERENCED_SEGMENT)],
          [0x00209167, 'AT', tagBytes(SEGMENT_IDENTIFICATION)],
        ],
      ],
    ],
    [0x00280002, 'US', 1],
    [0x00280004, 'CS', 'MONOCHROME2'],
    [0x00280008, 'IS', String(segments.length)],
    [0x00280010, 'US', height],
    [0x00280011, 'US', width],
    [0x00280100, 'US', 1],
    [0x00280101, 'US', 1],
    [0x00280102, 'US', 0],
    [0x00280103, 'US', 0],
    [0x00280301, 'CS', 'NO'],
    [0x00282110, 'CS', isLossy ? '01' : '00'],
    ...(isLossy
      ? ([
          [0x00282112, 'DS', film.text(0x00282112)],
          [0x00282114, 'CS', film.text(0x00282114)],
        ] as const)
      : []),
    [0x00620001, 'CS', 'BINARY'],
    [0x00620002, 'SQ', segments.map((segment, i) => segmentItem(segment, i + 1, algorithm))],
    [0x00700080, 'CS', 'LUNGS'],
    [0x00700081, 'LO', cut(NOTICE, 64)],
    [0x00700084, 'PN', ''],
    [0x52009229, 'SQ', [[[0x00089124, 'SQ', [derivation(source)]]]]],
    [
      0x52009230,
      'SQ',
      segments.map((_, i): Item => [
        [0x00209111, 'SQ', [[[0x00209157, 'UL', i + 1]]]],
        [SEGMENT_IDENTIFICATION, 'SQ', [[[REFERENCED_SEGMENT, 'US', i + 1]]]],
      ]),
    ],
    [
      0x7fe00010,
      'OB',
      packed(
        segments.map(({ mask }) => mask),
        width,
        height,
      ),
    ],
  ];
  return { sopClass: SEGMENTATION, instance, dataSet: bytesOf(elements) };
}

/** One lung or both. */
interface Segment {
  readonly label: string;
  /** Of the patient, if it is known. */
  readonly laterality?: Code;
  readonly mask: Mask;
}

const LUNGS = { label: 'Lungs' };
const LEFT = { label: 'Left lung', laterality: sct('7771000', 'Left') };
const RIGHT = { label: 'Right lung', laterality: sct('24028007', 'Right') };

/**
 * The two lungs of a mask that is plausible: its two largest parts, each with the smaller parts on its side. The film's
 * orientation says which is the patient's left one; without it, they are named by their side of the image.
 */
function eachLung(mask: Mask, film: SourceFilm): Segment[] {
  const { found, labels } = components(mask);
  const [first, second] = found;
  if (first === undefined || second === undefined) return [{ ...LUNGS, mask }];
  const middle = (first.centroid.x + second.centroid.x) / 2;
  const isOnTheLeft = [false, ...found.map(({ centroid }) => centroid.x < middle)];
  const on = (left: boolean): Mask => ({
    ...mask,
    data: Uint8Array.from(labels, (label) => (label > 0 && isOnTheLeft[label] === left ? 255 : 0)),
  });
  // The direction of the rows, from the first to the last pixel (PS3.3, C.7.6.1.1.1).
  const towards = film.values(0x00200020)[0] ?? '';
  const [atTheLeft, atTheRight] = towards.startsWith('L')
    ? [RIGHT, LEFT]
    : towards.startsWith('R')
      ? [LEFT, RIGHT]
      : [{ label: 'Lung at the left of the image' }, { label: 'Lung at the right of the image' }];
  return [
    { ...atTheLeft, mask: on(true) },
    { ...atTheRight, mask: on(false) },
  ];
}

/** A segment that a model has found (PS3.3, C.8.20.4 and 10.16). */
function segmentItem({ label, laterality }: Segment, number: number, { name, version }: Algorithm): Item {
  return [
    [0x00620003, 'SQ', [codeItem(sct('123037004', 'Anatomical Structure'))]],
    [0x00620004, 'US', number],
    [0x00620005, 'LO', label],
    [
      0x00620007,
      'SQ',
      [
        [
          [0x0066002f, 'SQ', [codeItem(dcm('123109', 'Artificial Intelligence'))]],
          [0x00660031, 'LO', cut(version, 64)],
          [0x00660036, 'LO', cut(name, 64)],
        ],
      ],
    ],
    [0x00620008, 'CS', 'AUTOMATIC'],
    [0x00620009, 'LO', cut(name, 64)],
    [
      0x0062000f,
      'SQ',
      [
        [
          ...codeItem(sct('39607008', 'Lung')),
          ...(laterality === undefined ? [] : [[0x00620011, 'SQ', [codeItem(laterality)]] as const]),
        ],
      ],
    ],
  ];
}

/** Without a frame of reference, the derivation says that both have the same pixels (PS3.3, A.51.5). */
function derivation(source: Item): Item {
  return [
    [
      0x00082112,
      'SQ',
      [
        [
          ...source,
          [0x0028135a, 'CS', 'YES'],
          [0x0040a170, 'SQ', [codeItem(dcm('121322', 'Source image for image processing operation'))]],
        ],
      ],
    ],
    [0x00089215, 'SQ', [codeItem(dcm('113076', 'Segmentation'))]],
  ];
}

/**
 * Masks of one size, stretched to `width` × `height` without new values: frame after frame, one bit a pixel, the first in
 * the lowest bit (PS3.5, 8.1.1).
 */
function packed(masks: readonly Mask[], width: number, height: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil((masks.length * width * height) / 8));
  const from = (at: number, size: number, stretched: number) => Math.floor(((at + 0.5) * size) / stretched);
  let bit = 0;
  for (const { data, ...of } of masks) {
    const columns = Array.from({ length: width }, (_, x) => from(x, of.width, width));
    for (let y = 0; y < height; y++) {
      const row = from(y, of.height, height) * of.width;
      for (const column of columns) {
        if ((data[row + column] ?? 0) > 0) bits[bit >> 3] = (bits[bit >> 3] ?? 0) | (1 << (bit & 7));
        bit++;
      }
    }
  }
  return bits;
}

/** An attribute's tag as a value (AT), little endian. */
function tagBytes(tag: number): Uint8Array {
  return Uint8Array.of((tag >>> 16) & 0xff, tag >>> 24, tag & 0xff, (tag >>> 8) & 0xff);
}
