import { inflateRawSync } from 'node:zlib';
import { messageOf } from '../../../core/errors.js';
import { checkSize, type Limits } from '../decoder.js';
import { decodeRaster } from '../raster.js';
import { uncode } from './codec.js';
import { type DataSet, type Element, PIXEL_DATA } from '../../../dicom/data-set.js';
import { damaged, unsupported } from '../../../dicom/failures.js';
import { frameStream } from './fragments.js';
import { type JpegHeader, jpegHeader, plainJpeg } from './jpeg.js';
import { type DicomFile, warnOfAnother } from '../../../dicom/parse.js';
import { type Coding, describeSyntax, GE_PRIVATE, SYNTAXES } from '../../../dicom/syntaxes.js';
import type { Codec } from './codec-thread.js';
import { decodeRle } from './rle.js';
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
  /** The photometric interpretation after decompression. */
  readonly photometric: Photometric;
}

/** The header's description of the pixels (PS3.3, C.7.6.3). */
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
    ? native(dataSet, element, format, frame, syntax, warnings)
    : await compressed(
        frameStream(dataSet, element, frame, format.frames, warnings),
        known?.coding ?? 'native',
        { format, limits, warnings, isLossy: known?.name.includes('Lossless') !== true },
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
    throw unsupported(`allocates ${allocated} bits per sample, which is not supported (1, 8 and 16 are)`);
  }
  if (stored < 1 || stored > allocated || highBit >= allocated || highBit < stored - 1) {
    throw damaged(`it stores ${stored} of ${allocated} bits, the highest being bit ${highBit}`);
  }
  const photometric = photometricOf(dataSet.string(0x00280004), channels, warnings);
  const frames = Number(dataSet.string(0x00280008) ?? 1);
  if (!Number.isSafeInteger(frames) || frames < 1)
    warnings.push('NumberOfFrames is not a valid number and was ignored');
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
  warnings: string[],
): Words {
  const there = dataSet.bytes.length - element.offset;
  if (element.length > there) {
    throw damaged(`its pixels have ${element.length} bytes, but only ${there} are left`);
  }
  warnOfAnother(dataSet.bytes, element.offset + element.length, warnings);
  const bytes = dataSet.bytes.subarray(element.offset, element.offset + element.length);
  // The byte order is that of the header's elements: what the transfer syntax says may be wrong.
  const swapped = !dataSet.encoding.littleEndian || syntax === GE_PRIVATE;
  const words = swapped && (format.allocated === 16 || element.vr === 'OW');
  const samples = samplesOf(bytes, format, frame, words);
  const needed = Math.ceil((samplesIn(format, bytes) * format.allocated * format.frames) / 8);
  // A padding byte may make the length even.
  if (bytes.length < needed || bytes.length > needed + 1)
    warnings.push(`it has ${bytes.length} bytes of pixels, by its header there should be ${needed}`);
  return samples;
}

/** How many samples a frame has in the file. Some writers declare chroma subsampling, and write all samples. */
function samplesIn(
  { width, height, channels, allocated, photometric, frames }: PixelFormat,
  bytes: Buffer,
): number {
  const all = width * height * channels;
  const isSubsampled =
    channels === 3 && photometric.endsWith('422') && bytes.length < (all * frames * allocated) / 8;
  return isSubsampled ? Math.ceil(width / 2) * 4 * height : all;
}

/** Samples of frame `frame` in `bytes`, with byte order and plane order converted. */
function samplesOf(bytes: Buffer, format: PixelFormat, frame: number, swapped: boolean): Words {
  const { width, height, channels, allocated } = format;
  const count = samplesIn(format, bytes);
  const bits = count * allocated;
  const start = Math.floor((frame * bits) / 8);
  const length = Math.ceil(bits / 8);
  if (bytes.length < start + length) {
    throw damaged(
      `frame ${frame + 1} of ${width} × ${height} pixels needs ${length} bytes, there are ${Math.max(0, bytes.length - start)}`,
    );
  }
  if (allocated === 1) {
    const data = new Uint8Array(count);
    for (let i = 0, bit = frame * bits; i < count; i++, bit++) {
      data[i] = ((bytes[Math.floor(bit / 8)] ?? 0) >> (bit % 8)) & 1;
    }
    return { channels, data };
  }
  if (!swapped && channels === 1 && (allocated === 8 || (bytes.byteOffset + start) % 2 === 0)) {
    const at = bytes.byteOffset + start;
    const data =
      allocated === 16 ? new Uint16Array(bytes.buffer, at, count) : new Uint8Array(bytes.buffer, at, count);
    return { channels, data };
  }
  // A copy, so that it is aligned and may be swapped; of even length for words.
  const copy = Buffer.alloc(length + (length % 2));
  copy.set(bytes.subarray(start, Math.min(bytes.length, start + copy.length)));
  if (swapped) copy.swap16();
  const data =
    allocated === 16
      ? new Uint16Array(copy.buffer, copy.byteOffset, count)
      : new Uint8Array(copy.buffer, copy.byteOffset, count);
  if (count < width * height * channels) return { channels, data: upsample422(data, width, height) };
  return { channels, data: format.planar ? interleave(data) : data };
}

