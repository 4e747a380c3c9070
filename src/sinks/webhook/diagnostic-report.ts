import type { Frame } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import { verdictOf } from '../../core/verdict.js';
import { type Algorithm, VERSION } from '../dicom/algorithms.js';
import { own } from '../dicom/content.js';
import { uidOf } from '../dicom/report.js';
import type { SourceFilm } from '../dicom/source-film.js';
import { type Findings, findingsOf, type Measurement, type Region } from '../measurements.js';

/** A FHIR resource or a part of one, as JSON. */
type Json = Readonly<Record<string, unknown>>;

export interface DiagnosticReportOptions {
  /** By stage id. */
  readonly algorithms: ReadonlyMap<string, Algorithm>;
  /** The header of the film; absent where it is no DICOM file. */
  readonly film?: SourceFilm | undefined;
  /** Maps a UID, or text that identifies a patient, to a UID by a keyed hash. Absent: the report identifies the patient. */
  readonly pseudonym?: ((text: string) => string) | undefined;
}

const URI = 'urn:ietf:rfc:3986';
const UCUM = 'http://unitsofmeasure.org';
const OWN_CODES = `urn:oid:${uidOf('codes')}`;
const UNIT_NAMES = { '{ratio}': 'ratio', '%': 'percent', '1': 'no units' } as const;

/**
 * The results of a film as a FHIR R4 DiagnosticReport, with an Observation per stage and the Device that made it
 * contained (hl7.org/fhir/R4/diagnosticreport.html).
 *
 * Its identifier comes from the frame's id: a repeated delivery has the same one. Its status is `partial`, which R4
 * defines as unverified (`preliminary` means verified), that of its Observations `preliminary`, which for them is unverified.
 */
export function diagnosticReportOf(frame: Frame, options: DiagnosticReportOptions): Json {
  const { algorithms, film } = options;
  const about = film === undefined ? {} : subjectOf(film, options);
  const findings = findingsOf(frame);
  const devices = findings.map(({ stage }, i) =>
    deviceOf(`device-${String(i + 1)}`, algorithms.get(stage) ?? { name: stage, version: VERSION }),
  );
  const observations = findings.map((each, i) => ({
    ...observationOf(each, `observation-${String(i + 1)}`),
    ...about,
    issued: issuedOf(frame),
    device: { reference: `#device-${String(i + 1)}` },
  }));
  const conclusion = `${conclusionOf(frame)} ${NOTICE}`;
  return {
    resourceType: 'DiagnosticReport',
    text: {
      status: 'generated',
      div: `<div xmlns="http://www.w3.org/1999/xhtml"><p>${escaped(conclusion)}</p></div>`,
    },
    // FHIR has no empty lists.
    ...(findings.length > 0 && {
      contained: [...devices, ...observations],
      result: observations.map(({ id }) => ({ reference: `#${id}` })),
    }),
    identifier: [reportIdentifier(frame)],
    status: 'partial',
    category: [
      {
        coding: [
          { system: 'http://terminology.hl7.org/CodeSystem/v2-0074', code: 'RAD', display: 'Radiology' },
        ],
      },
    ],
    code: {
      coding: [{ system: 'http://loinc.org', code: '18748-4', display: 'Diagnostic imaging study' }],
      text: 'Automatic measurements by rxray',
    },
    ...about,
    ...(film !== undefined && { imagingStudy: [studyOf(film, options)] }),
    issued: issuedOf(frame),
    conclusion,
  };
}

/** The business identifier of a film's report, stable over attempts and restarts; another for `--again`. */
export function reportIdentifier({ id, repeat }: Frame): { readonly system: string; readonly value: string } {
  return { system: URI, value: `urn:oid:${uidOf('fhir', id, repeat)}` };
}

function issuedOf({ completedAt, origin }: Frame): string {
  return completedAt ?? origin.receivedAt;
}

function conclusionOf({ results }: Frame): string {
  const { abnormal, suspicion, abnormalStages } = verdictOf(results);
  const unreviewed = 'Not reviewed by a person.';
  if (abnormal === null) return `No verdict: no calibrated model has judged the film. ${unreviewed}`;
  const certainty = suspicion === null ? '' : `, suspicion ${suspicion.toFixed(2)}`;
  return abnormal
    ? `Above the threshold of ${abnormalStages.join(', ')}${certainty}. ${unreviewed}`
    : `Below the threshold of every model${certainty}. ${unreviewed}`;
}

// ── the film ──────────────────────────────────────────────────────────────────────────────────────

function subjectOf(film: SourceFilm, { pseudonym }: DiagnosticReportOptions): Json {
  const [id, issuer] = [film.text(0x00100020), film.text(0x00100021)];
  if (id === '') return {};
  const identifier =
    pseudonym === undefined
      ? { value: id, ...(issuer !== '' && { assigner: { display: issuer } }) }
      : { system: URI, value: `urn:oid:${pseudonym(`patient\0${issuer}\0${id}`)}` };
  return { subject: { type: 'Patient', identifier } };
}

function studyOf(film: SourceFilm, { pseudonym = (uid) => uid }: DiagnosticReportOptions): Json {
  const identifier = { system: 'urn:dicom:uid', value: `urn:oid:${pseudonym(film.study)}` };
  return { type: 'ImagingStudy', identifier };
}

// ── results ───────────────────────────────────────────────────────────────────────────────────────

function deviceOf(id: string, { name, version, sha256 }: Algorithm): Json {
  return {
    resourceType: 'Device',
    id,
    ...(sha256 !== undefined && { identifier: [{ system: URI, value: `urn:hash::sha256:${sha256}` }] }),
    deviceName: [{ name, type: 'model-name' }],
    version: [{ value: version }],
  };
}

function observationOf({ stage, measurements, regions, abnormal }: Findings, id: string) {
  return {
    resourceType: 'Observation',
    id,
    status: 'preliminary',
    code: { text: `Automatic measurements by the stage ${stage}` },
    ...(abnormal !== null && { interpretation: [interpretation(abnormal)] }),
    component: [...measurements.map(componentOf), ...regions.map(regionOf)],
  };
}

function interpretation(abnormal: boolean): Json {
  const system = 'http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation';
  const [code, display] = abnormal ? ['A', 'Abnormal'] : ['N', 'Normal'];
  return { coding: [{ system, code, display }] };
}

function componentOf(measurement: Measurement): Json {
  const code = concept(measurement.name);
  if ('finding' in measurement) return { code, valueCodeableConcept: concept(measurement.finding) };
  if ('answer' in measurement) return { code, valueBoolean: measurement.answer };
  const { value, unit } = measurement;
  return { code, valueQuantity: { value, unit: UNIT_NAMES[unit], system: UCUM, code: unit } };
}

function regionOf({ label = 'Region', score, x, y, width, height }: Region): Json {
  const place = `x ${x}, y ${y}, width ${width}, height ${height}, in pixels of the film`;
  return {
    code: concept(label),
    valueString: score === undefined ? place : `${place}; score ${score.toFixed(3)}`,
  };
}

/** A concept of this program, or a label of a model; with the codes of the structured reports. */
function concept(words: string): Json {
  const { value: code, meaning: display } = own(words);
  return { coding: [{ system: OWN_CODES, code, display }], text: display };
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
