import type { Image } from '../../../core/frame.js';
import type { DataSet } from '../../../dicom/data-set.js';
import { groupOf } from '../../../dicom/functional-groups.js';
import { decimal, decimals } from '../../../dicom/numbers.js';
import type { Stored } from './stored.js';
import { MODALITY_LUT, readTable, TABLE, type Table, VOI_LUT } from '../../../dicom/table.js';

/** The window: as in the file, all values, a given window, or one of the file's, counted from 0. */
export type Voi =
  'auto' | 'none' | { readonly center: number; readonly width: number } | { readonly index: number };

/** Maps a number to a number; tables and windows alike. */
type Curve = (value: number) => number;

/**
 * Stored grey values → displayed values: modality LUT or rescale → VOI LUT, window, or the range of the data →
 * MONOCHROME1 inverted (PS3.3 C.7.6.3.1.2, C.11.1, C.11.2, C.11.6).
 *
 * More than 8 stored bits give 16-bit samples, in which the window spans 0–65535. Without a window, 8-bit and 1-bit
 * images keep their levels, others span from the darkest to the brightest value that is no padding. Padding is black.
 */
export function renderGrey(
  stored: Stored,
  dataSet: DataSet,
  frame: number,
  voi: Voi,
  warnings: string[],
): Image {
  const { width, height, data, signed, highBit } = stored;
  const shift = highBit - stored.stored + 1;
  const mask = 2 ** stored.stored - 1;
  const values = new Float64Array(mask + 1);
  for (let bits = 0; bits <= mask; bits++) values[bits] = signed && bits > mask / 2 ? bits - mask - 1 : bits;
  const modality = values.map(modalityCurve(dataSet, frame, values, signed, warnings));
  const padding = paddingOf(dataSet, signed);
  /** Those of the modality's values that occur, without padding. */
  const used = (): Float64Array => {
    const occurs = new Uint8Array(mask + 1);
    // Bits outside the stored ones may hold overlays.
    // eslint-disable-next-line @typescript-eslint/prefer-for-of -- iterating takes three times as long
    for (let i = 0; i < data.length; i++) occurs[((data[i] ?? 0) >> shift) & mask] = 1;
    return modality.filter((_, bits) => occurs[bits] === 1 && padding?.(values[bits] ?? 0) !== true);
  };
  const shown =
    voiCurve(dataSet, frame, modality, voi, warnings) ??
    spread((stored.stored === 8 || stored.stored === 1) && !signed ? modality : used());

  const white = stored.stored > 8 ? 65535 : 255;
  const inverted = isInverted(stored.photometric, dataSet, warnings);
  const table = stored.stored > 8 ? new Uint16Array(mask + 1) : new Uint8Array(mask + 1);
  modality.forEach((value, bits) => {
    if (padding?.(values[bits] ?? 0) === true) return;
    const grey = Math.min(1, Math.max(0, shown(value)));
    table[bits] = Math.floor((inverted ? 1 - grey : grey) * white + 0.5);
  });
  const samples = stored.stored > 8 ? new Uint16Array(data.length) : new Uint8Array(data.length);
  for (let i = 0; i < samples.length; i++) samples[i] = table[((data[i] ?? 0) >> shift) & mask] ?? 0;
  return { width, height, channels: 1, data: samples };
}

/** No unit makes values so large, or steps smaller than one part of it. */
const HUGE = 1e30;

/** Stored values → the modality's own (PS3.3 C.11.1). */
function modalityCurve(
  dataSet: DataSet,
  frame: number,
  values: Float64Array,
  signed: boolean,
  warnings: string[],
): Curve {
  const item = dataSet.items(MODALITY_LUT)[0];
  const table = item && tableOf(item, 'the modality LUT', signed, warnings);
  if (table !== undefined) return (value) => table.at(value);
  const group = groupOf(dataSet, frame, 'pixelValues');
  const slope = decimal(group, 0x00281053, 'RescaleSlope', warnings) ?? 1;
  const intercept = decimal(group, 0x00281052, 'RescaleIntercept', warnings) ?? 0;
  const ends = [values[0] ?? 0, values.at(-1) ?? 0, 1].map((value) => value * slope + intercept);
  // Neighbours must differ: not with a slope of 0, nor with one that is lost beside the intercept.
  const isUsable =
    Math.abs(slope) > 1 / HUGE && ends[0] !== ends[1] && ends.every((end) => Math.abs(end) < HUGE);
  if (!isUsable) {
    warnings.push('RescaleSlope and RescaleIntercept make no usable values and were ignored');
    return (value) => value;
  }
  return (value) => value * slope + intercept;
}

