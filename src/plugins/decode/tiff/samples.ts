import { RxrayError, messageOf } from '../../../core/errors.js';
import { damaged, type Limits } from '../decoder.js';
import type { Layout } from './layout.js';
import type { Unpack } from './unpack.js';

/**
 * The displayed samples of an image, interleaved: colours, then alpha if there is any. Values as stored, 0 to 2^bits −
 * 1.
 */
export interface Samples {
  readonly data: Uint8Array | Uint16Array;
  /** Samples per pixel. */
  readonly channels: number;
}

/** Unpacks every strip or tile. Throws FRAME_DAMAGED if one does not unpack to its full size. */
export function readSamples(file: Buffer, layout: Layout, unpack: Unpack, limits: Limits): Samples {
  const { width, height, bits, samples, colours, alpha, separate, tiled, segmentWidth, segmentHeight } =
    layout;
  const wanted = [...Array(colours).keys(), ...(alpha === undefined ? [] : [alpha.sample])];
  const perPixel = separate ? 1 : samples;
  const perRow = segmentWidth * perPixel;
  const rowBytes = Math.ceil((perRow * bits) / 8);
  const full = rowBytes * segmentHeight;
  // Four samples of 16 bits are what an image may have; a tile may be a little larger than the image.
  if (full > 8 * limits.maxPixels + 1e6 || perRow > 0x7fffffff) {
    throw new RxrayError(
      'FRAME_TOO_LARGE',
      `a ${tiled ? 'tile' : 'strip'} of the TIFF file unpacks to ${full} bytes, more than \`maxPixels\` allows`,
    );
  }
  const channels = wanted.length;
  const data =
    bits > 8 ? new Uint16Array(width * height * channels) : new Uint8Array(width * height * channels);
  for (const { name, offset, length, x, y, plane } of layout.segments) {
    const targets = separate ? [wanted.indexOf(plane)] : wanted.map((_, i) => i);
    if (targets[0] === -1) continue;
    const sources = separate ? [0] : wanted;
    const rows = Math.min(segmentHeight, height - y);
    const columns = Math.min(segmentWidth, width - x);
    let packed = file.subarray(offset, offset + length);
    if (layout.reversed) packed = Buffer.from(packed.map((byte) => REVERSED[byte] ?? 0));
    let stored;
    try {
      stored = unpack(packed, rowBytes * (tiled ? segmentHeight : rows), full);
    } catch (cause) {
      throw damaged('TIFF', `${name} cannot be unpacked: ${messageOf(cause)}`, cause);
    }
    const values = toValues(stored, layout, perRow, rows);
    if (layout.differences) addUp(values, perRow, perPixel, rows);
    if (perPixel === channels) {
      for (let row = 0; row < rows; row++) {
        const from = row * perRow;
        data.set(values.subarray(from, from + columns * channels), ((y + row) * width + x) * channels);
      }
      continue;
    }
    targets.forEach((target, i) => {
      const source = sources[i] ?? 0;
      for (let row = 0; row < rows; row++) {
        let to = ((y + row) * width + x) * channels + target;
        let from = row * perRow + source;
        for (let column = 0; column < columns; column++, to += channels, from += perPixel) {
          data[to] = values[from] ?? 0;
        }
      }
    });
  }
  return { data, channels };
}

/** Rows of packed samples, each row beginning with a new byte → one number for each sample. */
function toValues(
  stored: Buffer,
  { bits, littleEndian }: Layout,
  perRow: number,
  rows: number,
): Uint8Array | Uint16Array {
  const count = perRow * rows;
  if (bits === 8) return new Uint8Array(stored.buffer, stored.byteOffset, count);
  if (bits === 16) {
    // A copy, so that it is aligned and may be swapped.
    const bytes = Buffer.alloc(count * 2);
    stored.copy(bytes);
    if (!littleEndian) bytes.swap16();
    return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  }
  const values = bits > 8 ? new Uint16Array(count) : new Uint8Array(count);
  const mask = 2 ** bits - 1;
  let at = 0;
  for (let row = 0, to = 0; row < rows; row++) {
    let buffer = 0;
    let held = 0;
    for (let i = 0; i < perRow; i++) {
      while (held < bits) {
        buffer = ((buffer << 8) | (stored[at++] ?? 0)) & 0xffffff;
        held += 8;
      }
      held -= bits;
      values[to++] = (buffer >>> held) & mask;
    }
  }
  return values;
}

/** Undoes the horizontal predictor (TIFF 6.0, section 14); sums wrap around. */
function addUp(values: Uint8Array | Uint16Array, perRow: number, perPixel: number, rows: number): void {
  for (let row = 0; row < rows; row++) {
    const end = (row + 1) * perRow;
    for (let i = row * perRow + perPixel; i < end; i++) {
      values[i] = (values[i] ?? 0) + (values[i - perPixel] ?? 0);
    }
  }
}

const REVERSED = Uint8Array.from({ length: 256 }, (_, byte) =>
  [...Array(8).keys()].reduce((sum, bit) => sum | (((byte >> bit) & 1) << (7 - bit)), 0),
);
