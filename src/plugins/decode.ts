import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import type { Image } from '../core/frame.js';
import { defineStage } from '../core/plugin.js';
import { toGrey } from '../imaging/kernels.js';
import { decodeBmp } from './decode/bmp.js';
import { decodeDicom, type DicomOptions, isDicom } from './decode/dicom.js';
import { ATTRIBUTE_NAMES, USUAL } from './decode/dicom/attributes.js';
import { uidMap } from '../dicom/uid-map.js';
import { decodeRaster } from './decode/raster.js';
import { decodeTiff } from './decode/tiff.js';
import type { Decoded } from './decode/decoder.js';

const attribute = z.enum(ATTRIBUTE_NAMES);

const options = z.strictObject({
  color: z
    .enum(['grey', 'keep'])
    .default('grey')
    .describe(
      '`grey` turns colour into grey (Rec. 601 luma, as OpenCV): films are grey, whatever they are stored as. `keep` leaves colour images with three channels.',
    ),
  maxPixels: z
    .int()
    .positive()
    .default(100_000_000)
    .describe('Largest image, width × height. Read from the header, before any memory is taken.'),
  maxBytes: z
    .int()
    .positive()
    .default(512 * 1024 * 1024)
    .describe('Largest file in bytes; deflated DICOM files count unpacked.'),
  voi: z
    .union([
      z.enum(['auto', 'none']),
      z.strictObject({
        center: z.number().describe('Middle of the window, in the values of the modality.'),
        width: z.number().positive().describe('Width of the window.'),
      }),
      z.strictObject({
        index: z.int().nonnegative().describe('Number of the VOI LUT or window in the file, from 0.'),
      }),
    ])
    .default('auto')
    .describe(
      'Which grey levels of a DICOM image are shown. `auto`: the first VOI LUT, else the first window of the file, else the range of the data. `none`: the range of the data.',
    ),
  frames: z
    .union([z.enum(['first', 'middle']), z.int().positive()])
    .default('first')
    .describe('Which frame of a DICOM file with several is taken; numbers count from 1.'),
  attributes: z
    .array(attribute)
    .default([...USUAL])
    .describe('Which DICOM attributes ride on the frame as `meta.dicom`, by keyword.'),
  deidentify: z
    .union([
      z.enum(['basic', 'none']),
      z.strictObject({
        keep: z.array(attribute).describe('Attributes that ride along although they may identify a patient.'),
      }),
    ])
    .default('basic')
    .describe(
      'What of `attributes` may ride along. `basic`: nothing that the basic profile of DICOM PS3.15 removes; UIDs are ' +
        'mapped to others by a keyed hash, whose key is in the state folder. `none`: all of it as it is. `{ keep: [...] }`: ' +
        'as `basic`, except for these.',
    ),
});
export type DecodeOptions = z.output<typeof options>;
/** What only some formats need may be left out. */
export type DecodeSettings = Pick<DecodeOptions, 'color'> & DicomOptions;

export default defineStage({
  name: 'decode',
  summary: 'Turns files into pixels: PNG, JPEG, TIFF, WebP, GIF, BMP and DICOM, told apart by content.',
  options,
  examples: [
    { title: 'As it is', with: {} },
    { title: 'Keep colour', with: { color: 'keep' } },
    { title: 'With the age of the patient', with: { deidentify: { keep: ['PatientAge'] } } },
  ],
  limits: ['maxPixels', 'maxBytes', 'attributes', 'deidentify'],
  retainsNothing: true,
  create: (settings, { stateDir }) => {
    const wanted = { ...settings, mapUid: uidMap(stateDir) };
    return {
      async process({ encoded, ...frame }) {
        if (encoded === undefined) {
          if (frame.image !== undefined)
            throw new Error('the image is decoded already: one `decode` is enough');
          throw new Error('there is no file to decode: `decode` stands right after a source');
        }
        const { image, meta } = await decode(encoded, wanted);
        return { ...frame, image, meta: { ...frame.meta, ...meta } };
      },
    };
  },
});

/**
 * The first image in a file. 8-bit files give `Uint8Array`, deeper ones `Uint16Array`; orientation is
 * applied; transparency becomes black; of DICOM, the window is applied and MONOCHROME1 inverted, so that
 * bone is always bright.
 *
 * Throws {@link RxrayError} FRAME_EMPTY, FRAME_NOT_AN_IMAGE, FRAME_DAMAGED, FRAME_TOO_LARGE or
 * FRAME_UNSUPPORTED. `meta`: `format, width, height, bits, pages?, warnings?`, and for DICOM `modality?,
 * photometricInterpretation, transferSyntax, viewPosition?, pixelSpacing?, burnedInAnnotation?, dicom?`.
 */
export async function decode(encoded: Uint8Array, settings: DecodeSettings): Promise<Decoded> {
  if (encoded.byteLength === 0) throw new RxrayError('FRAME_EMPTY', 'the file is empty');
  if (encoded.byteLength > settings.maxBytes) {
    throw new RxrayError(
      'FRAME_TOO_LARGE',
      `the file has ${encoded.byteLength} bytes, more than the ${settings.maxBytes} that \`maxBytes\` allows`,
    );
  }
  // A view, also of a shared buffer: nothing is copied.
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  const decoded = await decoderOf(bytes)(bytes, settings);
  const image = settings.color === 'grey' ? toGrey(decoded.image) : decoded.image;
  if (!isFlat(image)) return { image, meta: decoded.meta };
  const known = (decoded.meta.warnings ?? []) as readonly string[];
  return {
    image,
    meta: { ...decoded.meta, warnings: [...known, 'almost all pixels have the same grey level'] },
  };
}

/** At most this share of the pixels of a film has one grey level; a collimated film on black has less. */
const FLAT = 0.99;

/** Whether more than {@link FLAT} of the samples have one level, judged by up to 4096 of them first. */
function isFlat({ data }: Image): boolean {
  const share = (step: number): number => {
    let level: number | undefined;
    let votes = 0;
    for (let i = 0; i < data.length; i += step) {
      if (votes === 0) level = data[i];
      votes += data[i] === level ? 1 : -1;
    }
    let same = 0;
    for (let i = 0; i < data.length; i += step) if (data[i] === level) same++;
    return same / Math.ceil(data.length / step);
  };
  // Six standard deviations of the share in a sample of that size.
  const step = Math.ceil(data.length / 4096);
  return share(step) > FLAT - 0.01 && share(1) > FLAT;
}

/** By the file's first bytes: names lie. */
function decoderOf(bytes: Buffer): (bytes: Buffer, settings: DecodeSettings) => Promise<Decoded> {
  const starts = (at: number, text: string) => bytes.toString('latin1', at, at + text.length) === text;
  if (starts(128, 'DICM')) return decodeDicom;
  if (starts(0, 'BM')) return decodeBmp;
  if (['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].some((magic) => starts(0, magic))) return decodeTiff;
  if (
    starts(0, '\x89PNG\r\n\x1a\n') ||
    starts(0, '\xff\xd8\xff') ||
    (starts(0, 'RIFF') && starts(8, 'WEBP')) ||
    starts(0, 'GIF8')
  ) {
    return decodeRaster;
  }
  if (isDicom(bytes)) return decodeDicom;
  throw new RxrayError(
    'FRAME_NOT_AN_IMAGE',
    'the file is none of PNG, JPEG, TIFF, WebP, GIF, BMP and DICOM, whatever its name says',
  );
}
