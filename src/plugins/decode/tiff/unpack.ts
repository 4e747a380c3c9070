import { inflateSync } from 'node:zlib';

/**
 * Decompresses one strip or tile to at least `needed` and at most `full` bytes. Throws an Error that says what is wrong
 * with the data.
 */
export type Unpack = (packed: Buffer, needed: number, full: number) => Buffer;

/** By the value of the Compression field. */
export const UNPACK: Readonly<Record<number, Unpack>> = {
  1: (packed, needed, full) => whole(packed.subarray(0, full), needed),
  5: unpackLzw,
  8: inflate,
  32773: unpackBits,
  32946: inflate,
};

function whole(unpacked: Buffer, needed: number): Buffer {
  if (unpacked.length < needed) throw new Error(`it has ${unpacked.length} bytes of pixels, not ${needed}`);
  return unpacked;
}

/** zlib streams; the checksum at the end is verified. */
function inflate(packed: Buffer, needed: number, full: number): Buffer {
  try {
    return whole(inflateSync(packed, { maxOutputLength: full, chunkSize: Math.max(64, full) }), needed);
  } catch (cause) {
    throw cause instanceof RangeError ? new Error(`it unpacks to more than ${full} bytes`, { cause }) : cause;
  }
}

/** PackBits (TIFF 6.0, section 9). */
function unpackBits(packed: Buffer, needed: number, full: number): Buffer {
  const out = Buffer.alloc(full);
  let at = 0;
  for (let from = 0; from < packed.length && at < full;) {
    const head = packed.readInt8(from++);
    if (head === -128) continue;
    const length = head < 0 ? 1 - head : head + 1;
    const end = Math.min(full, at + length);
    if (head < 0) {
      out.fill(packed[from++] ?? 0, at, end);
    } else {
      packed.copy(out, at, from, from + end - at);
      from += length;
    }
    if (from > packed.length) throw new Error('its data end inside a run');
    at = end;
  }
  return whole(out.subarray(0, at), needed);
}

/** The special codes of TIFF's LZW, and the first code of a string. */
const CLEAR = 256;
const END = 257;
const FIRST = 258;

/**
 * LZW (TIFF 6.0, section 13), and the variant of before 1987 with its bits in reverse order and codes that widen one
 * entry later.
 *
 * Strings of the table are positions in the output: each is the previous string plus the next character there.
 */
export function unpackLzw(packed: Buffer, needed: number, full: number): Buffer {
  const old = packed[0] === 0 && ((packed[1] ?? 0) & 1) === 1;
  const early = old ? 0 : 1;
  const out = Buffer.alloc(full);
  const places = new Uint32Array(4096);
  const lengths = new Uint32Array(4096);
  let next = FIRST;
  let width = 9;
  let place = 0;
  let length = 0; // of the string before; 0 after a clear code
  let buffer = 0;
  let bits = 0;
  let at = 0;
  for (let from = 0; at < full;) {
    while (bits < width && from < packed.length) {
      const byte = packed[from++] ?? 0;
      buffer = old ? buffer | (byte << bits) : ((buffer << 8) | byte) & 0xffffff;
      bits += 8;
    }
    if (bits < width) break;
    const code = (old ? buffer : buffer >>> (bits - width)) & ((1 << width) - 1);
    if (old) buffer >>>= width;
    bits -= width;
    if (code === END) break;
    if (code === CLEAR) {
      next = FIRST;
      width = 9;
      length = 0;
      continue;
    }
    if (length > 0 && next < 4096) {
      places[next] = place;
      lengths[next] = length + 1;
      next++;
    }
    if (code < CLEAR) {
      length = 1;
      out[at] = code;
    } else {
      if (code >= next || length === 0) throw new Error(`its LZW code ${code} is undefined`);
      length = lengths[code] ?? 0;
      const source = places[code] ?? 0;
      const end = Math.min(length, full - at);
      for (let i = 0; i < end; i++) out[at + i] = out[source + i] ?? 0;
    }
    place = at;
    at += length;
    if (next >= (1 << width) - early && width < 12) width++;
  }
  return whole(out.subarray(0, Math.min(at, full)), needed);
}
