import { createHash } from 'node:crypto';
import type { Frame } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import { bytesOf, type Item } from '../../dicom/write.js';
import type { ObjectToSend } from '../../dicom/scu.js';
import {
  type Code,
  coded,
  container,
  type Content,
  cut,
  dcm,
  image,
  type ImageReference,
  number,
  own,
  rectangle,
  referenceItem,
  sct,
  text,
  ucum,
  uidReference,
} from './content.js';
import type { Algorithm } from './algorithms.js';
import { type Findings, findingsOf, type Measurement, type Unit } from '../measurements.js';
import type { SourceFilm } from './source-film.js';

export const ENHANCED_SR = '1.2.840.10008.5.1.4.1.1.88.22';

export interface ReportOptions {
  /** By stage id. */
  readonly algorithms: ReadonlyMap<string, Algorithm>;
  /** rxray's own. */
  readonly version: string;
}

const YES = sct('373066001', 'Yes');
const NO = sct('373067005', 'No');

/**
 * The measurements of a film as an Enhanced SR: a measurement report (PS3.16, TID 1500) with one measurement group
 * (TID 1501) per stage, each with its algorithm (TID 4019), and a rectangle (TID 1410) for each box in
 * pixels of the film itself.
 *
 * Its UID is derived from the frame's id: a repeated delivery is the same object. It is in the film's study, in a series of its own.
 */
export function reportOf(frame: Frame, film: SourceFilm, options: ReportOptions): ObjectToSend {
  const instance = uidOf('report', frame.id, frame.repeat);
  const reference: ImageReference = { ...film, frame: frameNumberOf(frame, film) };
  const groups = findingsOf(frame).flatMap((findings) => groupsOf(frame, findings, reference, options));
  const tree = container(
    dcm('126000', 'Imaging Measurement Report'),
    [
      coded(dcm('121049', 'Language of Content Item and Descendants'), {
        value: 'en',
        scheme: 'RFC5646',
        meaning: 'English',
      })('HAS CONCEPT MOD'),
      coded(dcm('121005', 'Observer Type'), dcm('121007', 'Device'))('HAS OBS CONTEXT'),
      uidReference(dcm('121012', 'Device Observer UID'), uidOf('device', options.version))('HAS OBS CONTEXT'),
      text(dcm('121013', 'Device Observer Name'), 'rxray')('HAS OBS CONTEXT'),
      text(dcm('121015', 'Device Observer Model Name'), `rxray ${options.version}`)('HAS OBS CONTEXT'),
      coded(dcm('121058', 'Procedure reported'), sct('363679005', 'Imaging procedure'))('HAS CONCEPT MOD'),
      container(dcm('111028', 'Image Library'), [
        container(dcm('126200', 'Image Library Group'), [image(reference)('CONTAINS')])('CONTAINS'),
      ])('CONTAINS'),
      container(
        dcm('126010', 'Imaging Measurements'),
        groups.map((group) => group('CONTAINS')),
      )('CONTAINS'),
    ],
    '1500',
  );
  // The root has no parent.
  const content = tree('CONTAINS').filter(([tag]) => tag !== 0x0040a010);
  const { date, time } = momentOf(frame);
  const elements: Item = [
    ...patientAndStudy(film),
    [0x00080016, 'UI', ENHANCED_SR],
    [0x00080018, 'UI', instance],
    [0x00080023, 'DA', date],
    [0x00080033, 'TM', time],
    [0x00080060, 'CS', 'SR'],
    ...equipment(options.version),
    [0x0008103e, 'LO', 'rxray: measurements, for research only'],
    [0x00081111, 'SQ', []],
    [0x0020000e, 'UI', uidOf('reports', film.series)],
    [0x00200011, 'IS', '9001'],
    [0x00200013, 'IS', instanceNumber(film)],
    [
      0x0040a375,
      'SQ',
      [[referencedSeries(film, 0x00081199, referenceItem(film)), [0x0020000d, 'UI', film.study]]],
    ],
    [0x0040a372, 'SQ', []],
    [0x0040a491, 'CS', 'COMPLETE'],
    [0x0040a492, 'LO', cut(NOTICE, 64)],
    [0x0040a493, 'CS', 'UNVERIFIED'],
    [0x0040a496, 'CS', 'PRELIMINARY'],
    ...content,
  ];
  return { sopClass: ENHANCED_SR, instance, dataSet: bytesOf(elements) };
}

// ── what every object about a film has ────────────────────────────────────────────────────────────

