import { crc32, inflateSync } from 'node:zlib';
import type { Image } from '../../core/frame.js';
import { unfilterPng, usesLibraries } from '../../imaging/kernels.js';

/** Chunks that say nothing about the pixels. Others may hold transparency, an orientation or more pictures. */
const IDLE_CHUNKS = ['pHYs', 'tEXt', 'tIME'];

/**
 * A plain PNG: grey or RGB, 8 or 16 bit, not interlaced, without transparency. Undefined for all others, for those of
 * more than `maxPixels`, and for damaged ones. `bytes` begin with a valid header. Source: ISO/IEC 15948.
 */
export function decodePlainPng(bytes: Buffer, maxPixels: number): Image | undefined {
  if (bytes.length < 33 || usesLibraries()) return undefined;
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  const [depth = 0, type = 0, , , interlace] = bytes.subarray(24, 29);
  const isPlain = (type === 0 || type === 2) && depth >= 8 && interlace === 0 && width * height <= maxPixels;
  const packed = isPlain ? imageData(bytes) : undefined;
  if (packed === undefined) return undefined;
  const channels = type === 0 ? 1 : 3;
  const [isDeep, step] = [depth === 16, (channels * depth) / 8];
  const filtered = inflated(packed, height * (1 + width * step));
  const rows = filtered && unfilterPng(filtered, { rowBytes: width * step, rows: height, step, isDeep });
  if (rows === undefined) return undefined;
  const data = isDeep ? new Uint16Array(rows.buffer, rows.byteOffset, rows.length / 2) : rows;
  return { width, height, channels, data };
}

/** The deflated pixels; undefined if any chunk is unusual or damaged. */
function imageData(bytes: Buffer): Buffer | undefined {
  const data: Buffer[] = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const name = bytes.toString('latin1', at + 4, at + 8);
    const end = at + 8 + bytes.readUInt32BE(at);
    if (end + 4 > bytes.length || bytes.readUInt32BE(end) !== crc32(bytes.subarray(at + 4, end)))
      return undefined;
    if (name === 'IEND') return data.length === 1 ? data[0] : Buffer.concat(data);
    if (name === 'IDAT') data.push(bytes.subarray(at + 8, end));
    else if (!IDLE_CHUNKS.includes(name) && (name !== 'IHDR' || at > 8)) return undefined;
    at = end + 4;
  }
  return undefined;
}

/** The contents of a zlib stream, if they have exactly `size` bytes. */
function inflated(packed: Buffer, size: number): Buffer | undefined {
  try {
    const options = { info: true, maxOutputLength: size, chunkSize: Math.max(64, size + 1) } as const;
    const { buffer, engine } = inflateSync(packed, options) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    return buffer.length === size && engine.bytesWritten === packed.length ? buffer : undefined;
  } catch {
    return undefined;
  }
}
