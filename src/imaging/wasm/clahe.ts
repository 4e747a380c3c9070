// AssemblyScript. CLAHE with the bits of OpenCV (modules/imgproc/src/clahe.cpp): the same integers, and the same
// single-precision operations in the same order. What differs is how much memory is read:
//
// - Grey levels that do not occur in the image get no bin. OpenCV has 65536 bins for 16 bit, of which a 12-bit film
//   uses 4096. An empty bin's share of the clipped pixels has a closed form.
// - Between the centres of four tiles, a pixel always uses the same four lookup tables. They are interleaved into one
//   table, so that a pixel needs one load instead of four.
import { aligned, grow } from './memory';

/** Adding it to a float from 0 to 2^22 rounds to an integer, half to even, and leaves that in the low bits. */
const ROUND: f32 = 8388608;
/** With more 16-bit levels than this in use, leaving out the others costs more than it saves. */
const MOST_NUMBERED = 24576;
/** Up to so many bins, four histograms are filled by turns: neighbours of one level need not wait for each other. */
const MOST_SPLIT = 4096;

/** Equalises an 8-bit image in place, as `createCLAHE(clipLimit, Size(tiles, tiles))`; `clipLimit` up to 256. */
export function clahe8(image: usize, width: i32, height: i32, clipLimit: f64, tiles: i32): void {
  equalise<u8>(image, width, height, clipLimit, tiles);
}

/** The same for 16 bit; `clipLimit` up to 65536. */
export function clahe16(image: usize, width: i32, height: i32, clipLimit: f64, tiles: i32): void {
  equalise<u16>(image, width, height, clipLimit, tiles);
}

function equalise<T>(image: usize, width: i32, height: i32, clipLimit: f64, tiles: i32): void {
  const levels = sizeof<T>() == 1 ? 256 : 65536;
  const entry = sizeof<T>() == 1 ? 4 : 2; // bytes of a lookup table's entry: f32 or u16
  // When one side does not divide, OpenCV pads both: one that does divide, by as many pixels as there are tiles.
  const pads = width % tiles != 0 || height % tiles != 0;
  const tileWidth = pads ? (width + tiles - (width % tiles)) / tiles : width / tiles;
  const tileHeight = pads ? (height + tiles - (height % tiles)) / tiles : height / tiles;
  const area = tileWidth * tileHeight;
  const scale = <f32>(levels - 1) / <f32>area;
  const limit = max(<i32>((clipLimit * <f64>area) / <f64>levels), 1);

  const values = aligned(image + <usize>(width * tileHeight * tiles) * sizeof<T>()); // i32[levels]
  const weights = values + levels * 4; // f32[width][4]
  const histograms = aligned(weights + width * 16); // i32[levels], or four of fewer
  const table = histograms + levels * 4 * 4; // entry[levels][4]
  const luts = table + levels * entry * 4; // entry[2][tiles][levels]
  grow(luts + max(levels * entry * tiles * 2, 0x30000));

  const bins = sizeof<T>() == 1 ? everyLevel(values, 256) : numberLevels(image, width * height, values, luts);
  const lut = <usize>(bins * entry);
  // Rows below the image are those above its last row, mirrored; they are read after those have been equalised.
  for (let y = height; y < tileHeight * tiles; y++) {
    const from = image + <usize>(width * mirrored(y, height)) * sizeof<T>();
    memory.copy(image + <usize>(width * y) * sizeof<T>(), from, width * sizeof<T>());
  }
  weighColumns(weights, width, tileWidth);
  memory.fill(histograms, 0, bins * 4 * 4);

  // A row of pixels is done as soon as the tiles above and below it have their tables.
  let bottom = 0;
  for (let below = 0; below <= tiles; below++) {
    const upper = luts + lut * (tiles * (max(below - 1, 0) & 1));
    const lower = luts + lut * (tiles * (min(below, tiles - 1) & 1));
    for (let tile = 0; tile < tiles && below < tiles; tile++) {
      const top = image + <usize>(width * tileHeight * below) * sizeof<T>();
      count<T>(top, width, tile * tileWidth, tileWidth, tileHeight, histograms, bins);
      lookup<T>(histograms, bins, values, levels, limit, scale, lower + lut * tile);
    }
    const top = bottom;
    while (bottom < height && tileBefore(bottom, tileHeight) < below) bottom++;
    if (bottom == top) continue;
    let right = 0;
    for (let after = 0; after <= tiles; after++) {
      const left = right;
      while (right < width && tileBefore(right, tileWidth) < after) right++;
      if (right == left) continue;
      const a = lut * max(after - 1, 0);
      const b = lut * min(after, tiles - 1);
      interleave<T>(upper + a, upper + b, lower + a, lower + b, bins, table);
      for (let y = top; y < bottom; y++) {
        const row = image + <usize>(width * y) * sizeof<T>();
        blend<T>(row, left, right, weights, partBefore(y, tileHeight), table);
      }
    }
  }
}

