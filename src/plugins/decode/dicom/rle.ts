import { damaged } from '../../../dicom/failures.js';

interface Shape {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly allocated: number;
}

const HEADER = 64;

/**
 * One frame of run lengths (PS3.5, annex G): a segment for each byte of a sample, the highest first, channel after channel.
 * Samples come out channels last. Throws FRAME_DAMAGED where a segment is missing or has not a byte for each pixel.
 */
export function decodeRle(
  stream: Buffer,
  { width, height, channels, allocated }: Shape,
): Uint8Array | Uint16Array {
  const bytes = allocated === 16 ? 2 : 1;
  const segments = channels * bytes;
  const count = stream.length < HEADER ? 0 : stream.readUInt32LE(0);
  if (count !== segments) throw damaged(`it has ${count} segments of run lengths, not ${segments}`);
  const pixels = width * height;
  const out = new Uint8Array(pixels * segments);
  for (let i = 0; i < segments; i++) {
    const start = stream.readUInt32LE(4 + 4 * i);
    const end = i + 1 < segments ? stream.readUInt32LE(8 + 4 * i) : stream.length;
    if (start < HEADER || end < start || end > stream.length)
      throw damaged(`segment ${i + 1} of its run lengths is not where it should be`);
    // In little endian, the highest byte of a sample is its last.
    const place = Math.floor(i / bytes) * bytes + (bytes - 1 - (i % bytes));
    const found = unpack(stream.subarray(start, end), out, place, segments, pixels);
    if (found < pixels)
      throw damaged(`segment ${i + 1} of its run lengths has ${found} bytes, not ${pixels}`);
  }
  return bytes === 1 ? out : new Uint16Array(out.buffer);
}

/** PackBits into every `step`-th byte of `out`; returns how many were found. */
function unpack(packed: Uint8Array, out: Uint8Array, place: number, step: number, most: number): number {
  let found = 0;
  let to = place;
  for (let at = 0; at < packed.length && found < most;) {
    const control = packed[at++] ?? 0;
    if (control === 128) continue;
    const literal = control < 128;
    const length = Math.min(literal ? control + 1 : 257 - control, most - found);
    // A literal may be cut off by the end.
    const there = literal ? Math.min(length, packed.length - at) : at < packed.length ? length : 0;
    const end = to + there * step;
    if (literal) for (let from = at; to < end; to += step) out[to] = packed[from++] ?? 0;
    else for (const value = packed[at] ?? 0; to < end; to += step) out[to] = value;
    at += literal ? length : 1;
    found += there;
  }
  return found;
}
