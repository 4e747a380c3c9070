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

const terms = (text: string): ReadonlySet<string> => new Set(text.split(' '));
const YES_NO = terms('YES NO');

/**
 * The terms of coded attributes (VR CS), by keyword: those of the standard (PS3.3; parts of the body: PS3.16, annex L), and for
 * parts of the body and types of images the usual ones of manufacturers.
 */
export const TERMS: Readonly<Record<string, ReadonlySet<string>>> = {
  Modality: MODALITIES,
  ViewPosition: VIEW_POSITIONS,
  ImageType: terms(
    'ORIGINAL DERIVED MIXED PRIMARY SECONDARY AXIAL LOCALIZER REFORMATTED PROJECTION VOLUME RESAMPLED AVERAGE MPR MIP MINIP ' +
      'POST_PROCESSED POST_CONTRAST PRE_CONTRAST SCANNED SCREEN OTHER NONE HEAD BODY AP PA LATERAL LEFT RIGHT CSA RADIOGRAPH ' +
      'SINGLE BIPLANE OBLIQUE M P R I M_SE M_FFE M_IR T1 T2 ADC DIFFUSION FLAIR DIS2D DIS3D NORM ND TOMOSYNTHESIS GENERATED_2D ' +
      'BONE_SUPPRESSED COMPRESSED UNCOMPRESSED STITCHED ENHANCED RAW ROI OVERVIEW LABEL THUMBNAIL',
  ),
  ConversionType: terms('DV DI DF WSD SD SI DRW SYN'),
  PresentationIntentType: new Set(['FOR PRESENTATION', 'FOR PROCESSING']),
  PatientIdentityRemoved: YES_NO,
  BodyPartExamined: new Set([
    ...terms(
      'ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA APPENDIX ARM AXILLA BACK BILEDUCT BLADDER BODY BONE BRAIN BREAST ' +
        'BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CEREBRUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CHOROIDPLEXUS ' +
        'CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ENDOARTERIAL ESOPHAGUS ' +
        'EXTREMITY EYE EYELID FACE FACIALBONES FEMUR FINGER FOOT FOREARM GALLBLADDER GROIN GUM HAND HEAD HEADNECK HEART HIP ' +
        'HUMERUS ILEUM ILIUM IAC INTERNALAUDITORYCANAL JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LOWERARM LOWERLEG LSPINE LSSPINE ' +
        'LUMEN LUNG LUNGS MANDIBLE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY ' +
        'PANCREAS PANCREATICDUCT PARATHYROID PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM RIB RIBS ' +
        'SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SINUS SINUSES SKIN SKULL SPINE SPINALCORD SPLEEN SSPINE STERNUM STOMACH ' +
        'SUBMANDIBULAR TESTIS THIGH THORAX THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA ' +
        'UPPERARM UPPERLEG UPPEREXTREMITY LOWEREXTREMITY URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA ' +
        'CHEST_PA CHEST_AP CHEST_LAT LOWER_EXTREMITY UPPER_EXTREMITY',
    ),
    ...(
      'C SPINE,T SPINE,L SPINE,S SPINE,WHOLE BODY,CHEST PA,CHEST AP,CHEST LAT,PORT CHEST,UPPER EXTREMITY,' +
      'LOWER EXTREMITY'
    ).split(','),
  ]),
  Grid: terms('FIXED FOCUSED RECIPROCATING PARALLEL CROSSED NONE IN OUT'),
  AnodeTargetMaterial: terms('TUNGSTEN MOLYBDENUM RHODIUM SILVER COPPER'),
  PatientPosition: terms(
    'HFP HFS HFDR HFDL FFP FFS FFDR FFDL LFP LFS RFP RFS AFP AFS AFDR AFDL PFP PFS PFDR PFDL SITTING',
  ),
  DetectorType: terms('DIRECT SCINTILLATOR STORAGE FILM'),
  Laterality: terms('R L'),
  ImageLaterality: terms('R L U B'),
  QualityControlImage: terms('YES NO BOTH'),
  BurnedInAnnotation: YES_NO,
  LossyImageCompression: terms('00 01'),
  LossyImageCompressionMethod: terms(
    'ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_2 ISO_15444_15 ISO_13818_2 ISO_14496_10 ISO_18181_1 ISO_23008_2',
  ),
};

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
