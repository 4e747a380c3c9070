import { inflateRawSync } from 'node:zlib';
import { messageOf } from '../../../core/errors.js';
import { checkSize, type Limits } from '../decoder.js';
import { decodeRaster } from '../raster.js';
import { type Codec, uncode } from './codec.js';
import { type DataSet, type Element, PIXEL_DATA } from '../../../dicom/data-set.js';
import { damaged, unsupported } from '../../../dicom/failures.js';
import { frameStream } from './fragments.js';
import { type JpegHeader, jpegHeader, plainJpeg } from './jpeg.js';
import type { DicomFile } from '../../../dicom/parse.js';
import { BIG_ENDIAN, type Coding, describeSyntax, GE_PRIVATE, SYNTAXES } from '../../../dicom/syntaxes.js';
import { interleave, type Photometric, photometricOf, upsample422 } from './photometric.js';

/** The samples of one frame as they are stored, before any table or window. */
export interface Stored {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** Words as in the file: samples are `stored` bits, the highest being `highBit`. Channels last. */
  readonly data: Uint8Array | Uint16Array;
  readonly stored: number;
  readonly highBit: number;
  readonly signed: boolean;
  /** How to look at them, after decompression. */
  readonly photometric: Photometric;
}

/** What the header says about the pixels (PS3.3, C.7.6.3). */
export interface PixelFormat {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly allocated: 1 | 8 | 16;
  readonly stored: number;
  readonly highBit: number;
  readonly signed: boolean;
  readonly planar: boolean;
  readonly photometric: Photometric;
  readonly frames: number;
}

type Words = Pick<Stored, 'channels' | 'data'> & Partial<Pick<Stored, 'highBit' | 'photometric'>>;

/**
 * Reads the header and decodes one frame, counted from 0.
 *
 * Throws FRAME_DAMAGED, FRAME_UNSUPPORTED or FRAME_TOO_LARGE; nothing is allocated before the size is checked.
 */
export async function readStored(
  file: DicomFile,
  format: PixelFormat,
  frame: number,
  limits: Limits,
  warnings: string[],
): Promise<Stored> {
  const { dataSet, syntax } = file;
  const element = dataSet.elements.get(PIXEL_DATA);
  if (element === undefined) throw damaged('its pixels are missing');
  const known = SYNTAXES.get(syntax);
  const encapsulated = element.undefinedLength;
  const raw = !encapsulated && (known === undefined || known.coding === 'native');
  if (!raw && known?.coding === undefined) {
    throw unsupported(`has the transfer syntax ${describeSyntax(syntax)}, which is not supported`);
  }
  const { width, height, stored, highBit, signed, photometric } = format;
  const words = raw
    ? native(dataSet, element, format, frame, syntax)
    : await compressed(
        frameStream(dataSet, element, frame, format.frames, warnings),
        known?.coding ?? 'native',
        {
          format,
          limits,
          warnings,
        },
      );
  return { width, height, stored, highBit, signed, photometric, ...words };
}

/** The header's pixel module, checked. Throws FRAME_DAMAGED or FRAME_UNSUPPORTED. */
export function readFormat({ dataSet }: DicomFile, limits: Limits, warnings: string[]): PixelFormat {
  const required = (tag: number, name: string): number => {
    const value = dataSet.uint16(tag);
    if (value === undefined || value === 0) throw damaged(`${name} is missing`);
    return value;
  };
  const width = required(0x00280011, 'Columns');
  const height = required(0x00280010, 'Rows');
  checkSize(width, height, limits);
  const channels = dataSet.uint16(0x00280002) ?? 1;
  const allocated = required(0x00280100, 'BitsAllocated');
  const stored = dataSet.uint16(0x00280101) ?? allocated;
  const highBit = dataSet.uint16(0x00280102) ?? stored - 1;
  if (allocated !== 1 && allocated !== 8 && allocated !== 16) {
    throw unsupported(`allocates ${allocated} bits a sample, which is not supported (1, 8 and 16 are)`);
  }
  if (stored < 1 || stored > allocated || highBit >= allocated || highBit < stored - 1) {
    throw damaged(`it stores ${stored} of ${allocated} bits, the highest being bit ${highBit}`);
  }
  const photometric = photometricOf(dataSet.string(0x00280004), channels, warnings);
  const frames = Number(dataSet.string(0x00280008) ?? 1);
  if (!Number.isSafeInteger(frames) || frames < 1)
    warnings.push('NumberOfFrames is no count and was ignored');
  return {
    width,
    height,
    channels: channels === 3 ? 3 : 1,
    allocated,
    stored,
    highBit,
    signed: dataSet.uint16(0x00280103) === 1,
    planar: channels === 3 && dataSet.uint16(0x00280006) === 1,
    photometric,
    frames: Number.isSafeInteger(frames) && frames > 0 ? frames : 1,
  };
}

