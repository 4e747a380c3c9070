import { damaged } from './decoder.js';

/** Codes have at most 12 bits. */
const CODES = 4096;

/** The first image of a GIF file. */
interface Picture {
  readonly pixels: number;
  readonly colours: number;
  /** The index of transparent pixels; -1 without. */
  readonly transparent: number;
  /** Bits of a colour's code. */
  readonly bits: number;
  /** The codes (GIF89a, appendix F). */
  readonly packed: Buffer;
}

/**
 * Throws FRAME_DAMAGED if a pixel of a GIF file's first image has a colour that is not in the palette: libvips makes it
 * black. Other faults are left to libvips. Source: GIF89a.
 */
export function checkGifPalette(bytes: Buffer): void {
  const picture = firstPicture(bytes);
  // Without a palette it is libvips' own.
  if (picture === undefined || picture.colours === 0) return;
  if (picture.colours >= 1 << picture.bits || picture.bits > 11) return;
  const most = largestIndex(picture);
  if (most < picture.colours) return;
  throw damaged('GIF', `a pixel has colour ${most}, the palette has ${picture.colours}`);
}

function firstPicture(bytes: Buffer): Picture | undefined {
  const at = (offset: number): number => bytes[offset] ?? 0;
  const coloursIn = (flags: number): number => ((flags & 0x80) === 0 ? 0 : 2 << (flags & 7));
  const common = coloursIn(at(10));
  let transparent = -1;
  for (let place = 13 + 3 * common; place < bytes.length;) {
    const block = at(place);
    if (block === 0x21) {
      if (at(place + 1) === 0xf9 && (at(place + 3) & 1) === 1) transparent = at(place + 6);
      place = subBlocks(bytes, place + 2).end;
    } else if (block === 0x2c && place + 10 < bytes.length) {
      const own = coloursIn(at(place + 9));
      const start = place + 10 + 3 * own;
      const pixels = bytes.readUInt16LE(place + 5) * bytes.readUInt16LE(place + 7);
      const { packed } = subBlocks(bytes, start + 1);
      return { pixels, colours: own || common, transparent, bits: at(start), packed };
    } else {
      return undefined;
    }
  }
  return undefined;
}

/** Blocks of up to 255 bytes, each after its length; an empty one ends them. */
function subBlocks(bytes: Buffer, start: number): { packed: Buffer; end: number } {
  const blocks: Buffer[] = [];
  let end = start;
  for (let length = bytes[end]; length !== undefined && length > 0; length = bytes[end]) {
    blocks.push(bytes.subarray(end + 1, end + 1 + length));
    end += 1 + length;
  }
  return { packed: Buffer.concat(blocks), end: end + 1 };
}

/** The largest index of a pixel that is not transparent: of every code only its first and its largest index are kept. */
function largestIndex({ pixels, transparent, bits, packed }: Picture): number {
  const [clear, last] = [1 << bits, (1 << bits) + 1];
  const first = new Uint16Array(CODES);
  const largest = new Int16Array(CODES);
  const length = new Uint32Array(CODES);
  for (let code = 0; code < clear; code++) {
    first[code] = code;
    largest[code] = code === transparent ? -1 : code;
    length[code] = 1;
  }
  let [most, seen, next, width, before] = [-1, 0, last + 1, bits + 1, -1];
  for (let bit = 0; bit + width <= packed.length * 8 && seen < pixels;) {
    const at = bit >> 3;
    const three = (packed[at] ?? 0) | ((packed[at + 1] ?? 0) << 8) | ((packed[at + 2] ?? 0) << 16);
    const code = (three >> (bit & 7)) & ((1 << width) - 1);
    bit += width;
    if (code === last) break;
    if (code === clear) {
      [next, width, before] = [last + 1, bits + 1, -1];
      continue;
    }
    // Damaged: libvips says how.
    if (code > next || (before === -1 && code >= clear)) break;
    if (before !== -1 && next < CODES) {
      // The string before, and the first index of this one, which may be the new string itself.
      const added = first[code === next ? before : code] ?? 0;
      first[next] = first[before] ?? 0;
      largest[next] = Math.max(largest[before] ?? -1, largest[added] ?? -1);
      length[next] = (length[before] ?? 0) + 1;
      next += 1;
      if (next === 1 << width && width < 12) width += 1;
    }
    most = Math.max(most, largest[code] ?? -1);
    seen += length[code] ?? 0;
    before = code;
  }
  return most;
}
