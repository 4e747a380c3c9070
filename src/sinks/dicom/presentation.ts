import type { Frame } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import type { DataSet } from '../../dicom/data-set.js';
import type { ObjectToSend } from '../../dicom/scu.js';
import { MODALITY_LUT, readTable, TABLE, VOI_LUT } from '../../dicom/table.js';
import { bytesOf, type Item } from '../../dicom/write.js';
import { findingsOf, type Measurement, type Region } from '../measurements.js';
import { VERSION } from './algorithms.js';
import { cut, outlineOf, referenceItem } from './content.js';
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

/** Grayscale and Color Softcopy Presentation State. */
const SOP_CLASSES = { grey: '1.2.840.10008.5.1.4.1.1.11.1', colour: '1.2.840.10008.5.1.4.1.1.11.2' };
const LAYER = 'RXRAY';

/**
 * The regions and measurements of a film as a Softcopy Presentation State, Grayscale or Color (PS3.3, A.33.1 and A.33.2):
 * a viewer draws them over the film itself. The film's modality LUT or rescale, and its first VOI LUT or window, are
 * repeated, since a presentation state replaces them. UIDs are derived from the frame's id.
 */
export async function presentationOf(frame: Frame, film: SourceFilm): Promise<ObjectToSend> {
  const photometric = String(frame.meta['photometricInterpretation']);
  const isGrey = photometric.startsWith('MONOCHROME');
  const sopClass = isGrey ? SOP_CLASSES.grey : SOP_CLASSES.colour;
  const instance = uidOf('presentation', frame.id, frame.repeat);
  const { date, time } = momentOf(frame);
  const { width, height } = frame.meta as { width: number; height: number };
  const source = referenceItem({ ...film, frame: frameNumberOf(frame, film) });
  const findings = findingsOf(frame);
  const elements: Item = [
    ...patientAndStudy(film),
    [0x00080016, 'UI', sopClass],
    [0x00080018, 'UI', instance],
    [0x00080060, 'CS', 'PR'],
    ...equipment(VERSION),
    [0x0008103e, 'LO', 'rxray: annotations, for research only'],
    referencedSeries(film, 0x00081140, source),
    [0x0020000e, 'UI', uidOf('presentations', film.series)],
    [0x00200011, 'IS', '9004'],
    [0x00200013, 'IS', instanceNumber(film)],
    [0x00200060, 'CS', ''],
    ...(isGrey ? greyLevels(film, (frameNumberOf(frame, film) ?? 1) - 1) : await colours()),
    [
      0x00700001,
      'SQ',
      [
        [
          [0x00700002, 'CS', LAYER],
          [0x00700008, 'SQ', [textOf(findings), ...findings.flatMap(({ regions }) => regions.map(labelOf))]],
          ...objectsOf(findings.flatMap(({ regions }) => regions)),
        ],
      ],
    ],
    [
      0x0070005a,
      'SQ',
      [
        [
          [0x00700052, 'SL', [1, 1]],
          [0x00700053, 'SL', [width, height]],
          [0x00700100, 'CS', 'SCALE TO FIT'],
          ...shapeOf(film),
        ],
      ],
    ],
    [
      0x00700060,
      'SQ',
      [
        [
          [0x00700002, 'CS', LAYER],
          [0x00700062, 'IS', '1'],
        ],
      ],
    ],
    [0x00700080, 'CS', 'RXRAY'],
    [0x00700081, 'LO', cut(NOTICE, 64)],
    [0x00700082, 'DA', date],
    [0x00700083, 'TM', time],
    [0x00700084, 'PN', ''],
    ...(isGrey
      ? ([[0x20500020, 'CS', photometric === 'MONOCHROME1' ? 'INVERSE' : 'IDENTITY']] as const)
      : []),
  ];
  return { sopClass, instance, dataSet: bytesOf(elements) };
}

/** Grey levels as in the film (PS3.3, C.11.1 and C.11.8), of a frame counted from 0. */
function greyLevels(film: SourceFilm, frame: number): Item {
  const [modality] = film.items(MODALITY_LUT);
  const lut = modality && tableItem(modality, film.signed);
  const values = film.group(frame, 'pixelValues');
  const [intercept, slope] = [values.string(0x00281052), values.string(0x00281053)];
  const isRescaled = intercept !== undefined && slope !== undefined;
  const rescaled: Item = isRescaled
    ? [
        [0x00281052, 'DS', intercept],
        [0x00281053, 'DS', slope],
        [0x00281054, 'LO', values.string(0x00281054) ?? 'US'],
      ]
    : [];
  const window = windowOf(film.group(frame, 'window'), film.signed || Number(intercept) < 0);
  return [
    ...(modality === undefined || lut === undefined
      ? rescaled
      : ([
          [MODALITY_LUT, 'SQ', [[...lut, [0x00283004, 'LO', modality.string(0x00283004) ?? 'US']]]],
        ] as const)),
    ...(window.length === 0 ? [] : ([[0x00283110, 'SQ', [window]]] as const)),
  ];
}