/** `at` on one side, in tiles, from the centre of the first. */
function inTiles(at: i32, size: i32): f32 {
  return <f32>at * (<f32>1 / <f32>size) - 0.5;
}

/** The tile whose centre is the last before `at`; -1 before the first. */
function tileBefore(at: i32, size: i32): i32 {
  return <i32>floor<f32>(inTiles(at, size));
}

/** How far `at` is from that centre, 0 to 1. */
function partBefore(at: i32, size: i32): f32 {
  return inTiles(at, size) - <f32>tileBefore(at, size);
}

/** BORDER_REFLECT_101: `gfedcb|abcdefgh|gfedcba`. */
function mirrored(at: i32, length: i32): i32 {
  if (length == 1) return 0;
  while (at < 0 || at >= length) at = at < 0 ? -at : 2 * length - 2 - at;
  return at;
}

/** Every level is a bin. Returns how many there are. */
function everyLevel(values: usize, levels: i32): i32 {
  for (let i = 0; i < levels; i++) store<i32>(values + i * 4, i);
  return levels;
}

/**
 * Replaces each pixel by the number of its level among those that occur, and writes their levels into `values`.
 * Returns how many there are, rounded up to whole vectors; 65536, and nothing is replaced, where nearly all occur.
 */
function numberLevels(image: usize, length: i32, values: usize, scratch: usize): i32 {
  const seen = scratch; // u8[65536]
  const numbers = scratch + 65536; // u16[65536]
  memory.fill(seen, 0, 65536);
  const end = image + <usize>length * 2;
  for (let at = image; at < end; at += 2) store<u8>(seen + load<u16>(at), 1);
  let used = 0;
  for (let level = 0; level < 65536; level++) {
    store<u16>(numbers + level * 2, <u16>used);
    store<i32>(values + used * 4, level);
    used += load<u8>(seen + level);
  }
  if (used > MOST_NUMBERED) return everyLevel(values, 65536);
  for (let at = image; at < end; at += 2) store<u16>(at, load<u16>(numbers + <usize>load<u16>(at) * 2));
  return (used + 7) & ~7;
}

/** The weights of the tiles to the left, right, left, right of each column. */
function weighColumns(weights: usize, width: i32, tileWidth: i32): void {
  for (let x = 0; x < width; x++) {
    const right = partBefore(x, tileWidth);
    const left = <f32>1 - right;
    v128.store(weights + x * 16, f32x4(left, right, left, right));
  }
}

/** Adds the pixels of one tile, the first row of which is at `top`, to the histograms. */
function count<T>(
  top: usize,
  width: i32,
  left: i32,
  tileWidth: i32,
  tileHeight: i32,
  histograms: usize,
  bins: i32,
): void {
  const step: usize = bins <= MOST_SPLIT ? <usize>bins * 4 : 0;
  const h1 = histograms + step;
  const h2 = h1 + step;
  const h3 = h2 + step;
  const inside = max(min(width - left, tileWidth), 0);
  for (let y = 0; y < tileHeight; y++) {
    const row = top + <usize>(width * y) * sizeof<T>();
    let at = row + <usize>left * sizeof<T>();
    const end = at + <usize>inside * sizeof<T>();
    const eighth = end - ((end - at) & (8 * sizeof<T>() - 1));
    for (; at < eighth; at += 8 * sizeof<T>()) {
      if (sizeof<T>() == 1) {
        const p = load<u64>(at);
        add(histograms, (<u32>p) & 0xff);
        add(h1, (<u32>(p >> 8)) & 0xff);
        add(h2, (<u32>(p >> 16)) & 0xff);
        add(h3, (<u32>(p >> 24)) & 0xff);
        add(histograms, (<u32>(p >> 32)) & 0xff);
        add(h1, (<u32>(p >> 40)) & 0xff);
        add(h2, (<u32>(p >> 48)) & 0xff);
        add(h3, <u32>(p >> 56));
      } else {
        const p = load<u64>(at);
        const q = load<u64>(at, 8);
        add(histograms, (<u32>p) & 0xffff);
        add(h1, (<u32>(p >> 16)) & 0xffff);
        add(h2, (<u32>(p >> 32)) & 0xffff);
        add(h3, <u32>(p >> 48));
        add(histograms, (<u32>q) & 0xffff);
        add(h1, (<u32>(q >> 16)) & 0xffff);
        add(h2, (<u32>(q >> 32)) & 0xffff);
        add(h3, <u32>(q >> 48));
      }
    }
    for (; at < end; at += sizeof<T>()) add(histograms, load<T>(at));
    // Columns to the right of the image are those before its last column, mirrored.
    for (let x = left + inside; x < left + tileWidth; x++) {
      add(h1, load<T>(row + <usize>mirrored(x, width) * sizeof<T>()));
    }
  }
}

