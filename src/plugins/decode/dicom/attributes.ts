import { inBytes } from '../../../dicom/character-sets.js';
import { type DataSet, MAX_TEXT } from '../../../dicom/data-set.js';
import { decimals } from '../../../dicom/numbers.js';
import { TERMS } from '../../../dicom/terms.js';

/** What the basic profile does to an attribute (PS3.15, table E.1-1): keep it, leave it out, or map its UID. */
type Action = 'keep' | 'remove' | 'map';

interface Attribute {
  readonly tag: number;
  readonly vr: string;
  readonly action: Action;
}

/** The attributes that may be passed on, by keyword. Actions X, Z, D and their combinations remove the value. */
export const ATTRIBUTES = {
  ...group('keep', {
    ImageType: [0x00080008, 'CS'],
    SOPClassUID: [0x00080016, 'UI'],
    Modality: [0x00080060, 'CS'],
    ConversionType: [0x00080064, 'CS'],
    PresentationIntentType: [0x00080068, 'CS'],
    Manufacturer: [0x00080070, 'LO'],
    ManufacturerModelName: [0x00081090, 'LO'],
    PatientIdentityRemoved: [0x00120062, 'CS'],
    BodyPartExamined: [0x00180015, 'CS'],
    SliceThickness: [0x00180050, 'DS'],
    KVP: [0x00180060, 'DS'],
    SpacingBetweenSlices: [0x00180088, 'DS'],
    SoftwareVersions: [0x00181020, 'LO'],
    DistanceSourceToDetector: [0x00181110, 'DS'],
    DistanceSourceToPatient: [0x00181111, 'DS'],
    ExposureTime: [0x00181150, 'IS'],
    XRayTubeCurrent: [0x00181151, 'IS'],
    Exposure: [0x00181152, 'IS'],
    ExposureInuAs: [0x00181153, 'IS'],
    ImagerPixelSpacing: [0x00181164, 'DS'],
    Grid: [0x00181166, 'CS'],
    FocalSpots: [0x00181190, 'DS'],
    AnodeTargetMaterial: [0x00181191, 'CS'],
    ExposureIndex: [0x00181411, 'DS'],
    TargetExposureIndex: [0x00181412, 'DS'],
    DeviationIndex: [0x00181413, 'DS'],
    PatientPosition: [0x00185100, 'CS'],
    ViewPosition: [0x00185101, 'CS'],
    DetectorType: [0x00187004, 'CS'],
    SeriesNumber: [0x00200011, 'IS'],
    AcquisitionNumber: [0x00200012, 'IS'],
    InstanceNumber: [0x00200013, 'IS'],
    PatientOrientation: [0x00200020, 'CS'],
    ImagePositionPatient: [0x00200032, 'DS'],
    ImageOrientationPatient: [0x00200037, 'DS'],
    Laterality: [0x00200060, 'CS'],
    ImageLaterality: [0x00200062, 'CS'],
    SliceLocation: [0x00201041, 'DS'],
    QualityControlImage: [0x00280300, 'CS'],
    BurnedInAnnotation: [0x00280301, 'CS'],
    LossyImageCompression: [0x00282110, 'CS'],
    LossyImageCompressionRatio: [0x00282112, 'DS'],
    LossyImageCompressionMethod: [0x00282114, 'CS'],
  }),
  ...group('map', {
    SOPInstanceUID: [0x00080018, 'UI'],
    StudyInstanceUID: [0x0020000d, 'UI'],
    SeriesInstanceUID: [0x0020000e, 'UI'],
    FrameOfReferenceUID: [0x00200052, 'UI'],
  }),
  ...group('remove', {
    StudyDate: [0x00080020, 'DA'],
    SeriesDate: [0x00080021, 'DA'],
    AcquisitionDate: [0x00080022, 'DA'],
    ContentDate: [0x00080023, 'DA'],
    AcquisitionDateTime: [0x0008002a, 'DT'],
    StudyTime: [0x00080030, 'TM'],
    SeriesTime: [0x00080031, 'TM'],
    AcquisitionTime: [0x00080032, 'TM'],
    ContentTime: [0x00080033, 'TM'],
    AccessionNumber: [0x00080050, 'SH'],
    InstitutionName: [0x00080080, 'LO'],
    ReferringPhysicianName: [0x00080090, 'PN'],
    TimezoneOffsetFromUTC: [0x00080201, 'SH'],
    StationName: [0x00081010, 'SH'],
    StudyDescription: [0x00081030, 'LO'],
    SeriesDescription: [0x0008103e, 'LO'],
    InstitutionalDepartmentName: [0x00081040, 'LO'],
    OperatorsName: [0x00081070, 'PN'],
    PatientName: [0x00100010, 'PN'],
    PatientID: [0x00100020, 'LO'],
    IssuerOfPatientID: [0x00100021, 'LO'],
    PatientBirthDate: [0x00100030, 'DA'],
    PatientSex: [0x00100040, 'CS'],
    PatientAge: [0x00101010, 'AS'],
    PatientSize: [0x00101020, 'DS'],
    PatientWeight: [0x00101030, 'DS'],
    PatientComments: [0x00104000, 'LT'],
    DeviceSerialNumber: [0x00181000, 'LO'],
    ProtocolName: [0x00181030, 'LO'],
    DetectorID: [0x0018700a, 'SH'],
    StudyID: [0x00200010, 'SH'],
    ImageComments: [0x00204000, 'LT'],
  }),
} as const satisfies Record<string, Attribute>;

