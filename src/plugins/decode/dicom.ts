import { inflateRawSync } from 'node:zlib';
import type { DataSet, Element } from 'dicom-parser';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Image } from '../../core/frame.js';
import { checkSize, type Decoded, type Limits } from './decoder.js';
import { decodeRaster } from './raster.js';

type Parser = typeof import('dicom-parser');

/** The transfer syntaxes that can be decoded, and the names of those that cannot (PS3.6, table A-1). */
const DEFLATED = '1.2.840.10008.1.2.1.99';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';
const JPEG_BASELINE = '1.2.840.10008.1.2.4.50';
const NATIVE = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', DEFLATED, BIG_ENDIAN];
const UNSUPPORTED: Readonly<Record<string, string>> = {
  '1.2.840.10008.1.2.4.51': 'JPEG Extended, 12 bit',
  '1.2.840.10008.1.2.4.57': 'JPEG Lossless',
  '1.2.840.10008.1.2.4.70': 'JPEG Lossless, SV1',
  '1.2.840.10008.1.2.4.80': 'JPEG-LS Lossless',
  '1.2.840.10008.1.2.4.81': 'JPEG-LS Near-Lossless',
  '1.2.840.10008.1.2.4.90': 'JPEG 2000 Lossless',
  '1.2.840.10008.1.2.4.91': 'JPEG 2000',
  '1.2.840.10008.1.2.4.201': 'High-Throughput JPEG 2000 Lossless',
  '1.2.840.10008.1.2.4.202': 'High-Throughput JPEG 2000 RPCL Lossless',
  '1.2.840.10008.1.2.4.203': 'High-Throughput JPEG 2000',
  '1.2.840.10008.1.2.5': 'RLE Lossless',
};

/**
 * The first frame of a DICOM file, as a viewer shows it: modality LUT or rescale → VOI LUT, window, or
 * the range of the data → MONOCHROME1 inverted (PS3.3 C.7.6.3.1.2, C.11.1, C.11.2).
 *
 * More than 8 stored bits give 16-bit samples, in which the window spans 0–65535. 8-bit images without
 * a window are taken as they are. Of several windows the first counts; a VOI LUT goes before windows.
 */
export async function decodeDicom(bytes: Buffer, limits: Limits): Promise<Decoded> {
  const { default: parser } = await import('dicom-parser');
  const dataSet = parse(parser, bytes, limits);
  const transferSyntax = dataSet.string('x00020010') ?? '1.2.840.10008.1.2';
  const photometric = dataSet.string('x00280004') ?? 'MONOCHROME2';
  const element = dataSet.elements.x7fe00010;
  if (element === undefined) throw unsupported('has no integer pixels (a report, or floating-point data)');
  const width = required(dataSet, 'x00280011', 'Columns');
  const height = required(dataSet, 'x00280010', 'Rows');
  checkSize(width, height, limits);
  const pages = dataSet.intString('x00280008') ?? 1;
  const format: PixelFormat = {
    width,
    height,
    channels: dataSet.uint16('x00280002') === 3 ? 3 : 1,
    allocated: required(dataSet, 'x00280100', 'BitsAllocated'),
    stored: dataSet.uint16('x00280101') ?? required(dataSet, 'x00280100', 'BitsAllocated'),
    highBit: dataSet.uint16('x00280102') ?? (dataSet.uint16('x00280101') ?? 8) - 1,
    signed: dataSet.uint16('x00280103') === 1,
  };
  checkFormat(format, photometric, transferSyntax);

  let stored: Image;
  if (transferSyntax === JPEG_BASELINE) {
    stored = await jpeg(parser, dataSet, element, pages, format, limits);
  } else if (NATIVE.includes(transferSyntax)) {
    stored = native(dataSet, element, format, transferSyntax === BIG_ENDIAN);
  } else {
    const name = UNSUPPORTED[transferSyntax] ?? 'not known here';
    throw unsupported(`has the transfer syntax ${transferSyntax} (${name}), which is not supported`);
  }

  const spacing = [0, 1].map(
    (i) => dataSet.floatString('x00280030', i) ?? dataSet.floatString('x00181164', i),
  );
  const modality = dataSet.string('x00080060');
  const viewPosition = dataSet.string('x00185101');
  const meta = {
    format: 'dicom',
    width,
    height,
    bits: format.stored,
    photometricInterpretation: photometric,
    transferSyntax,
    ...(pages > 1 && { pages }),
    ...(modality !== undefined && { modality }),
    ...(viewPosition !== undefined && { viewPosition }),
    ...(spacing.every((mm) => mm !== undefined) && { pixelSpacing: spacing }),
  };
  if (stored.channels === 3) return { image: stored, meta };
  return { image: render(stored, dataSet, format, photometric === 'MONOCHROME1'), meta };
}

// ── reading ───────────────────────────────────────────────────────────────────────────────────────

/** How samples lie in the file (PS3.5, 8.1.1). */
interface PixelFormat {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly allocated: number;
  readonly stored: number;
  readonly highBit: number;
  readonly signed: boolean;
}

