import type { Frame } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import type { ObjectToSend } from '../../dicom/scu.js';
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

const PRESENTATION_STATE = '1.2.840.10008.5.1.4.1.1.11.1';
const LAYER = 'RXRAY';
/** Attributes that a presentation state would have to repeat, and that are not supported: modality LUT, VOI LUT, functional groups. */
const NOT_REPEATED = [0x00283000, 0x00283010, 0x52009229];

/**
 * The regions and measurements of a film as a Grayscale Softcopy Presentation State (PS3.3, A.33.1): a viewer draws them
 * over the film itself. The film's rescale and first window are repeated, since a presentation state replaces them.
 *
 * Undefined for colour films, and for films whose grey levels need more than that. UIDs are derived from the frame's id.
 */
export function presentationOf(frame: Frame, film: SourceFilm): ObjectToSend | undefined {
  const photometric = String(frame.meta['photometricInterpretation']);
  if (!photometric.startsWith('MONOCHROME') || NOT_REPEATED.some((tag) => film.has(tag))) return undefined;
  const instance = uidOf('presentation', frame.id, frame.repeat);
  const { date, time } = momentOf(frame);
  const { width, height } = frame.meta as { width: number; height: number };
  const source = referenceItem({ ...film, frame: frameNumberOf(frame, film) });
  const findings = findingsOf(frame);
  const elements: Item = [
    ...patientAndStudy(film),
    [0x00080016, 'UI', PRESENTATION_STATE],
    [0x00080018, 'UI', instance],
    [0x00080060, 'CS', 'PR'],
    ...equipment(VERSION),
    [0x0008103e, 'LO', 'rxray: annotations, for research only'],
    referencedSeries(film, 0x00081140, source),
    [0x0020000e, 'UI', uidOf('presentations', film.series)],
    [0x00200011, 'IS', '9004'],
    [0x00200013, 'IS', instanceNumber(film)],
    [0x00200060, 'CS', ''],
    ...greyLevels(film),
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
    [0x20500020, 'CS', photometric === 'MONOCHROME1' ? 'INVERSE' : 'IDENTITY'],
  ];
  return { sopClass: PRESENTATION_STATE, instance, dataSet: bytesOf(elements) };
}

/** Rescale and window as in the film (PS3.3, C.11.1 and C.11.8). */
function greyLevels(film: SourceFilm): Item {
  const first = (tag: number): string => film.values(tag)[0] ?? '';
  const [intercept, slope] = [first(0x00281052), first(0x00281053)];
  const [center, width, shape] = [first(0x00281050), first(0x00281051), first(0x00281056)];
  return [
    ...(intercept === '' || slope === ''
      ? []
      : ([
          [0x00281052, 'DS', intercept],
          [0x00281053, 'DS', slope],
          [0x00281054, 'LO', first(0x00281054) || 'US'],
        ] as const)),
    ...(center === '' || width === ''
      ? []
      : ([
          [
            0x00283110,
            'SQ',
            [
              [
                [0x00281050, 'DS', center],
                [0x00281051, 'DS', width],
                ...(shape === '' ? [] : ([[0x00281056, 'CS', shape]] as const)),
              ],
            ],
          ],
        ] as const)),
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