/** The modality's values → 0–1 (PS3.3 C.11.2); undefined if the range of the data is used. */
function voiCurve(
  dataSet: DataSet,
  frame: number,
  modality: Float64Array,
  voi: Voi,
  warnings: string[],
): Curve | undefined {
  if (voi === 'none') return undefined;
  const group = groupOf(dataSet, frame, 'window');
  const kind = group.string(0x00281056) ?? 'LINEAR';
  if (typeof voi === 'object' && 'center' in voi) return windowCurve(voi.center, voi.width, 'LINEAR');
  const lowest = modality.reduce((a, b) => Math.min(a, b), Infinity);
  const curves = [
    ...group.items(VOI_LUT).map((item) => tableCurve(tableOf(item, 'a VOI LUT', lowest < 0, warnings))),
    ...windowsOf(group, warnings).map(([center, width]) => windowCurve(center, width, kind)),
  ];
  const first = curves.find((curve) => curve !== undefined);
  if (voi === 'auto') return first;
  const chosen = curves[voi.index];
  if (chosen === undefined)
    warnings.push(`the file has no usable window ${voi.index}, its first one was used`);
  return chosen ?? first;
}

/** The table of a sequence's item; undefined, with a warning, if it has none. Source: PS3.3, C.11.2: others may be used. */
function tableOf(item: DataSet, name: string, signed: boolean, warnings: string[]): Table | undefined {
  const table = readTable(item, TABLE, signed, warnings);
  if (table === undefined) warnings.push(`${name} has no LUTDescriptor or no LUTData and was ignored`);
  return table;
}

function tableCurve(table: Table | undefined): Curve | undefined {
  return table && ((value) => table.at(value) / (2 ** table.bits - 1));
}

/** Centre and width of each window that has both. */
function windowsOf(group: DataSet, warnings: string[]): [center: number, width: number][] {
  const centers = decimals(group, 0x00281050);
  const widths = decimals(group, 0x00281051);
  const pairs = Array.from({ length: Math.max(centers.length, widths.length) }, (_, i) => [
    centers[i],
    widths[i],
  ]);
  const usable = pairs.filter(
    ([center = NaN, width = NaN]) => Math.abs(center) < HUGE && width > 1 / HUGE && width < HUGE,
  ) as [number, number][];
  if (usable.length < pairs.length) {
    warnings.push('a window has no usable WindowCenter or WindowWidth and was ignored');
  }
  return usable;
}

/** PS3.3, C.11.2.1.2 and C.11.2.1.3. LINEAR has no width below 1: such windows are of fractional units, and exact. */
function windowCurve(center: number, width: number, kind: string): Curve {
  if (kind === 'SIGMOID') return (x) => 1 / (1 + Math.exp((-4 * (x - center)) / width));
  if (kind === 'LINEAR_EXACT' || width < 1) return (x) => (x - center) / width + 0.5;
  return (x) => {
    if (x <= center - 0.5 - (width - 1) / 2) return 0;
    if (x > center - 0.5 + (width - 1) / 2) return 1;
    return (x - (center - 0.5)) / (width - 1) + 0.5;
  };
}

/** Lowest to highest of `values` → 0–1. */
function spread(values: Float64Array): Curve {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return (value) => (value - low) / (high - low || 1);
}

/** Whether a stored value is padding (PS3.3, C.7.5.1.1.2); undefined if there is no padding. */
function paddingOf(dataSet: DataSet, signed: boolean): ((value: number) => boolean) | undefined {
  const number = (tag: number) => {
    const value = dataSet.uint16(tag);
    return value !== undefined && signed && value >= 0x8000 ? value - 0x10000 : value;
  };
  const one = number(0x00280120);
  if (one === undefined) return undefined;
  const other = number(0x00280121) ?? one;
  const [low, high] = [Math.min(one, other), Math.max(one, other)];
  return (value) => value >= low && value <= high;
}

/**
 * Whether low values are shown bright. The photometric interpretation decides; a presentation LUT shape that
 * contradicts it (PS3.3, C.11.6.1.2) is ignored with a warning.
 */
function isInverted(photometric: string, dataSet: DataSet, warnings: string[]): boolean {
  const inverted = photometric === 'MONOCHROME1';
  const shape = dataSet.string(0x20500020);
  if (shape !== undefined && shape !== (inverted ? 'INVERSE' : 'IDENTITY')) {
    warnings.push('PresentationLUTShape contradicts the photometric interpretation and was ignored');
  }
  return inverted;
}