export type AttributeName = keyof typeof ATTRIBUTES;
export const ATTRIBUTE_NAMES = Object.keys(ATTRIBUTES) as [AttributeName, ...AttributeName[]];

/** The default attributes: none of free text. The basic profile removes the last three. */
export const USUAL: readonly AttributeName[] = [
  'SOPClassUID',
  'StudyInstanceUID',
  'SeriesInstanceUID',
  'SOPInstanceUID',
  'Modality',
  'BodyPartExamined',
  'ViewPosition',
  'Laterality',
  'ImageLaterality',
  'PatientOrientation',
  'PresentationIntentType',
  'KVP',
  'Exposure',
  'InstanceNumber',
  'PatientSex',
  'PatientAge',
  'StudyDate',
];

/** `basic`: the basic profile of PS3.15; `none`: everything unchanged; `keep`: basic, except for these. */
export type Deidentify = 'basic' | 'none' | { readonly keep: readonly AttributeName[] };

export interface AttributeOptions {
  readonly attributes: readonly AttributeName[];
  readonly deidentify: Deidentify;
  /** Maps a UID to another one, consistently. */
  readonly mapUid: (uid: string) => string;
}

type Value = string | number;

/**
 * Those of the wanted attributes that are present and may be passed on: text decoded, DS and IS as numbers, several
 * values as a list. Sources: PS3.5, 6.2 (value representations); PS3.15, E.1 (basic profile).
 */
export function attributesOf(
  dataSet: DataSet,
  { attributes, deidentify, mapUid }: AttributeOptions,
  warnings: string[],
): Record<string, Value | Value[]> {
  const found: Record<string, Value | Value[]> = {};
  for (const name of attributes) {
    const { tag, vr, action } = ATTRIBUTES[name];
    const free = deidentify === 'none' || (typeof deidentify === 'object' && deidentify.keep.includes(name));
    if (action === 'remove' && !free) continue;
    const values = valuesOf(dataSet, tag, vr, warnings)
      .filter((value) => free || isTerm(name, vr, value))
      .map((value) => (action === 'map' && !free ? mapUid(String(value)) : value));
    const [only] = values;
    if (only !== undefined) found[name] = values.length === 1 ? only : values;
  }
  return found;
}

/** Up to three of anterior, posterior, left, right, head and feet. */
const ORIENTATION = /^(?!.*(?:A.*P|P.*A|L.*R|R.*L|H.*F|F.*H|(.).*\1))[APLRHF]{1,3}$/;

/** Any attribute may contain free text, such as a name: a coded one is passed on only if it has a known term. */
function isTerm(name: string, vr: string, value: Value): boolean {
  if (name === 'PatientOrientation') return ORIENTATION.test(String(value));
  if (vr === 'CS') return TERMS[name]?.has(String(value)) === true;
  return vr !== 'UI' || /^[\d.]{1,64}$/.test(String(value));
}

function valuesOf(dataSet: DataSet, tag: number, vr: string, warnings: string[]): Value[] {
  // No value of these VRs is nearly as long: a limit for hostile files.
  const bytes = dataSet.value(tag)?.subarray(0, MAX_TEXT);
  if (bytes === undefined) return [];
  if (vr === 'DS' || vr === 'IS') return decimals(dataSet, tag).filter((value) => value !== undefined);
  const isText = ['LO', 'LT', 'PN', 'SH'].includes(vr);
  const text = isText ? inBytes(bytes, dataSet.strings(0x00080005), warnings) : bytes.toString('latin1');
  const values = vr === 'LT' ? [text] : text.split('\\');
  return values.map((value) => value.replace(/^[\0 ]+|[\0 ]+$/g, '')).filter((value) => value !== '');
}

function group<N extends string>(
  action: Action,
  entries: Readonly<Record<N, readonly [tag: number, vr: string]>>,
): Record<N, Attribute> {
  const names = Object.keys(entries) as N[];
  return Object.fromEntries(
    names.map((name) => [name, { tag: entries[name][0], vr: entries[name][1], action }]),
  ) as Record<N, Attribute>;
}