function parse(parser: Parser, bytes: Buffer, { maxBytes }: Limits): DataSet {
  try {
    return parser.parseDicom(bytes, {
      inflater: (file, position) =>
        Buffer.concat([
          file.subarray(0, position),
          inflateRawSync(file.subarray(position), { maxOutputLength: maxBytes }),
        ]),
    });
  } catch (cause) {
    if (cause instanceof RangeError && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE') {
      throw new RxrayError(
        'FRAME_TOO_LARGE',
        `the deflated DICOM file unpacks to more than the ${maxBytes} bytes that \`maxBytes\` allows`,
        { cause },
      );
    }
    throw damaged(messageOf(cause), cause);
  }
}

function checkFormat(format: PixelFormat, photometric: string, transferSyntax: string): void {
  const { channels, allocated, stored, highBit } = format;
  if (allocated !== 8 && allocated !== 16)
    throw unsupported(`allocates ${allocated} bits a sample, not 8 or 16`);
  if (stored < 1 || stored > allocated || highBit >= allocated || highBit < stored - 1) {
    throw damaged(`it stores ${stored} of ${allocated} bits, the highest being bit ${highBit}`);
  }
  const colours = transferSyntax === JPEG_BASELINE ? ['RGB', 'YBR_FULL', 'YBR_FULL_422'] : ['RGB'];
  const known = channels === 1 ? ['MONOCHROME1', 'MONOCHROME2'] : colours;
  if (!known.includes(photometric) || (channels === 3 && allocated !== 8)) {
    throw unsupported(
      `has the photometric interpretation ${photometric} in ${channels} × ${allocated} bits, which is not supported`,
    );
  }
}

/** Uncompressed samples of the first frame, byte order and plane order put right. */
function native(dataSet: DataSet, element: Element, format: PixelFormat, bigEndian: boolean): Image {
  const { width, height, channels, allocated } = format;
  const count = width * height * channels;
  const length = (count * allocated) / 8;
  const there = Math.min(element.length, dataSet.byteArray.length - element.dataOffset);
  if (there < length) {
    throw damaged(`its ${width} × ${height} pixels need ${length} bytes, there are ${there}`);
  }
  // A copy, so that it is aligned and may be swapped; even in length, as words are.
  const bytes = Buffer.alloc(length + (length % 2));
  bytes.set(dataSet.byteArray.subarray(element.dataOffset, element.dataOffset + length));
  if (bigEndian && (allocated === 16 || element.vr === 'OW')) {
    bytes.set(dataSet.byteArray.subarray(element.dataOffset, element.dataOffset + bytes.length));
    bytes.swap16();
  }
  const data =
    allocated === 16
      ? new Uint16Array(bytes.buffer, bytes.byteOffset, count)
      : new Uint8Array(bytes.buffer, bytes.byteOffset, count);
  if (channels === 1 || dataSet.uint16('x00280006') !== 1) return { width, height, channels, data };
  const plane = width * height;
  const interleaved = data.map((_, i) => data[(i % 3) * plane + Math.floor(i / 3)] ?? 0);
  return { width, height, channels, data: interleaved };
}

/** The first frame of encapsulated JPEG. */
async function jpeg(
  parser: Parser,
  dataSet: DataSet,
  element: Element,
  pages: number,
  { width, height, channels }: PixelFormat,
  limits: Limits,
): Promise<Image> {
  const { fragments, basicOffsetTable } = element;
  if (fragments === undefined || fragments.length === 0) throw damaged('it has no compressed pixels');
  let stream;
  try {
    stream =
      pages > 1 && basicOffsetTable !== undefined && basicOffsetTable.length > 0
        ? parser.readEncapsulatedImageFrame(dataSet, element, 0)
        : parser.readEncapsulatedPixelDataFromFragments(
            dataSet,
            element,
            0,
            pages > 1 ? 1 : fragments.length,
          );
  } catch (cause) {
    throw damaged(messageOf(cause), cause);
  }
  const { image } = await decodeRaster(Buffer.from(stream), limits);
  if (image.width !== width || image.height !== height || image.channels !== channels) {
    throw damaged(
      `its header says ${width} × ${height} × ${channels}, its JPEG is ${image.width} × ${image.height} × ${image.channels}`,
    );
  }
  return image;
}

// ── rendering ─────────────────────────────────────────────────────────────────────────────────────

/** Maps a number to a number; LUTs and windows alike. */
type Curve = (value: number) => number;