function add(histogram: usize, bin: u32): void {
  const at = histogram + <usize>bin * 4;
  store<i32>(at, load<i32>(at) + 1);
}

/** Makes a lookup table of the histograms, each bin clipped to `limit`, and clears them. */
function lookup<T>(
  histogram: usize,
  bins: i32,
  values: usize,
  levels: i32,
  limit: i32,
  scale: f32,
  lut: usize,
): void {
  const size = <usize>(bins * 4);
  const limits = i32x4.splat(limit);
  const zero = i32x4.splat(0);
  let over = zero;
  for (let at = histogram; at < histogram + size; at += 16) {
    let bin = v128.load(at);
    if (bins <= MOST_SPLIT) {
      bin = i32x4.add(
        i32x4.add(bin, v128.load(at + size)),
        i32x4.add(v128.load(at + size * 2), v128.load(at + size * 3)),
      );
      v128.store(at + size, zero);
      v128.store(at + size * 2, zero);
      v128.store(at + size * 3, zero);
    }
    const kept = i32x4.min_s(bin, limits);
    over = i32x4.add(over, i32x4.sub(bin, kept));
    v128.store(at, kept);
  }
  const clipped =
    i32x4.extract_lane(over, 0) +
    i32x4.extract_lane(over, 1) +
    i32x4.extract_lane(over, 2) +
    i32x4.extract_lane(over, 3);
  // What was clipped is shared out evenly; the remainder goes to every `step`-th level, from level 0 on.
  const batch = i32x4.splat(clipped / levels);
  const remainder = clipped % levels;
  const step = f32x4.splat(remainder == 0 ? 1 : <f32>max(levels / remainder, 1));
  const remainders = i32x4.splat(remainder);
  const one = i32x4.splat(1);
  const scales = f32x4.splat(scale);
  const round = f32x4.splat(ROUND);
  const low = i32x4.splat(0x3fffff);
  let before = zero;
  for (let i: usize = 0; i < size; i += 16) {
    let sum = v128.load(histogram + i);
    v128.store(histogram + i, zero);
    sum = i32x4.add(sum, v128.shuffle<u32>(zero, sum, 0, 4, 5, 6));
    sum = i32x4.add(sum, v128.shuffle<u32>(zero, sum, 0, 1, 4, 5));
    sum = i32x4.add(sum, before);
    before = v128.shuffle<u32>(sum, sum, 3, 3, 3, 3);
    // Up to and with level `value`, there are value + 1 levels, and value / step + 1 that can have of the remainder.
    const value = v128.load(values + i);
    const steps = f32x4.floor(f32x4.div(f32x4.convert_i32x4_s(value), step));
    const extra = i32x4.add(v128.and(f32x4.add(steps, round), low), one);
    const share = i32x4.add(i32x4.mul(i32x4.add(value, one), batch), i32x4.min_s(extra, remainders));
    const level = f32x4.nearest(f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(sum, share)), scales));
    if (sizeof<T>() == 1) {
      v128.store(lut + i, level);
    } else {
      const bits = v128.and(f32x4.add(level, round), low);
      v128.store64_lane(lut + (i >> 1), i16x8.narrow_i32x4_u(bits, bits), 0);
    }
  }
}

