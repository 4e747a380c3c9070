import type { Image } from '../../core/frame.js';
import { decodeJpeg, type JpegScan } from '../../imaging/kernels.js';

/** Bytes of a Huffman table: the number of codes of each length, 1 to 16, and the symbols in order. */
const TABLE_BYTES = 16 + 256;

/**
 * The grey levels of a plain JPEG: baseline, and grey in all its components. Undefined for all others, for those of
 * more than `maxPixels`, and for damaged ones. Source: ITU-T T.81, B.2.
 */
export function decodePlainJpeg(bytes: Buffer, maxPixels: number, color: 'grey' | 'keep'): Image | undefined {
  const scan = readHeader(bytes);
  if (scan === undefined || scan.width * scan.height > maxPixels) return undefined;
  // With `keep`, three equal channels are kept.
  return scan.coloured && color === 'keep' ? undefined : decodeJpeg(scan);
}

/** The segments before the entropy-coded data, if they are those of a plain JPEG. */
function readHeader(bytes: Buffer): JpegScan | undefined {
  const quantisers = new Map<number, Uint16Array>();
  const codes = new Map<number, Buffer>();
  let frame: { width: number; height: number; components: Buffer } | undefined;
  let restartInterval = 0;
  for (let at = 2; at + 4 <= bytes.length;) {
    const marker = bytes.readUInt16BE(at);
    const end = at + 2 + bytes.readUInt16BE(at + 2);
    const segment = bytes.subarray(at + 4, end);
    if (end > bytes.length) return undefined;
    switch (marker) {
      // JFIF 1 and comments. Others may contain an orientation, or the meaning of components.
      case 0xffe0:
        if (segment.length < 14 || segment.toString('latin1', 0, 6) !== 'JFIF\0\x01') return undefined;
        break;
      case 0xfffe:
        break;
      case 0xffdb:
        for (let i = 0; i < segment.length; i += 65) {
          const id = segment[i] ?? 0;
          if (id > 3 || i + 65 > segment.length) return undefined;
          quantisers.set(id, Uint16Array.from(segment.subarray(i + 1, i + 65)));
        }
        break;
      case 0xffc4:
        for (let i = 0; i < segment.length;) {
          const id = segment[i] ?? 0;
          const table = segment.subarray(i + 1, i + 1 + TABLE_BYTES);
          const symbols = table.subarray(0, 16).reduce((sum, count) => sum + count, 0);
          if ((id & 0xee) !== 0 || table.length < 16 + symbols || symbols > 256) return undefined;
          codes.set(id, table.subarray(0, 16 + symbols));
          i += 17 + symbols;
        }
        break;
      case 0xffc0: {
        const components = segment.subarray(6);
        if (components.length === 0) return undefined;
        if (frame !== undefined || segment[0] !== 8 || components.length !== 3 * (segment[5] ?? 0))
          return undefined;
        frame = { height: segment.readUInt16BE(1), width: segment.readUInt16BE(3), components };
        break;
      }
      case 0xffdd:
        if (segment.length !== 2) return undefined;
        restartInterval = segment.readUInt16BE(0);
        break;
      case 0xffda: {
        if (frame === undefined || frame.width === 0 || frame.height === 0) return undefined;
        const layout = layoutOf(frame.components, segment);
        const [luma, ...others] = layout?.quantisers.map((id) => quantisers.get(id)) ?? [];
        if (layout === undefined || luma === undefined || others.includes(undefined)) return undefined;
        const { width, height } = frame;
        const all = Buffer.alloc(layout.tables.length * TABLE_BYTES);
        for (const [i, id] of layout.tables.entries()) {
          const table = codes.get(id);
          if (table === undefined) return undefined;
          table.copy(all, i * TABLE_BYTES);
        }
        return {
          ...layout,
          width,
          height,
          restartInterval,
          quantisers: luma,
          codes: all,
          data: bytes.subarray(end),
        };
      }
      default:
        return undefined;
    }
    at = end;
  }
  return undefined;
}

interface Layout {
  readonly across: number;
  readonly down: number;
  readonly coloured: boolean;
  /** Number of the quantisers of each component. */
  readonly quantisers: readonly number[];
  /** Class and number of the Huffman tables: luma DC and AC, colour DC and AC. */
  readonly tables: readonly number[];
}

/** The layout of the components (3 bytes each) in the only scan; undefined for unusual layouts. */
function layoutOf(components: Buffer, scan: Buffer): Layout | undefined {
  const count = components.length / 3;
  if (scan[0] !== count || scan.length !== 4 + 2 * count) return undefined;
  // All coefficients at full precision.
  if (scan[1 + 2 * count] !== 0 || scan[2 + 2 * count] !== 63 || scan[3 + 2 * count] !== 0) return undefined;
  const tables = Array.from({ length: count }, (_, i) => {
    const selector = scan[2 + 2 * i] ?? 0;
    return scan[1 + 2 * i] === components[3 * i] ? [selector >> 4, 0x10 | (selector & 15)] : [];
  });
  const [luma = [], blue = [], red = []] = tables;
  const quantisers = Array.from({ length: count }, (_, i) => components[3 * i + 2] ?? 0);
  const [across, down] = [(components[1] ?? 0) >> 4, (components[1] ?? 0) & 15];
  if (across < 1 || across > 4 || down < 1 || down > 4) return undefined;
  // A single component is not interleaved, whatever its factors are.
  if (count === 1) return { across: 1, down: 1, coloured: false, quantisers, tables: luma };
  const isUsual =
    count === 3 &&
    across <= 2 &&
    down <= 2 &&
    // Y, Cb and Cr by their numbers in JFIF.
    [0, 1, 2].every((i) => components[3 * i] === i + 1) &&
    components[4] === 0x11 &&
    components[7] === 0x11 &&
    blue.every((table, i) => table === red[i]);
  return isUsual ? { across, down, coloured: true, quantisers, tables: [...luma, ...blue] } : undefined;
}