// ── compressed ────────────────────────────────────────────────────────────────────────────────────

interface Decompression {
  /** Whether the transfer syntax is lossy. */
  readonly isLossy: boolean;
  readonly format: PixelFormat;
  readonly limits: Limits;
  readonly warnings: string[];
}

/** One frame by its codec. If the stream's first bytes contradict the transfer syntax, they decide. */
async function compressed(stream: Buffer, declared: Coding, context: Decompression): Promise<Words> {
  const coding = codingOf(stream, declared);
  if (coding !== declared && !(coding === 'jpeg-2000' && declared === 'htj2k')) {
    context.warnings.push('its pixels are not compressed as the transfer syntax says');
  }
  switch (coding) {
    case 'native':
      return samplesOf(stream, { ...context.format, frames: 1 }, 0, false);
    case 'deflated-frames':
      return samplesOf(inflateFrame(stream, context.format), { ...context.format, frames: 1 }, 0, false);
    case 'jpeg':
      return jpeg(stream, context);
    case 'jpeg-2000':
    case 'htj2k':
      return jpeg2000(stream, context);
    case 'rle':
      return { channels: context.format.channels, data: decodeRle(stream, context.format) };
    case 'jpeg-ls': {
      const header = jpegHeader(stream);
      checkHeader(header, context.format);
      // CharLS may search for a missing end marker for minutes.
      if (!stream.includes(Buffer.of(0xff, 0xd9))) throw damaged('its JPEG-LS stream ends too early');
      return byCodec('DecodeJpegLs', stream, context, header.precision);
    }
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
    const most = Math.ceil((width * height * channels * allocated) / 8) + 2;
    return inflateRawSync(stream, { maxOutputLength: most });
  } catch (cause) {
    throw damaged(messageOf(cause), cause);
  }
}

/**
 * JPEG: 8-bit lossy streams by libjpeg-turbo, deeper and lossless ones by the codec. Colours are YCbCr or RGB by the
 * stream's markers, else by the photometric interpretation.
 */
async function jpeg(stream: Buffer, context: Decompression): Promise<Words> {
  const header = jpegHeader(stream);
  checkHeader(header, context.format);
  if (header.kind === 'arithmetic' || header.kind === 'hierarchical') {
    throw unsupported(`has ${header.kind} JPEG, which is not supported`);
  }
  const { photometric, channels } = context.format;
  const coloursAre = header.coloursAre ?? (photometric === 'RGB' ? 'RGB' : 'YCbCr');
  if (header.kind === 'lossless') return byCodec('DecodeJpeg', stream, context, header.precision);
  if (header.precision > 8) {
    const words = await byCodec('DecodeJpeg', stream, context, header.precision);
    return { ...words, ...(channels === 3 && { photometric: coloursAre === 'RGB' ? 'RGB' : 'YBR_FULL' }) };
  }
  const { image } = await decodeRaster(
    plainJpeg(stream, channels === 1 ? 'grey' : coloursAre),
    context.limits,
  );
  if (image.channels !== channels || !(image.data instanceof Uint8Array)) {
    throw damaged(`its header says ${channels} channels, its JPEG has ${image.channels}`);
  }
  const highBit = context.format.stored - 1;
  return { channels, data: image.data, highBit, ...(channels === 3 && { photometric: 'RGB' }) };
}

/** JPEG 2000 and HTJ2K; the codec undoes the stream's own colour transform. */
async function jpeg2000(stream: Buffer, context: Decompression): Promise<Words> {
  const at = stream.indexOf('\xff\x4f\xff\x51', 0, 'latin1');
  if (at < 0 || stream.length < at + 45) throw damaged('its JPEG 2000 stream has no header');
  const header = jpeg2000Header(stream, at);
  checkHeader(header, context.format);
  const { transformed, highThroughput, precision } = header;
  const codec = highThroughput ? 'DecodeHtJpeg2000' : 'DecodeJpeg2000';
  const words = await byCodec(codec, stream.subarray(at), context, precision);
  // Lossy compression may push values beyond their range, into bits that are not stored.
  if (context.isLossy) clip(words.data, context.format);
  else if (!fits(words.data, context.format))
    context.warnings.push(
      'its compressed samples have more bits than its header says; those above were ignored',
    );
  return { ...words, ...(transformed && words.channels === 3 && { photometric: 'RGB' }) };
}