/** The entries of four tables behind each other, bin by bin. */
function interleave<T>(a: usize, b: usize, c: usize, d: usize, bins: i32, table: usize): void {
  const end = table + <usize>(bins * 4) * (sizeof<T>() == 1 ? 4 : 2);
  for (; table < end; table += 64) {
    const va = v128.load(a);
    const vb = v128.load(b);
    const vc = v128.load(c);
    const vd = v128.load(d);
    if (sizeof<T>() == 1) {
      const ab = v128.shuffle<u32>(va, vb, 0, 4, 1, 5);
      const cd = v128.shuffle<u32>(vc, vd, 0, 4, 1, 5);
      const ab2 = v128.shuffle<u32>(va, vb, 2, 6, 3, 7);
      const cd2 = v128.shuffle<u32>(vc, vd, 2, 6, 3, 7);
      v128.store(table, v128.shuffle<u64>(ab, cd, 0, 2));
      v128.store(table, v128.shuffle<u64>(ab, cd, 1, 3), 16);
      v128.store(table, v128.shuffle<u64>(ab2, cd2, 0, 2), 32);
      v128.store(table, v128.shuffle<u64>(ab2, cd2, 1, 3), 48);
    } else {
      const ab = v128.shuffle<u16>(va, vb, 0, 8, 1, 9, 2, 10, 3, 11);
      const cd = v128.shuffle<u16>(vc, vd, 0, 8, 1, 9, 2, 10, 3, 11);
      const ab2 = v128.shuffle<u16>(va, vb, 4, 12, 5, 13, 6, 14, 7, 15);
      const cd2 = v128.shuffle<u16>(vc, vd, 4, 12, 5, 13, 6, 14, 7, 15);
      v128.store(table, v128.shuffle<u32>(ab, cd, 0, 4, 1, 5));
      v128.store(table, v128.shuffle<u32>(ab, cd, 2, 6, 3, 7), 16);
      v128.store(table, v128.shuffle<u32>(ab2, cd2, 0, 4, 1, 5), 32);
      v128.store(table, v128.shuffle<u32>(ab2, cd2, 2, 6, 3, 7), 48);
    }
    a += 16;
    b += 16;
    c += 16;
    d += 16;
  }
}

/** Equalises the pixels of a row from `left` to `right`; `down` is the weight of the lower tiles. */
function blend<T>(row: usize, left: i32, right: i32, weights: usize, down: f32, table: usize): void {
  const lower = f32x4.splat(down);
  const upper = f32x4.splat(<f32>1 - down);
  let at = row + <usize>left * sizeof<T>();
  const end = row + <usize>right * sizeof<T>();
  let weight = weights + left * 16;
  for (; at + 4 * sizeof<T>() <= end; at += 4 * sizeof<T>()) {
    const p0 = weighed<T>(table, load<T>(at), weight);
    const p1 = weighed<T>(table, load<T>(at, sizeof<T>()), weight + 16);
    const p2 = weighed<T>(table, load<T>(at, 2 * sizeof<T>()), weight + 32);
    const p3 = weighed<T>(table, load<T>(at, 3 * sizeof<T>()), weight + 48);
    const bits = mixed(p0, p1, p2, p3, upper, lower);
    if (sizeof<T>() == 1) {
      const words = i16x8.narrow_i32x4_u(bits, bits);
      v128.store32_lane(at, i8x16.narrow_i16x8_u(words, words), 0);
    } else {
      v128.store64_lane(at, i16x8.narrow_i32x4_u(bits, bits), 0);
    }
    weight += 64;
  }
  for (; at < end; at += sizeof<T>()) {
    const p = weighed<T>(table, load<T>(at), weight);
    store<T>(at, <T>i32x4.extract_lane(mixed(p, p, p, p, upper, lower), 0));
    weight += 16;
  }
}

/** What the four tables give for a pixel of one bin, times the weights of their columns. */
function weighed<T>(table: usize, bin: u32, weight: usize): v128 {
  const entries =
    sizeof<T>() == 1
      ? v128.load(table + <usize>bin * 16)
      : f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(v128.load64_zero(table + <usize>bin * 8)));
  return f32x4.mul(entries, v128.load(weight));
}

/** The sums for four pixels, as integers. */
function mixed(p0: v128, p1: v128, p2: v128, p3: v128, upper: v128, lower: v128): v128 {
  const s01 = f32x4.add(v128.shuffle<u32>(p0, p1, 0, 2, 4, 6), v128.shuffle<u32>(p0, p1, 1, 3, 5, 7));
  const s23 = f32x4.add(v128.shuffle<u32>(p2, p3, 0, 2, 4, 6), v128.shuffle<u32>(p2, p3, 1, 3, 5, 7));
  const above = f32x4.mul(v128.shuffle<u32>(s01, s23, 0, 2, 4, 6), upper);
  const below = f32x4.mul(v128.shuffle<u32>(s01, s23, 1, 3, 5, 7), lower);
  return v128.and(f32x4.add(f32x4.add(above, below), f32x4.splat(ROUND)), i32x4.splat(0x3fffff));
}
