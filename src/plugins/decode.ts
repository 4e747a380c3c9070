import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import type { Image } from '../core/frame.js';
import { partOf } from '../core/file-part.js';
import { defineStage } from '../core/plugin.js';
import { toGrey } from '../imaging/kernels.js';
import { decodeBmp } from './decode/bmp.js';
import { decodeDicom, type DicomOptions, isDicom } from './decode/dicom.js';
import { ATTRIBUTE_NAMES, USUAL } from './decode/dicom/attributes.js';
import { countFrames } from './decode/dicom/count-frames.js';
import { uidMap } from '../dicom/uid-map.js';
import { otherFormat } from './decode/other-formats.js';
import { decodeRaster } from './decode/raster.js';
import { decodeTiff } from './decode/tiff.js';
import type { Decoded } from './decode/decoder.js';

const attribute = z.enum(ATTRIBUTE_NAMES);

const options = z.strictObject({
  color: z
    .enum(['grey', 'keep'])
    .default('grey')
    .describe(
      '`grey` converts colour to grey (Rec. 601 luma, as OpenCV). `keep` leaves colour images with three channels.',
    ),
  maxPixels: z
    .int()
    .positive()
    .default(100_000_000)
    .describe('Largest image, width × height. Checked in the header, before memory is allocated.'),
  maxBytes: z
    .int()
    .positive()
    .default(512 * 1024 * 1024)
    .describe('Largest file in bytes; for deflated DICOM files, the inflated size.'),
  voi: z
    .union([
      z.enum(['auto', 'none']),
      z.strictObject({
        center: z.number().describe('Center of the window, in values of the modality.'),
        width: z.number().positive().describe('Width of the window.'),
      }),
      z.strictObject({
        index: z.int().nonnegative().describe('Index of the VOI LUT or window in the file, from 0.'),
      }),
    ])
    .default('auto')
    .describe(
      'Which grey levels of a DICOM image are shown. `auto`: the first VOI LUT, else the first window of the file, else the range of the data. `none`: the range of the data.',
    ),
  frames: z
    .union([z.enum(['all', 'first', 'middle']), z.int().positive()])
    .default('first')
    .describe(
      'The frame of a multi-frame DICOM file; numbers count from 1. `all`: each frame is a film of its own, ' +
        '`ct.dcm#3of12`; for sources of local files.',
    ),
  attributes: z
    .array(attribute)
    .default([...USUAL])
    .describe('DICOM attributes that are passed on as `meta.dicom`, by keyword.'),
  deidentify: z
    .union([
      z.enum(['basic', 'none']),
      z.strictObject({
        keep: z
          .array(attribute)
          .describe('Attributes that are passed on although they may identify a patient.'),
      }),
    ])
    .default('basic')
    .describe(
      'Restricts `attributes`. `basic`: nothing that the basic profile of DICOM PS3.15 removes; UIDs are ' +
        'mapped to others by a keyed hash, whose key is in the state folder. `none`: all of them unchanged. `{ keep: [...] }`: ' +
        'as `basic`, except for these.',
    ),
});
export type DecodeOptions = z.output<typeof options>;
/** Options for some formats only. */
export type DecodeSettings = Pick<DecodeOptions, 'color'> & DicomOptions;

export default defineStage({
  name: 'decode',
  summary: 'Decodes PNG, JPEG, TIFF, WebP, GIF, BMP and DICOM files; the format is found from the content.',
  options,
  examples: [
    { title: 'As it is', with: {} },
    { title: 'Keep colour', with: { color: 'keep' } },
    { title: 'With the age of the patient', with: { deidentify: { keep: ['PatientAge'] } } },
  ],
  limits: ['maxPixels', 'maxBytes', 'attributes', 'deidentify'],
  retainsNothing: true,
  imageCounter: (settings) => (settings.frames === 'all' ? (path) => countFrames(path, settings) : undefined),
  create: (settings, { stateDir }) => {
    const wanted = { ...settings, mapUid: uidMap(stateDir) };
    return {
      async process({ encoded, ...frame }) {
        if (encoded === undefined) {
          if (frame.image !== undefined)
            throw new Error('the image is decoded already: one `decode` is enough');
          throw new Error('there is no file to decode: put `decode` directly after a source');
        }
        const part = settings.frames === 'all' ? partOf(frame.origin) : undefined;
        const { image, meta } = await decode(
          encoded,
          part === undefined ? wanted : { ...wanted, frames: part.number },
        );
        return { ...frame, image, meta: { ...frame.meta, ...meta } };
      },
    };
  },
});

/**
 * The first image in a file. 8-bit files give `Uint8Array`, deeper ones `Uint16Array`; orientation is applied;
 * transparency becomes black; for DICOM, the window is applied and MONOCHROME1 inverted, so that bone is always bright.
 *
 * Throws {@link RxrayError} FRAME_EMPTY, FRAME_NOT_AN_IMAGE, FRAME_DAMAGED, FRAME_TOO_LARGE or FRAME_UNSUPPORTED.
 * `meta`: `format, width, height, bits, pages?, warnings?`, and for DICOM `modality?, photometricInterpretation,
 * transferSyntax, viewPosition?, pixelSpacing?, burnedInAnnotation?, dicom?`.
 */
export async function decode(encoded: Uint8Array, settings: DecodeSettings): Promise<Decoded> {
  if (encoded.byteLength === 0) throw new RxrayError('FRAME_EMPTY', 'the file is empty');
  if (encoded.byteLength > settings.maxBytes) {
    throw new RxrayError(
      'FRAME_TOO_LARGE',
      `the file has ${encoded.byteLength} bytes, more than the ${settings.maxBytes} that \`maxBytes\` allows`,
    );
  }
  // A view without a copy, also of a shared buffer.
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

/** Maximum share of pixels with the same grey level; a collimated film on black has less. */
const FLAT = 0.99;

/** Whether more than {@link FLAT} of the samples have the same level; a sample of up to 4096 is checked first. */
function isFlat({ data }: Image): boolean {
  // Six standard deviations of the share in a sample of that size.
  const step = Math.ceil(data.length / 4096);
  return largestShare(data, step) > FLAT - 0.01 && largestShare(data, 1) > FLAT;
}

/** The share of one level among every `step`-th sample, if it is more than half. */
function largestShare(data: Image['data'], step: number): number {
  let level: number | undefined;
  let votes = 0;
  for (let i = 0; i < data.length; i += step) {
    if (votes === 0) level = data[i];
    votes += data[i] === level ? 1 : -1;
  }
  let same = 0;
  for (let i = 0; i < data.length; i += step) if (data[i] === level) same++;
  return same / Math.ceil(data.length / step);
}

/** By the file's first bytes, not by its name. */
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
  const other = otherFormat(bytes);
  throw new RxrayError(
    'FRAME_NOT_AN_IMAGE',
    `the file is none of PNG, JPEG, TIFF, WebP, GIF, BMP and DICOM, ${other === undefined ? 'whatever its name says' : `it is ${other}`}`,
  );
}