/** Of the main header (ITU-T T.800, A.5 and A.6): sizes, the component transform, and whether it is HTJ2K (T.814). */
function jpeg2000Header(
  stream: Buffer,
  at: number,
): Frame & { transformed: boolean; highThroughput: boolean; precision: number } {
  let [transformed, highThroughput] = [false, false];
  const field = (offset: number): number => stream.readUInt32BE(at + offset);
  const [width, height] = [field(8) - field(16), field(12) - field(20)];
  const components = stream.readUInt16BE(at + 40);
  const precision = ((stream[at + 42] ?? 0) & 0x7f) + 1;
  let position = at + 2;
  while (position + 4 <= stream.length) {
    const marker = stream.readUInt16BE(position);
    if (marker === START_OF_TILE) break;
    if (marker === 0xff50) highThroughput = true;
    if (marker === 0xff52) transformed = stream[position + 8] === 1;
    position += 2 + stream.readUInt16BE(position + 2);
  }
  const tiles =
    Math.ceil((field(8) - field(32)) / field(24)) * Math.ceil((field(12) - field(36)) / field(28));
  checkTiles(stream, position, tiles);
  return { width, height, components, transformed, highThroughput, precision };
}

const START_OF_TILE = 0xff90;
const END_OF_STREAM = 0xffd9;

/** Whether all tiles are complete (T.800, A.4.2): decoders accept truncated streams. */
function checkTiles(stream: Buffer, first: number, tiles: number): void {
  const seen = new Set<number>();
  let position = first;
  while (position + 12 <= stream.length && stream.readUInt16BE(position) === START_OF_TILE) {
    seen.add(stream.readUInt16BE(position + 4));
    const length = stream.readUInt32BE(position + 6);
    // The last one may extend to the end of the stream.
    const end = length === 0 ? stream.lastIndexOf(Buffer.of(0xff, END_OF_STREAM & 0xff)) : position + length;
    if (end < position + 12 || end > stream.length) throw damaged('its JPEG 2000 stream ends in a tile');
    position = end;
  }
  if (seen.size < tiles) throw damaged(`its JPEG 2000 stream has ${seen.size} of ${tiles} tiles`);
}

/** Streams with at most the stored bits have them in the low bits of words; deeper ones use whole words. */
async function byCodec(
  codec: Codec,
  stream: Buffer,
  { format }: Decompression,
  precision?: number,
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
    ...(precision !== undefined && precision <= stored && { highBit: stored - 1 }),
  };
}

/** Whether the bits above the highest stored one are those of the sign, or none. */
function fits(samples: Uint8Array | Uint16Array, { highBit, signed }: PixelFormat): boolean {
  const above = (2 ** (8 * samples.BYTES_PER_ELEMENT) - 1) & ~(2 ** (highBit + 1) - 1);
  if ((bitsOf(samples) & above) === 0) return true;
  if (!signed) return false;
  const sign = 1 << highBit;
  // eslint-disable-next-line @typescript-eslint/prefer-for-of -- iterating takes three times as long
  for (let i = 0; i < samples.length; i++) {
    const sample = samples[i] ?? 0;
    const rest = sample & above;
    if (rest !== 0 && (rest !== above || (sample & sign) === 0)) return false;
  }
  return true;
}

/** The bits that occur in any sample. */
function bitsOf(samples: Uint8Array | Uint16Array): number {
  const each = samples.BYTES_PER_ELEMENT;
  let bits = 0;
  let done = 0;
  // Four bytes at once where they are aligned.
  if (samples.byteOffset % 4 === 0) {
    const words = new Uint32Array(samples.buffer, samples.byteOffset, Math.floor(samples.byteLength / 4));
    // eslint-disable-next-line @typescript-eslint/prefer-for-of -- iterating takes three times as long
    for (let i = 0; i < words.length; i++) bits |= words[i] ?? 0;
    bits |= bits >>> 16;
    if (each === 1) bits |= bits >>> 8;
    done = words.length * (4 / each);
  }
  for (let i = done; i < samples.length; i++) bits |= samples[i] ?? 0;
  return bits & (2 ** (8 * each) - 1);
}

/** To the range of the stored bits; samples are as wide as their type. */
function clip(samples: Uint8Array | Uint16Array, { stored, signed }: PixelFormat): void {
  if (!signed && bitsOf(samples) < 2 ** stored) return;
  const span = 2 ** (8 * samples.BYTES_PER_ELEMENT);
  const [low, high] = signed ? [-(2 ** (stored - 1)), 2 ** (stored - 1) - 1] : [0, 2 ** stored - 1];
  for (let i = 0; i < samples.length; i++) {
    const sample = samples[i] ?? 0;
    const value = signed && sample >= span / 2 ? sample - span : sample;
    if (value < low) samples[i] = low;
    else if (value > high) samples[i] = high;
  }
}

/** The size that a stream declares. */
type Frame = Pick<JpegHeader, 'width' | 'height' | 'components'>;

/** Checks a stream's size before a codec allocates memory for it. */
function checkHeader({ width, height, components }: Frame, format: PixelFormat): void {
  if (width !== format.width || height !== format.height || components !== format.channels) {
    throw damaged(
      `its header says ${format.width} × ${format.height} × ${format.channels}, its stream is ${width} × ${height} × ${components}`,
    );
  }
}
