import { RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import type { Decoded, Limits } from './decoder.js';
import { type AttributeOptions, attributesOf } from './dicom/attributes.js';
import { PIXEL_DATA } from '../../dicom/data-set.js';
import { damaged, unsupported } from '../../dicom/failures.js';
import { groupOf } from '../../dicom/functional-groups.js';
import { renderGrey, type Voi } from './dicom/grey.js';
import { decimals } from '../../dicom/numbers.js';
import { type DicomFile, parse } from '../../dicom/parse.js';
import { renderColour, renderPalette } from './dicom/photometric.js';
import { readFormat, readStored, type Stored } from './dicom/stored.js';
import { MODALITIES, VIEW_POSITIONS, withoutPixels } from '../../dicom/terms.js';

export { isDicom } from '../../dicom/parse.js';

/** The frame to decode; numbers count from 1, as in DICOM. `all`: the file must have one. */
export type FrameChoice = 'all' | 'first' | 'middle' | number;

export interface DicomOptions extends Limits, Partial<AttributeOptions> {
  /** Default: auto. */
  readonly voi?: Voi;
  /** Default: first. */
  readonly frames?: FrameChoice;
}

/**
 * One frame of a DICOM file, as a viewer shows it. Throws {@link RxrayError}. `meta` has no patient data; `warnings`
 * lists what had to be ignored or corrected.
 */
export async function decodeDicom(bytes: Buffer, options: DicomOptions): Promise<Decoded> {
  const warnings: string[] = [];
  const file = parse(bytes, options, warnings);
  checkPixels(file);
  const { dataSet } = file;
  const format = readFormat(file, options, warnings);
  const frame = frameIndex(options.frames ?? 'first', format.frames);
  const stored = await readStored(file, format, frame, options, warnings);
  const image = render(stored, file, frame, options.voi ?? 'auto', warnings);

  const spacing = spacingOf(file, frame);
  const ratio = dataSet.strings(0x00280034).map(Number);
  const modality = dataSet.string(0x00080060);
  const viewPosition = dataSet.string(0x00185101);
  if (ratio.length === 2 && ratio[0] !== ratio[1]) warnings.push('its pixels are not square');
  const burned = dataSet.string(0x00280301);
  if (burned === 'YES') warnings.push('text is burned into the picture, which may name a patient');
  const { attributes = [], deidentify = 'basic', mapUid } = options;
  const dicom =
    mapUid === undefined || attributes.length === 0
      ? undefined
      : attributesOf(dataSet, { attributes, deidentify, mapUid }, warnings);
  const meta = {
    format: 'dicom',
    width: format.width,
    height: format.height,
    bits: format.stored,
    photometricInterpretation: format.photometric,
    ...(/^[\d.]{1,64}$/.test(file.syntax) && { transferSyntax: file.syntax }),
    ...(format.frames > 1 && { pages: format.frames, page: frame + 1 }),
    // Any attribute may contain free text: only terms of the standard are passed on.
    ...(modality !== undefined && MODALITIES.has(modality) && { modality }),
    ...(viewPosition !== undefined && VIEW_POSITIONS.has(viewPosition) && { viewPosition }),
    ...(spacing !== undefined && { pixelSpacing: spacing }),
    ...(ratio.length === 2 && ratio.every((value) => value > 0) && { pixelAspectRatio: ratio }),
    ...((burned === 'YES' || burned === 'NO') && { burnedInAnnotation: burned === 'YES' }),
    ...(dicom !== undefined && { dicom }),
    ...(warnings.length > 0 && { warnings: [...new Set(warnings)] }),
  };
  return { image, meta };
}

function render(stored: Stored, { dataSet }: DicomFile, frame: number, voi: Voi, warnings: string[]): Image {
  if (stored.photometric === 'PALETTE COLOR') return renderPalette(stored, dataSet, warnings);
  return stored.channels === 3 ? renderColour(stored) : renderGrey(stored, dataSet, frame, voi, warnings);
}

/** Throws if there are no integer pixels, by the kind of object, or because they are missing. */
function checkPixels({ dataSet, sopClass }: DicomFile): void {
  if (dataSet.elements.has(PIXEL_DATA)) return;
  if (dataSet.elements.has(0x7fe00008) || dataSet.elements.has(0x7fe00009)) {
    throw unsupported('has floating-point pixels, which are not supported');
  }
  const kind = withoutPixels(sopClass);
  if (kind !== undefined) throw new RxrayError('FRAME_NO_PIXELS', `no pixels: the DICOM file is ${kind}`);
  throw damaged('its pixels are missing');
}

function frameIndex(choice: FrameChoice, frames: number): number {
  if (choice === 'all' && frames > 1) {
    throw unsupported(`has ${frames} frames that \`frames: all\` could not split into films`);
  }
  if (choice === 'all' || choice === 'first') return 0;
  if (choice === 'middle') return Math.floor((frames - 1) / 2);
  if (choice > frames) throw unsupported(`has ${frames} frames, \`frames\` asks for number ${choice}`);
  return choice - 1;
}

/** Millimetres per pixel, rows then columns: in the patient, else at the detector. */
function spacingOf({ dataSet }: DicomFile, frame: number): number[] | undefined {
  const candidates = [
    decimals(groupOf(dataSet, frame, 'measures'), 0x00280030),
    decimals(dataSet, 0x00181164),
  ];
  return candidates.find(
    (pair): pair is number[] => pair.length === 2 && pair.every((mm) => mm !== undefined && mm > 0),
  );
}
