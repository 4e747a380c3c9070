/** Defined terms of Modality (PS3.3, C.7.3.1.1.1), retired ones too. */
export const MODALITIES: ReadonlySet<string> = new Set(
  (
    'ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT ' +
    'IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG ' +
    'RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA ' +
    'VISFIELD XA XAPROTOCOL XC AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF'
  ).split(' '),
);

/** Defined terms of ViewPosition (PS3.3, C.8.11.5.1.1 and CR). */
export const VIEW_POSITIONS: ReadonlySet<string> = new Set(
  'AP PA LL RL RLD LLD RLO LLO LATERAL LAT CC MLO ML LM XCC XCCL XCCM FB SIO ISO CV'.split(' '),
);

/** SOP classes without pixels: the start of their UIDs (PS3.4, B.5), and what they are. */
const WITHOUT_PIXELS: readonly (readonly [root: string, kind: string])[] = [
  ['1.2.840.10008.1.3.10', 'a DICOMDIR'],
  ['1.2.840.10008.5.1.4.1.1.88.59', 'a key object selection'],
  ['1.2.840.10008.5.1.4.1.1.88.', 'a structured report'],
  ['1.2.840.10008.5.1.4.1.1.104.', 'an encapsulated document'],
  ['1.2.840.10008.5.1.4.1.1.9.', 'a waveform'],
  ['1.2.840.10008.5.1.4.1.1.11.', 'a presentation state'],
  ['1.2.840.10008.5.1.4.1.1.66', 'a registration, surface or raw data'],
  ['1.2.840.10008.5.1.4.1.1.67', 'a real world value mapping'],
  ['1.2.840.10008.5.1.4.1.1.68.', 'a surface scan'],
  ['1.2.840.10008.5.1.4.1.1.78.', 'a measurement of an eye'],
  ['1.2.840.10008.5.1.4.1.1.79.', 'a report on an eye'],
  ['1.2.840.10008.5.1.4.1.1.80.', 'a visual field'],
  ['1.2.840.10008.5.1.4.1.1.90.', 'an assessment'],
  ['1.2.840.10008.5.1.4.1.1.91.', 'annotations'],
  ['1.2.840.10008.5.1.4.1.1.200.', 'a protocol'],
  ['1.2.840.10008.5.1.4.1.1.481.', 'a radiotherapy plan, structure or record'],
  ['1.2.840.10008.5.1.4.34.', 'a worklist or a plan'],
  ['1.2.840.10008.5.1.4.38.', 'a hanging protocol'],
  ['1.2.840.10008.5.1.4.39.', 'a colour palette'],
  ['1.2.840.10008.5.1.4.43.', 'an implant template'],
  ['1.2.840.10008.5.1.4.44.', 'an implant template'],
  ['1.2.840.10008.5.1.4.45.', 'an implant template'],
];

/** Exceptions with pixels: segmentations, RT images and doses. */
const WITH_PIXELS = new Set(
  ['66.4', '66.7', '66.8', '481.1', '481.2', '481.23', '481.24'].map(
    (end) => `1.2.840.10008.5.1.4.1.1.${end}`,
  ),
);

/** What an object without pixels is; undefined if its SOP class has pixels, or is unknown. */
export function withoutPixels(sopClass = ''): string | undefined {
  if (WITH_PIXELS.has(sopClass)) return undefined;
  return WITHOUT_PIXELS.find(([root]) => sopClass.startsWith(root))?.[1];
}
