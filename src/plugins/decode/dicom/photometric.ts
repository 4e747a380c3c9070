import type { Image } from '../../../core/frame.js';
import type { DataSet } from '../../../dicom/data-set.js';
import { damaged, unsupported } from '../../../dicom/failures.js';
import type { Stored } from './stored.js';
import { readTable } from '../../../dicom/table.js';

/** The supported photometric interpretations (PS3.3, C.7.6.3.1.2). */
const PHOTOMETRICS = [
  ...['MONOCHROME1', 'MONOCHROME2', 'PALETTE COLOR'],
  ...['RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_PARTIAL_422', 'YBR_PARTIAL_420', 'YBR_RCT', 'YBR_ICT'],
] as const;
export type Photometric = (typeof PHOTOMETRICS)[number];
const REFUSED = ['HSV', 'ARGB', 'CMYK', 'XYB'];

/** The header's value, if it is supported and matches the number of samples. Throws FRAME_UNSUPPORTED. */
export function photometricOf(text: string | undefined, channels: number, warnings: string[]): Photometric {
  if (text === undefined) {
    warnings.push('PhotometricInterpretation is missing');
    if (channels === 1 || channels === 3) return channels === 1 ? 'MONOCHROME2' : 'RGB';
  }
  const known = PHOTOMETRICS.find((name) => name === text?.toUpperCase());
  const fits = known !== undefined && channels === (/MONO|PALETTE/.test(known) ? 1 : 3);
  if (fits) return known;
  const name = known ?? REFUSED.find((refused) => refused === text) ?? 'that is unknown';
  throw unsupported(
    `has a photometric interpretation ${name} in ${channels} samples per pixel, which is not supported`,
  );
}

/** Planes → channels last. */
export function interleave<S extends Uint8Array | Uint16Array>(planes: S): S {
  const plane = planes.length / 3;
  const samples = planes.slice() as S;
  for (let i = 0, o = 0; i < plane; i++) {
    samples[o++] = planes[i] ?? 0;
    samples[o++] = planes[plane + i] ?? 0;
    samples[o++] = planes[2 * plane + i] ?? 0;
  }
  return samples;
}

/** Y1 Y2 Cb Cr → Y1 Cb Cr Y2 Cb Cr: both pixels have the same chroma. */
export function upsample422<S extends Uint8Array | Uint16Array>(pairs: S, width: number, height: number): S {
  const samples = new (pairs.constructor as new (length: number) => S)(width * height * 3);
  const row = Math.ceil(width / 2) * 4;
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const pair = y * row + (x >> 1) * 4;
      samples[o++] = pairs[pair + (x & 1)] ?? 0;
      samples[o++] = pairs[pair + 2] ?? 0;
      samples[o++] = pairs[pair + 3] ?? 0;
    }
  }
  return samples;
}

/** Colour samples as RGB: 8 bit as stored, deeper ones over the full range of 16 bit. */
export function renderColour(stored: Stored): Image {
  const { width, height, channels, photometric, highBit } = stored;
  const shift = highBit - stored.stored + 1;
  const white = 2 ** stored.stored - 1;
  const rgb = photometric.startsWith('YBR_') && !photometric.endsWith('CT') ? toRgb(stored) : stored.data;
  if (white === 255 && shift === 0 && rgb instanceof Uint8Array) {
    return { width, height, channels, data: rgb };
  }
  const full = white > 255 ? 65535 : 255;
  const data = full === 255 ? new Uint8Array(rgb.length) : new Uint16Array(rgb.length);
  for (let i = 0; i < rgb.length; i++) {
    data[i] = Math.round((((rgb[i] ?? 0) >> shift) & white) * (full / white));
  }
  return { width, height, channels, data };
}

/** ITU-R BT.601, full range, or 16–235 of `YBR_PARTIAL` (PS3.3, C.7.6.3.1.2). */
function toRgb({ data, photometric, stored }: Stored): Uint8Array | Uint16Array {
  const white = 2 ** stored - 1;
  const [half, black] = [2 ** (stored - 1), 2 ** Math.max(0, stored - 4)];
  const partial = photometric.startsWith('YBR_PARTIAL');
  const [gain, spread, floor] = partial ? [255 / 219, 255 / 224, black] : [1, 1, 0];
  const rgb = data.slice();
  const clamp = (value: number) => Math.min(white, Math.max(0, Math.round(value)));
  for (let i = 0; i + 2 < data.length; i += 3) {
    const y = ((data[i] ?? 0) - floor) * gain;
    const blue = ((data[i + 1] ?? 0) - half) * spread;
    const red = ((data[i + 2] ?? 0) - half) * spread;
    rgb[i] = clamp(y + 1.402 * red);
    rgb[i + 1] = clamp(y - 0.344136 * blue - 0.714136 * red);
    rgb[i + 2] = clamp(y + 1.772 * blue);
  }
  return rgb;
}

/** Indices → the colours of the palette (PS3.3, C.7.9); a grey palette gives one channel. */
export function renderPalette(stored: Stored, dataSet: DataSet, warnings: string[]): Image {
  const { width, height, signed } = stored;
  const tables = [1, 2, 3].map((i) =>
    readTable(
      dataSet,
      { descriptor: 0x00281100 + i, data: 0x00281200 + i, segments: 0x00281220 + i },
      signed,
      warnings,
    ),
  );
  const [red, green, blue] = tables;
  if (!red || !green || !blue) throw damaged('its palette is missing');
  const full = stored.stored > 8 ? 65535 : 255;
  const shift = stored.highBit - stored.stored + 1;
  const mask = 2 ** stored.stored - 1;
  const levels = [red, green, blue].map((table) =>
    Array.from({ length: mask + 1 }, (_, index) => {
      const value = signed && index > mask / 2 ? index - mask - 1 : index;
      return Math.round((table.at(value) * full) / (2 ** table.bits - 1));
    }),
  );
  const grey = levels[0]?.every((level, i) => level === levels[1]?.[i] && level === levels[2]?.[i]) ?? false;
  const channels = grey ? 1 : 3;
  const count = width * height;
  const data = full === 255 ? new Uint8Array(count * channels) : new Uint16Array(count * channels);
  for (let i = 0, o = 0; i < count; i++) {
    const index = ((stored.data[i] ?? 0) >> shift) & mask;
    for (let channel = 0; channel < channels; channel++) data[o++] = levels[channel]?.[index] ?? 0;
  }
  return { width, height, channels, data };
}