/** Stored samples → what is shown, by way of one table over all values that a sample can have. */
function render(
  { width, height, data }: Image,
  dataSet: DataSet,
  format: PixelFormat,
  inverted: boolean,
): Image {
  const { stored, highBit, signed } = format;
  const shift = highBit - stored + 1;
  const mask = 2 ** stored - 1;
  const values = Float64Array.from({ length: 2 ** stored }, (_, bits) =>
    signed && bits >= 2 ** (stored - 1) ? bits - 2 ** stored : bits,
  );
  const modality = modalityCurve(dataSet, signed);
  const used = new Uint8Array(2 ** stored);
  // Bits outside the stored ones may hold overlays.
  const bits = data.map((word) => (word >> shift) & mask);
  for (const value of bits) used[value] = 1;
  const shown = voiCurve(dataSet, signed) ?? fullRange(values, used, modality, stored, signed);

  const white = stored > 8 ? 65535 : 255;
  const table = values.map((value) => {
    const grey = Math.min(1, Math.max(0, shown(modality(value))));
    return Math.floor((inverted ? 1 - grey : grey) * white + 0.5);
  });
  const samples = stored > 8 ? new Uint16Array(bits.length) : new Uint8Array(bits.length);
  for (let i = 0; i < samples.length; i++) samples[i] = table[bits[i] ?? 0] ?? 0;
  return { width, height, channels: 1, data: samples };
}

/** Stored values → the modality's own (PS3.3 C.11.1). */
function modalityCurve(dataSet: DataSet, signed: boolean): Curve {
  const lut = lookupTable(dataSet, 'x00283000', signed);
  if (lut !== undefined) return lut.curve;
  const slope = dataSet.floatString('x00281053') ?? 1;
  const intercept = dataSet.floatString('x00281052') ?? 0;
  return (value) => value * slope + intercept;
}

/** The modality's values → 0–1 (PS3.3 C.11.2), or undefined when the file does not say. */
function voiCurve(dataSet: DataSet, signed: boolean): Curve | undefined {
  const lut = lookupTable(dataSet, 'x00283010', signed);
  if (lut !== undefined) return (value) => lut.curve(value) / (2 ** lut.bits - 1);
  const center = dataSet.floatString('x00281050');
  const width = dataSet.floatString('x00281051');
  if (center === undefined || width === undefined || !(width > 0)) return undefined;
  const kind = dataSet.string('x00281056') ?? 'LINEAR';
  if (kind === 'SIGMOID') return (x) => 1 / (1 + Math.exp((-4 * (x - center)) / width));
  if (kind === 'LINEAR_EXACT') return (x) => (x - center) / width + 0.5;
  return (x) => {
    if (x <= center - 0.5 - (width - 1) / 2) return 0;
    if (x > center - 0.5 + (width - 1) / 2) return 1;
    return (x - (center - 0.5)) / (width - 1) + 0.5;
  };
}

/** Darkest to brightest value in use → 0–1; plain 8-bit images keep their levels. */
function fullRange(
  values: Float64Array,
  used: Uint8Array,
  modality: Curve,
  stored: number,
  signed: boolean,
): Curve {
  if (stored === 8 && !signed) return (value) => (value - modality(0)) / (modality(255) - modality(0) || 1);
  const present = values.filter((_, i) => used[i] === 1).map(modality);
  const low = present.reduce((a, b) => Math.min(a, b), Infinity);
  const high = present.reduce((a, b) => Math.max(a, b), -Infinity);
  return (value) => (value - low) / (high - low || 1);
}

/** The first item of a LUT sequence; outside its domain the ends go on (PS3.3 C.11.1.1). */
function lookupTable(
  dataSet: DataSet,
  tag: string,
  signed: boolean,
): { curve: Curve; bits: number } | undefined {
  const item = dataSet.elements[tag]?.items?.[0]?.dataSet;
  const entries = item?.uint16('x00283002', 0);
  const bits = item?.uint16('x00283002', 2);
  const data = item?.elements.x00283006;
  if (item === undefined || entries === undefined || bits === undefined || data === undefined)
    return undefined;
  // 0 stands for 65536, which 16 bits cannot hold.
  const last = (entries || 65536) - 1;
  const first = (signed ? item.int16('x00283002', 1) : item.uint16('x00283002', 1)) ?? 0;
  // Usually words, but 8-bit tables may be packed into bytes.
  const packed = data.length < 2 * (last + 1);
  if (data.length < last + 1)
    throw damaged(`its lookup table has ${data.length} bytes for ${last + 1} entries`);
  const curve = (value: number) => {
    const index = Math.min(last, Math.max(0, Math.round(value) - first));
    return (packed ? item.byteArray[data.dataOffset + index] : item.uint16('x00283006', index)) ?? 0;
  };
  return { curve, bits };
}

// ── errors ────────────────────────────────────────────────────────────────────────────────────────

function required(dataSet: DataSet, tag: string, name: string): number {
  const value = dataSet.uint16(tag);
  if (value === undefined || value === 0) throw damaged(`${name} is missing`);
  return value;
}

function damaged(reason: string, cause?: unknown): RxrayError {
  return new RxrayError('FRAME_DAMAGED', `the DICOM file is truncated or damaged: ${reason}`, { cause });
}

function unsupported(what: string): RxrayError {
  return new RxrayError('FRAME_UNSUPPORTED', `the DICOM file ${what}`);
}