/** The first VOI LUT that has a table, else the first window. */
function windowOf(group: DataSet, signed: boolean): Item {
  const luts = group.items(VOI_LUT).map((item) => tableItem(item, signed));
  const lut = luts.find((item) => item !== undefined);
  if (lut !== undefined) return [[VOI_LUT, 'SQ', [lut]]];
  const [center, width] = [group.string(0x00281050), group.string(0x00281051)];
  const shape = group.string(0x00281056);
  if (center === undefined || width === undefined) return [];
  return [
    [0x00281050, 'DS', center],
    [0x00281051, 'DS', width],
    ...(shape === undefined ? [] : ([[0x00281056, 'CS', shape]] as const)),
  ];
}

/** A lookup table; entries of 8 bits are bytes, others words (PS3.3, C.11.1.1.1). */
function tableItem(item: DataSet, signed: boolean): Item | undefined {
  const table = readTable(item, TABLE, signed, []);
  if (table === undefined) return undefined;
  const { first, length, bits } = table;
  const values = Array.from({ length }, (_, i) => table.at(first + i));
  const entries = bits === 8 ? Uint8Array.from(values) : Buffer.from(Uint16Array.from(values).buffer);
  const descriptor = Buffer.alloc(6);
  [length, first, bits].forEach((value, i) => descriptor.writeUInt16LE(value & 0xffff, 2 * i));
  return [
    [TABLE.descriptor, first < 0 ? 'SS' : 'US', descriptor],
    [TABLE.data, 'OW', entries],
  ];
}

/** The meaning of colours (PS3.3, C.11.15): rxray passes them on as sRGB. */
async function colours(): Promise<Item> {
  const { default: sharp } = await import('sharp');
  const black = { width: 1, height: 1, channels: 3, background: 'black' } as const;
  const png = await sharp({ create: black }).withIccProfile('srgb').png().toBuffer();
  const { icc } = await sharp(png).metadata();
  if (icc === undefined) throw new Error('libvips has no profile of sRGB');
  return [
    [0x00282000, 'OB', icc],
    [0x00282002, 'CS', 'SRGB'],
  ];
}

/** The shape of the pixels: their spacing if it is known, else their ratio. */
function shapeOf(film: SourceFilm): Item {
  const spacing = film.values(0x00280030);
  if (spacing.length === 2) return [[0x00700101, 'DS', spacing]];
  const ratio = film.values(0x00280034);
  return [[0x00700102, 'IS', ratio.length === 2 ? ratio : ['1', '1']]];
}

/** All measurements, in the upper left corner of the display. */
function textOf(findings: ReturnType<typeof findingsOf>): Item {
  const lines = findings.flatMap(({ stage, measurements }) =>
    measurements.map((each) => `${stage}: ${inWords(each)}`),
  );
  return [
    [0x00700003, 'CS', 'DISPLAY'],
    [
      0x00700006,
      'ST',
      Array.from([...lines, NOTICE].join('\r\n').replaceAll('\\', '/'))
        .slice(0, 1024)
        .join(''),
    ],
    [0x00700010, 'FL', [0.01, 0.01]],
    [0x00700011, 'FL', [0.6, 0.4]],
    [0x00700012, 'CS', 'LEFT'],
  ];
}

function inWords(measurement: Measurement): string {
  if ('finding' in measurement) return `${measurement.name} ${measurement.finding}`;
  if ('answer' in measurement) return `${measurement.name} ${measurement.answer ? 'yes' : 'no'}`;
  const unit = measurement.unit === '%' ? ' %' : '';
  return `${measurement.name} ${String(Number(measurement.value.toPrecision(4)))}${unit}`;
}

function labelOf({ label = 'region', score, x, y, width, height }: Region): Item {
  return [
    [0x00700003, 'CS', 'PIXEL'],
    [0x00700006, 'ST', cut(score === undefined ? label : `${label} ${score.toFixed(2)}`, 64)],
    [0x00700010, 'FL', [x, y]],
    [0x00700011, 'FL', [x + width, y + height]],
    [0x00700012, 'CS', 'LEFT'],
  ];
}

function objectsOf(regions: readonly Region[]): Item {
  if (regions.length === 0) return [];
  const objects = regions.map((region): Item => {
    const corners = outlineOf(region);
    return [
      [0x00700005, 'CS', 'PIXEL'],
      [0x00700020, 'US', 2],
      [0x00700021, 'US', corners.length / 2],
      [0x00700022, 'FL', corners],
      [0x00700023, 'CS', 'POLYLINE'],
      [0x00700024, 'CS', 'N'],
    ];
  });
  return [[0x00700009, 'SQ', objects]];
}