/** The patient and study modules, copied from the film. */
export function patientAndStudy(film: SourceFilm): Item {
  return [
    [0x00080005, 'CS', 'ISO_IR 192'],
    [0x00080020, 'DA', film.text(0x00080020)],
    [0x00080030, 'TM', film.text(0x00080030)],
    [0x00080050, 'SH', film.text(0x00080050)],
    [0x00080090, 'PN', film.text(0x00080090)],
    [0x00100010, 'PN', film.text(0x00100010)],
    [0x00100020, 'LO', film.text(0x00100020)],
    [0x00100030, 'DA', film.text(0x00100030)],
    [0x00100040, 'CS', film.text(0x00100040)],
    [0x0020000d, 'UI', film.study],
    [0x00200010, 'SH', film.text(0x00200010)],
  ];
}

export function equipment(version: string): Item {
  return [
    [0x00080070, 'LO', 'rxray'],
    [0x00081090, 'LO', 'rxray'],
    [0x00181000, 'LO', '0'],
    [0x00181020, 'LO', version],
  ];
}

export function instanceNumber(film: SourceFilm): string {
  const number = film.text(0x00200013);
  return /^\d{1,9}$/.test(number) ? number : '1';
}

/** The film's series with a reference to the film, in the sequence that the object at hand has for it. */
export function referencedSeries({ series }: SourceFilm, sequence: number, reference: Item): Item[number] {
  const item: Item = [
    [sequence, 'SQ', [reference]],
    [0x0020000e, 'UI', series],
  ];
  return [0x00081115, 'SQ', [item]];
}

/** The number of the processed frame, from 1, in a film with several; undefined in others. */
export function frameNumberOf({ meta }: Frame, { frames }: SourceFilm): number | undefined {
  return frames > 1 ? Number(meta['page'] ?? 1) : undefined;
}

/** When the last stage finished, in UTC; the same at each delivery. */
export function momentOf({ completedAt, origin }: Frame): { date: string; time: string } {
  const digits = (completedAt ?? origin.receivedAt).replaceAll(/\D/g, '');
  return { date: digits.slice(0, 8), time: digits.slice(8, 14) };
}

/** `2.25.` and 128 bits of a hash (PS3.5, B.2): the same for the same parts. */
export function uidOf(...parts: readonly (string | number | undefined)[]): string {
  const digest = createHash('sha256')
    .update(['rxray', ...parts].join('\0'))
    .digest('hex')
    .slice(0, 32);
  return `2.25.${BigInt(`0x${digest}`).toString()}`;
}

// ── results ───────────────────────────────────────────────────────────────────────────────────────

const UNITS: Readonly<Record<Unit, Code>> = {
  '{ratio}': ucum('{ratio}', 'ratio'),
  '%': ucum('%', 'percent'),
  '1': ucum('1', 'no units'),
};

function groupsOf(
  frame: Frame,
  { stage, measurements, regions }: Findings,
  reference: ImageReference,
  { algorithms }: ReportOptions,
): Content[] {
  const head = (tracked: string): Item[] => [
    text(dcm('112039', 'Tracking Identifier'), cut(tracked, 64))('HAS OBS CONTEXT'),
    uidReference(
      dcm('112040', 'Tracking Unique Identifier'),
      uidOf('tracked', frame.id, tracked),
    )('HAS OBS CONTEXT'),
    ...algorithmOf(algorithms.get(stage)),
  ];
  const group = dcm('125007', 'Measurement Group');
  return [
    container(
      group,
      [...head(stage), ...measurements.map((measurement) => contentOf(measurement)('CONTAINS'))],
      '1501',
    ),
    ...regions.map((region, i) =>
      container(
        group,
        [
          ...head(`${stage} ${region.label ?? 'region'} ${String(i + 1)}`),
          ...(region.label === undefined
            ? []
            : [coded(dcm('121071', 'Finding'), own(region.label))('CONTAINS')]),
          rectangle(dcm('111030', 'Image Region'), region, reference)('CONTAINS'),
        ],
        '1410',
      ),
    ),
  ];
}

function contentOf(measurement: Measurement): Content {
  const { name } = measurement;
  if ('finding' in measurement) return coded(dcm('121071', name), own(measurement.finding));
  if ('answer' in measurement) return coded(own(name), measurement.answer ? YES : NO);
  return number(own(name), measurement.value, UNITS[measurement.unit]);
}

function algorithmOf(algorithm: Algorithm | undefined): Item[] {
  if (algorithm === undefined) return [];
  const { name, version, sha256 } = algorithm;
  return [
    text(dcm('111001', 'Algorithm Name'), name)('HAS CONCEPT MOD'),
    text(dcm('111003', 'Algorithm Version'), version)('HAS CONCEPT MOD'),
    ...(sha256 === undefined
      ? []
      : [text(dcm('111002', 'Algorithm Parameters'), `sha256:${sha256}`)('HAS CONCEPT MOD')]),
  ];
}