// ── not compressed ────────────────────────────────────────────────────────────────────────────────

function native(
  dataSet: DataSet,
  element: Element,
  format: PixelFormat,
  frame: number,
  syntax: string,
): Words {
  const there = dataSet.bytes.length - element.offset;
  if (element.length > there) {
    throw damaged(`its pixels have ${element.length} bytes, but only ${there} are left`);
  }
  const bytes = dataSet.bytes.subarray(element.offset, element.offset + element.length);
  const swapped = syntax === BIG_ENDIAN || syntax === GE_PRIVATE;
  const words = swapped && (format.allocated === 16 || element.vr === 'OW');
  return samplesOf(bytes, format, frame, words);
}

/** Samples of frame `frame` out of `bytes`, byte order and plane order put right. */
function samplesOf(bytes: Buffer, format: PixelFormat, frame: number, swapped: boolean): Words {
  const { width, height, channels, allocated } = format;
  const subsampled = format.photometric.endsWith('422') && channels === 3;
  const count = subsampled ? Math.ceil(width / 2) * 4 * height : width * height * channels;
  const bits = count * allocated;
  const start = Math.floor((frame * bits) / 8);
  const length = Math.ceil(bits / 8);
  // Some writers declare chroma subsampling, and write all samples.
  const complete = subsampled && bytes.length >= width * height * 3 * format.frames;
  if (complete) return samplesOf(bytes, { ...format, photometric: 'YBR_FULL' }, frame, swapped);
  if (bytes.length < start + length) {
    throw damaged(
      `frame ${frame + 1} of ${width} × ${height} pixels needs ${length} bytes, there are ${Math.max(0, bytes.length - start)}`,
    );
  }
  if (allocated === 1) {
    const first = frame * bits;
    const data = Uint8Array.from({ length: count }, (_, i) => {
      const bit = first + i;
      return ((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1;
    });
    return { channels, data };
  }
  // A copy, so that it is aligned and may be swapped; even in length, as words are.
  const copy = Buffer.alloc(length + (length % 2));
  copy.set(bytes.subarray(start, Math.min(bytes.length, start + copy.length)));
  if (swapped) copy.swap16();
  const data =
    allocated === 16
      ? new Uint16Array(copy.buffer, copy.byteOffset, count)
      : new Uint8Array(copy.buffer, copy.byteOffset, count);
  if (subsampled) return { channels, data: upsample422(data, width, height) };
  return { channels, data: format.planar ? interleave(data) : data };
}

// ── compressed ────────────────────────────────────────────────────────────────────────────────────

interface Decompression {
  readonly format: PixelFormat;
  readonly limits: Limits;
  readonly warnings: string[];
}

/** One frame by its codec: the stream's own first bytes count where they contradict the transfer syntax. */
async function compressed(stream: Buffer, declared: Coding, context: Decompression): Promise<Words> {
  const coding = codingOf(stream, declared);
  if (coding !== declared && !(coding === 'jpeg-2000' && declared === 'htj2k')) {
    context.warnings.push('its pixels are not compressed as the transfer syntax says');
  }
  switch (coding) {
    case 'native':
      return samplesOf(stream, context.format, 0, false);
    case 'deflated-frames':
      return samplesOf(inflateFrame(stream, context.format), context.format, 0, false);
    case 'jpeg':
      return jpeg(stream, context);
    case 'jpeg-2000':
    case 'htj2k':
      return jpeg2000(stream, context);
    case 'rle':
      return byCodec('DecodeRle', stream, context);
    case 'jpeg-ls':
      return byCodec('DecodeJpegLs', stream, context, jpegHeader(stream).precision);
    case 'jpeg-xl':
      return byCodec('DecodeJpegXl', stream, context);
  }
}

function codingOf(stream: Buffer, declared: Coding): Coding {
  const start = stream.toString('latin1', 0, 12);
  if (start.startsWith('\xff\x4f\xff\x51') || start.startsWith('\0\0\0\x0cjP')) return 'jpeg-2000';
  if (!start.startsWith('\xff\xd8\xff')) return declared;
  return jpegHeader(stream).kind === 'jpeg-ls' ? 'jpeg-ls' : 'jpeg';
}

function inflateFrame(stream: Buffer, { width, height, channels, allocated }: PixelFormat): Buffer {
  try {
    return inflateRawSync(stream, { maxOutputLength: (width * height * channels * allocated) / 8 + 2 });
  } catch (cause) {
    throw damaged(messageOf(cause), cause);
  }
}

/**
 * JPEG: 8-bit lossy streams by libjpeg-turbo, deeper and lossless ones by the codec. Colours are YCbCr or RGB as
 * the stream's own markers say, else as the photometric interpretation does.
 */
async function jpeg(stream: Buffer, context: Decompression): Promise<Words> {
  const header = jpegHeader(stream);
  checkHeader(header, context.format);
  if (header.kind === 'arithmetic' || header.kind === 'hierarchical') {
    throw unsupported(`has ${header.kind} JPEG, which is not supported`);
  }
  if (header.kind === 'lossless' || header.precision > 8) {
    return byCodec('DecodeJpeg', stream, context, header.precision);
  }
  const { photometric, channels } = context.format;
  const coloursAre = header.coloursAre ?? (photometric === 'RGB' ? 'RGB' : 'YCbCr');
  const { image } = await decodeRaster(plainJpeg(stream, coloursAre), context.limits);
  if (image.channels !== channels || !(image.data instanceof Uint8Array)) {
    throw damaged(`its header says ${channels} channels, its JPEG has ${image.channels}`);
  }
  const highBit = context.format.stored - 1;
  return { channels, data: image.data, highBit, ...(channels === 3 && { photometric: 'RGB' }) };
}

/** JPEG 2000 and HTJ2K; the codec undoes the stream's own colour transform. */
async function jpeg2000(stream: Buffer, context: Decompression): Promise<Words> {
  const at = stream.indexOf('\xff\x4f\xff\x51', 0, 'latin1');
  if (at < 0) throw damaged('its JPEG 2000 stream has no header');
  const { transformed, highThroughput, precision } = jpeg2000Header(stream, at);
  const codec = highThroughput ? 'DecodeHtJpeg2000' : 'DecodeJpeg2000';
  const words = await byCodec(codec, stream.subarray(at), context, precision);
  return { ...words, ...(transformed && words.channels === 3 && { photometric: 'RGB' }) };
}

/** Of the main header (ITU-T T.800, A.5 and A.6): the component transform, precision, and whether it is HTJ2K (T.814). */
function jpeg2000Header(
  stream: Buffer,
  at: number,
): { transformed: boolean; highThroughput: boolean; precision: number } {
  let [transformed, highThroughput] = [false, false];
  const precision = ((stream[at + 42] ?? 0) & 0x7f) + 1;
  for (let position = at + 2; position + 4 <= stream.length;) {
    const marker = stream.readUInt16BE(position);
    if (marker === 0xff90) break;
    if (marker === 0xff50) highThroughput = true;
    if (marker === 0xff52) transformed = stream[position + 8] === 1;
    position += 2 + stream.readUInt16BE(position + 2);
  }
  return { transformed, highThroughput, precision };
}

/** Streams of no more than the stored bits have them at the bottom of their words; deeper ones have whole words. */
async function byCodec(
  codec: Codec,
  stream: Buffer,
  { format }: Decompression,
  precision: number = format.allocated,
): Promise<Words> {
  const { width, height, channels, stored, signed } = format;
  const allocated = format.allocated === 16 ? 16 : 8;
  const uncoded = await uncode(codec, stream, { width, height, channels, allocated, stored, signed });
  const { data } = uncoded;
  const count = width * height * channels;
  if (
    uncoded.width !== width ||
    uncoded.height !== height ||
    uncoded.channels !== channels ||
    (data.length !== count && data.length !== 2 * count)
  ) {
    throw damaged(
      `its header says ${width} × ${height} × ${channels}, its pixels are ${uncoded.width} × ${uncoded.height} × ${uncoded.channels} in ${data.length} bytes`,
    );
  }
  const samples =
    data.length === count
      ? new Uint8Array(data.buffer, data.byteOffset, count)
      : new Uint16Array(data.buffer, data.byteOffset, count);
  return {
    channels,
    data: uncoded.planar && channels === 3 ? interleave(samples) : samples,
    ...(precision <= stored && { highBit: stored - 1 }),
  };
}

function checkHeader({ width, height, components }: JpegHeader, format: PixelFormat): void {
  if (width !== format.width || height !== format.height || components !== format.channels) {
    throw damaged(
      `its header says ${format.width} × ${format.height} × ${format.channels}, its JPEG is ${width} × ${height} × ${components}`,
    );
  }
}
