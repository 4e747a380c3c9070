import { renderedOf, type Frame } from '../../core/frame.js';
import type { ObjectToSend } from '../../dicom/scu.js';
import { bytesOf, type Item } from '../../dicom/write.js';
import { annotate } from '../folder/annotate.js';
import { referenceItem } from './content.js';
import { equipment, instanceNumber, momentOf, patientAndStudy, uidOf } from './report.js';
import type { SourceFilm } from './source-film.js';

const SECONDARY_CAPTURE = '1.2.840.10008.5.1.4.1.1.7';

/** The annotated picture of a film as PNG. The frame must have its image. */
export function pictureOf(frame: Frame, { size }: { size: number }): Promise<Uint8Array> {
  return annotate(frame, { size, map: true });
}

/**
 * The annotated picture of a film as a Secondary Capture (PS3.3, A.8.1), RGB of 8 bits. Its UID is derived from the frame's id;
 * it is in the film's study, in a series of its own. The frame must have its image, or its picture.
 */
export async function captureOf(
  frame: Frame,
  film: SourceFilm,
  { size, version }: { size: number; version: string },
): Promise<ObjectToSend> {
  const { default: sharp } = await import('sharp');
  const { data, info } = await sharp(await renderedOf(frame, () => pictureOf(frame, { size })))
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const instance = uidOf('picture', frame.id, frame.repeat);
  const { date, time } = momentOf(frame);
  const elements: Item = [
    ...patientAndStudy(film),
    [0x00080008, 'CS', ['DERIVED', 'SECONDARY']],
    [0x00080016, 'UI', SECONDARY_CAPTURE],
    [0x00080018, 'UI', instance],
    [0x00080023, 'DA', date],
    [0x00080033, 'TM', time],
    [0x00080060, 'CS', 'OT'],
    [0x00080064, 'CS', 'WSD'],
    ...equipment(version),
    [0x0008103e, 'LO', 'rxray: pictures, for research only'],
    [0x00082112, 'SQ', [referenceItem(film)]],
    [0x0020000e, 'UI', uidOf('pictures', film.series)],
    [0x00200011, 'IS', '9002'],
    [0x00200013, 'IS', instanceNumber(film)],
    [0x00200020, 'CS', ''],
    [0x00200060, 'CS', ''],
    [0x00280002, 'US', 3],
    [0x00280004, 'CS', 'RGB'],
    [0x00280006, 'US', 0],
    [0x00280010, 'US', info.height],
    [0x00280011, 'US', info.width],
    [0x00280100, 'US', 8],
    [0x00280101, 'US', 8],
    [0x00280102, 'US', 7],
    [0x00280103, 'US', 0],
    // The picture has the film's id and results, and no patient data.
    [0x00280301, 'CS', 'NO'],
    [0x7fe00010, 'OB', data],
  ];
  return { sopClass: SECONDARY_CAPTURE, instance, dataSet: bytesOf(elements) };
}
