import { inflateSync } from 'node:zlib';
import { unfilterPng } from '../../imaging/kernels.js';
import { damaged } from './decoder.js';

/** First column and row, and steps, of the passes of an interlaced image (ISO/IEC 15948, 8.2); a plain one has one pass. */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
const PLAIN = [[0, 0, 1, 1]] as const;

interface Pass {
  readonly width: number;
  readonly rows: number;
  readonly rowBytes: number;
}

/**
 * Throws FRAME_DAMAGED if a pixel of a palette PNG has a colour that is not in the palette: libpng only warns of it, and
 * libvips makes it black. `bytes` begin with a valid header. Other faults are left to libvips.
 */
export function checkPngPalette(bytes: Buffer): void {
  const [depth = 0, type, , , interlace] = bytes.subarray(24, 29);
  if (type !== 3) return;
  const { colours, packed } = chunksOf(bytes);
  if (colours === 0 || colours >= 2 ** depth) return;
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  const passes = (interlace === 1 ? ADAM7 : PLAIN).map(([x, y, dx, dy]): Pass => {
    const across = Math.ceil(Math.max(0, width - x) / dx);
    const rows = across === 0 ? 0 : Math.ceil(Math.max(0, height - y) / dy);
    return { width: across, rows, rowBytes: Math.ceil((across * depth) / 8) };
  });
  const filtered = inflated(
    packed,
    passes.reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0),
  );
  let at = 0;
  for (const { width: samples, rows, rowBytes } of passes) {
    const end = at + rows * (1 + rowBytes);
    const pixels =
      filtered && unfilterPng(filtered.subarray(at, end), { rowBytes, rows, step: 1, isDeep: false });
    if (pixels === undefined) return;
    at = end;
    for (let y = 0; y < rows; y++) {
      const most = largest(pixels.subarray(y * rowBytes), samples, depth);
      if (most >= colours) throw damaged('PNG', `a pixel has colour ${most}, the palette has ${colours}`);
    }
  }
}

/** Undefined if the stream is damaged, or has not exactly `size` bytes. */
function inflated(packed: Buffer, size: number): Buffer | undefined {
  try {
    const bytes = inflateSync(packed, { maxOutputLength: size });
    return bytes.length === size ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function chunksOf(bytes: Buffer): { colours: number; packed: Buffer } {
  const data: Buffer[] = [];
  let colours = 0;
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 8 + bytes.readUInt32BE(at);
    const name = bytes.toString('latin1', at + 4, at + 8);
    if (name === 'PLTE') colours = Math.floor((end - at - 8) / 3);
    if (name === 'IDAT') data.push(bytes.subarray(at + 8, end));
    at = end + 4;
  }
  return { colours, packed: Buffer.concat(data) };
}

/** The largest of the samples that are packed into the row. */
function largest(row: Uint8Array, samples: number, depth: number): number {
  let most = 0;
  for (let i = 0; i < samples; i++) {
    const bit = i * depth;
    const sample = ((row[bit >> 3] ?? 0) >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
    if (sample > most) most = sample;
  }
  return most;
}
