// AssemblyScript. Baseline JPEG (ITU-T T.81, sequential DCT, Huffman coding), grey or with colour components that say
// nothing but grey, with the bits of libjpeg's "slow" integer transform (jidctint.c). Only files without any fault are
// decoded; at any fault the caller uses libjpeg, which reports it.
//
// What makes it quick: stuffed bytes are taken out before, and the rest is laid down backwards, so that one load gives the
// next 57 bits in order; one table entry gives a coefficient with its code, run and sign where ten bits hold them.
import { aligned, grow } from './memory';

/** Bits that a table is looked up with. */
const PEEK = 10;
/** No block has more bytes: 64 times the longest code with the longest coefficient. */
const MOST_BLOCK_BYTES = 256;
/** Beyond, libjpeg's 16-bit arithmetic may overflow. */
const MOST_COEFFICIENT = 16384;
/** Beyond, libjpeg clips or wraps, as its processor does. */
const MOST_SAMPLE = 512;

// The layout of the tables' memory, in bytes.
const QUANTISERS = 0; // u16[64], in zigzag order
const CODES = 128; // four Huffman tables: luma DC, AC, colour DC, AC, each u8[16] counts and u8[256] symbols
const CODES_BYTES = 272;
/** A decoding table: u32[1024] by the next bits; for longer codes i32[32] ends and i32[32] offsets by length, and the codes. */
const ENDS = 4096;
const OFFSETS = ENDS + 128;
const CODES_AT = OFFSETS + 128;
const LOOKUP_BYTES = CODES_AT + 64;

/** Entries of a lookup: bits 0-7 the bits to skip, 8-15 the run, 16-31 the value. */
const LONG: u32 = 0;
/** Bit 7: only the code was found: bits 8-15 are its symbol, bits 0-5 its length. */
const CODE_ONLY: u32 = 0x80;

/** The natural place of each coefficient; those behind the last one end nowhere. */
const NATURAL = memory.data<u8>([
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46,
  53, 60, 61, 54, 47, 55, 62, 63,
]);

/** Where the next bit is. `stream` is the address behind the first byte, from which it goes down. */
let stream: usize = 0;
let position: usize = 0;
/** The bits of all coefficients times their quantisers, and of what became of them, that are not signs. */
let coefficients: i32 = 0;
let samples: v128 = i16x8.splat(0);
let sums: v128 = i16x8.splat(0);
let block: usize = 0;
let quantisers: usize = 0;

/**
 * Decodes one scan into `image`, u8[height][width], which must have room for whole MCUs. `across` × `down` luma blocks are
 * in an MCU (1 and 1 without colour). The tables are at `tables`, the scan from `scan` to `end`. Returns whether
 * there was no fault.
 */
export function jpeg(
  image: usize,
  width: i32,
  height: i32,
  across: i32,
  down: i32,
  coloured: bool,
  restartInterval: i32,
  tables: usize,
  scan: usize,
  end: usize,
): bool {
  const lookups = aligned(end);
  block = aligned(lookups + 4 * LOOKUP_BYTES);
  const clean = block + 128;
  grow(clean + (end - scan) + 2 * MOST_BLOCK_BYTES + 64);
  const last = clean + (end - scan) + 2 * MOST_BLOCK_BYTES + 32;
  quantisers = tables + QUANTISERS;
  const used = coloured ? 4 : 2;
  for (let i = 0; i < used; i++) {
    const codes = tables + CODES + i * CODES_BYTES;
    if (!makeLookup(codes, lookups + i * LOOKUP_BYTES, (i & 1) == 0)) return false;
  }
  const dc = lookups;
  const ac = dc + LOOKUP_BYTES;
  const colourDc = ac + LOOKUP_BYTES;
  const colourAc = colourDc + LOOKUP_BYTES;
  coefficients = 0;
  samples = sums = i16x8.splat(0);
  const columns = (width + 8 * across - 1) / (8 * across);
  const rows = (height + 8 * down - 1) / (8 * down);
  const stride = columns * across * 8;
  const mcus = columns * rows;
  const interval = restartInterval == 0 ? mcus : restartInterval;
  let at = scan;
  let x = 0;
  let y = 0;
  for (let from = 0, restart = 0; from < mcus; from += interval, restart++) {
    const next = unstuffed(at, end, last);
    if (next == 0) return false;
    const bits = (next - at - removed) << 3;
    const to = min(from + interval, mcus);
    // Behind a marker comes the next restart, in order, or the end.
    const marker = load<u8>(next + 1);
    if (marker != (to == mcus ? 0xd9 : 0xd0 + (restart & 7))) return false;
    at = next + 2;
    stream = last;
    position = 0;
    let level = 0;
    for (let mcu = from; mcu < to; mcu++) {
      for (let j = 0; j < down; j++) {
        for (let i = 0; i < across; i++) {
          const filled = coefficientsOf(dc, ac, level);
          if (filled < 0 || position > bits) return false;
          level = dcLevel;
          const corner = image + (y * down + j) * 8 * stride + (x * across + i) * 8;
          if (filled == 0) fill(corner, stride, <i16>(level * load<u16>(quantisers)));
          else transform(corner, stride);
        }
      }
      if (coloured && !(isNeutral(colourDc, colourAc) && isNeutral(colourDc, colourAc))) return false;
      if (position > bits) return false;
      if (++x == columns) {
        x = 0;
        y++;
      }
    }
    if (bits - position >= 8) return false;
  }
  if (coefficients >= MOST_COEFFICIENT) return false;
  if (v128.any_true(i16x8.ge_u(sums, i16x8.splat(<i16>MOST_COEFFICIENT)))) return false;
  if (v128.any_true(i16x8.ge_u(samples, i16x8.splat(<i16>MOST_SAMPLE)))) return false;
  if (stride != width) {
    for (let row = 1; row < height; row++) memory.copy(image + row * width, image + row * stride, width);
  }
  return true;
}

// ── bits ──────────────────────────────────────────────────────────────────────────────────────────

/** Bytes that {@link unstuffed} took out. */
let removed: usize = 0;

/** Lays down the bytes from `at` to the next marker backwards, below `to`. Returns the marker's address; 0: there is none. */
function unstuffed(at: usize, end: usize, to: usize): usize {
  removed = 0;
  const marks = i8x16.splat(-1);
  while (at + 1 < end) {
    if (at + 16 <= end) {
      const bytes = v128.load(at);
      if (!v128.any_true(i8x16.eq(bytes, marks))) {
        to -= 16;
        v128.store(to, v128.shuffle<u8>(bytes, bytes, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
        at += 16;
        continue;
      }
    }
    for (const stop = min(at + 16, end - 1); at < stop; at++) {
      const byte = load<u8>(at);
      if (byte == 0xff) {
        if (load<u8>(at, 1) != 0) {
          memory.fill(to - MOST_BLOCK_BYTES - 16, 0, MOST_BLOCK_BYTES + 16);
          return at;
        }
        at++;
        removed++;
      }
      store<u8>(--to, byte);
    }
  }
  return 0;
}

/** The next 57 bits at least, from the highest one on. */
function peek(): u64 {
  return load<u64>(stream - (position >> 3) - 8) << (position & 7);
}

/** A coefficient of so many bits, which are the highest of `bits` (T.81, F.12). */
function extended(bits: u64, size: i32): i32 {
  const value = <i32>(bits >> (64 - size));
  return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

/** Makes a decoding table of a Huffman table; returns whether that is one for 8-bit samples. */
function makeLookup(codes: usize, lookup: usize, isDc: bool): bool {
  memory.fill(lookup, 0, LOOKUP_BYTES);
  store<usize>(lookup + CODES_AT, codes);
  let code = 0;
  let index = 0;
  for (let length = 1; length <= 16; length++) {
    store<i32>(lookup + OFFSETS + length * 4, index - code);
    for (let left: i32 = load<u8>(codes + length - 1); left > 0; left--, code++, index++) {
      if (code >= (1 << length) - 1 || index > 255) return false;
      const symbol: u32 = load<u8>(codes + 16 + index);
      const size = symbol & 15;
      if (isDc ? symbol > 11 : size > 10) return false;
      if (length > PEEK) continue;
      const free = PEEK - length;
      for (let i = 0; i < 1 << free; i++) {
        let entry = CODE_ONLY | (<u32>length) | (symbol << 8);
        if (!isDc && size > 0 && <i32>size <= free) {
          const value = extended((<u64>i) << (64 - free), size);
          entry = (<u32>length + size) | ((symbol >> 4) << 8) | ((<u32>value) << 16);
        }
        store<u32>(lookup + (((code << free) | i) << 2), entry);
      }
    }
    store<i32>(lookup + ENDS + length * 4, code);
    code <<= 1;
  }
  return true;
}

/** Decodes a symbol whose code is longer than the lookup's bits: its entry. 0: there is none. */
function longCode(bits: u64, lookup: usize): u32 {
  for (let length = PEEK + 1; length <= 16; length++) {
    const code = <i32>(bits >> (64 - length));
    if (code < load<i32>(lookup + ENDS + length * 4)) {
      const index = code + load<i32>(lookup + OFFSETS + length * 4);
      return CODE_ONLY | length | ((<u32>load<u8>(load<usize>(lookup + CODES_AT) + 16 + index)) << 8);
    }
  }
  return LONG;
}

/** The level of the block decoded last, before its quantiser. */
let dcLevel: i32 = 0;

/** Decodes a block of luma. Returns 0 if it has one level only, -1 at a fault, 1 otherwise. */
function coefficientsOf(dc: usize, ac: usize, before: i32): i32 {
  let bits = peek();
  let entry = load<u32>(dc + <usize>(bits >> (64 - PEEK)) * 4);
  if (entry == LONG) {
    entry = longCode(bits, dc);
    if (entry == LONG) return -1;
  }
  const length: i32 = entry & 63;
  const size: i32 = entry >> 8;
  dcLevel = before;
  if (size > 0) dcLevel += extended(bits << length, size);
  position += length + size;
  const level = dcLevel * load<u16>(quantisers);
  coefficients |= level ^ (level >> 31);

  let isFlat = true;
  let at = 1;
  let seen = coefficients;
  for (;;) {
    bits = peek();
    entry = load<u32>(ac + <usize>(bits >> (64 - PEEK)) * 4);
    let value: i32;
    if ((entry & CODE_ONLY) == 0 && entry != LONG) {
      at += (entry >> 8) & 255;
      value = (<i32>entry) >> 16;
      position += entry & 255;
    } else {
      if (entry == LONG) {
        entry = longCode(bits, ac);
        if (entry == LONG) return -1;
      }
      const length: i32 = entry & 63;
      const symbol: i32 = (entry >> 8) & 255;
      const size = symbol & 15;
      position += length + size;
      if (size == 0) {
        if (symbol != 0xf0) break;
        at += 16;
        if (at > 63) return -1;
        continue;
      }
      at += symbol >> 4;
      value = extended(bits << length, size);
    }
    if (at > 63) return -1;
    if (isFlat) {
      isFlat = false;
      clear();
    }
    value *= load<u16>(quantisers + at * 2);
    seen |= value ^ (value >> 31);
    store<i16>(block + <usize>load<u8>(NATURAL + at) * 2, <i16>value);
    if (++at == 64) break;
  }
  coefficients = seen;
  if (isFlat) return 0;
  store<i16>(block, <i16>level);
  return 1;
}

/** For so few bytes `memory.fill` takes longer. */
function clear(): void {
  const zero = i16x8.splat(0);
  for (let i: usize = 0; i < 128; i += 16) v128.store(block + i, zero);
}

/** Passes over a block of colour; returns whether it has none, and no fault. */
function isNeutral(dc: usize, ac: usize): bool {
  const bits = peek();
  let entry = load<u32>(dc + <usize>(bits >> (64 - PEEK)) * 4);
  if (entry == LONG) entry = longCode(bits, dc);
  if (entry == LONG || entry >> 8 != 0) return false;
  const length = entry & 63;
  entry = load<u32>(ac + <usize>((bits << length) >> (64 - PEEK)) * 4);
  if (entry == LONG) entry = longCode(bits << length, ac);
  position += length + (entry & 63);
  return (entry & CODE_ONLY) != 0 && entry >> 8 == 0;
}

// ── the inverse transform ─────────────────────────────────────────────────────────────────────────

/** Writes a block of one level. */
function fill(corner: usize, stride: i32, level: i16): void {
  const sample = ((<i32>level * 4 + 16) >> 5) as i16;
  samples = v128.or(samples, magnitude(i16x8.splat(sample)));
  const row = i8x16.splat(<i8>(max(-128, min(127, <i32>sample)) + 128));
  for (let y = 0; y < 8; y++) v128.store64_lane(corner + y * stride, row, 0);
}

/** Writes the block that {@link block} has the coefficients of: columns first, then rows, as libjpeg rounds. */
function transform(corner: usize, stride: i32): void {
  pass<i16>();
  sums = v128.or(sums, magnitudes());
  transpose();
  pass<i8>();
  samples = v128.or(samples, magnitudes());
  transpose();
  const middle = i8x16.splat(-128);
  for (let y: usize = 0; y < 8; y += 2) {
    const rows = i8x16.narrow_i16x8_s(v128.load(block + y * 16), v128.load(block + y * 16, 16));
    const bytes = v128.xor(rows, middle);
    v128.store64_lane(corner + y * stride, bytes, 0);
    v128.store64_lane(corner + (y + 1) * stride, bytes, 1);
  }
}

/** The bits of the lanes that are not signs. */
function magnitude(lanes: v128): v128 {
  return v128.xor(lanes, i16x8.shr_s(lanes, 15));
}

function magnitudes(): v128 {
  let all = i16x8.splat(0);
  for (let i: usize = 0; i < 128; i += 16) all = v128.or(all, magnitude(v128.load(block + i)));
  return all;
}

/** Two 16-bit factors, by turns: of the even and of the odd lanes. */
function factors(even: i32, odd: i32): v128 {
  return i32x4.splat((odd << 16) | (even & 0xffff));
}

function low(a: v128, b: v128): v128 {
  return v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}

function high(a: v128, b: v128): v128 {
  return v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

/** Stores rows `row` and 7 - `row` of a pass: the sums and differences of the even and the odd part. */
function put(row: usize, evenLow: v128, oddLow: v128, evenHigh: v128, oddHigh: v128, shift: i32): void {
  const sum = i16x8.narrow_i32x4_s(
    i32x4.shr_s(i32x4.add(evenLow, oddLow), shift),
    i32x4.shr_s(i32x4.add(evenHigh, oddHigh), shift),
  );
  const difference = i16x8.narrow_i32x4_s(
    i32x4.shr_s(i32x4.sub(evenLow, oddLow), shift),
    i32x4.shr_s(i32x4.sub(evenHigh, oddHigh), shift),
  );
  v128.store(block + row * 16, sum);
  v128.store(block + (7 - row) * 16, difference);
}

/**
 * A one-dimensional transform of the eight columns of {@link block}, in place, the results shifted right (jidctint.c; the
 * products in pairs, as its SIMD versions have them: the same integers). Factors are multiples of 2^-13.
 */
function pass<T>(): void {
  const shift = sizeof<T>() == 2 ? 11 : 18;
  const r0 = v128.load(block);
  const r1 = v128.load(block, 16);
  const r2 = v128.load(block, 32);
  const r3 = v128.load(block, 48);
  const r4 = v128.load(block, 64);
  const r5 = v128.load(block, 80);
  const r6 = v128.load(block, 96);
  const r7 = v128.load(block, 112);
  const half = i32x4.splat(1 << (shift - 1));

  const sum = i16x8.add(r0, r4);
  const difference = i16x8.sub(r0, r4);
  const sumLow = i32x4.add(i32x4.shl(i32x4.extend_low_i16x8_s(sum), 13), half);
  const sumHigh = i32x4.add(i32x4.shl(i32x4.extend_high_i16x8_s(sum), 13), half);
  const differenceLow = i32x4.add(i32x4.shl(i32x4.extend_low_i16x8_s(difference), 13), half);
  const differenceHigh = i32x4.add(i32x4.shl(i32x4.extend_high_i16x8_s(difference), 13), half);
  const l26 = low(r2, r6);
  const h26 = high(r2, r6);
  const a = factors(10703, 4433);
  const b = factors(4433, -10704);
  const aLow = i32x4.dot_i16x8_s(l26, a);
  const aHigh = i32x4.dot_i16x8_s(h26, a);
  const bLow = i32x4.dot_i16x8_s(l26, b);
  const bHigh = i32x4.dot_i16x8_s(h26, b);

  const z3 = i16x8.add(r3, r7);
  const z4 = i16x8.add(r1, r5);
  const lz = low(z3, z4);
  const hz = high(z3, z4);
  const f3 = factors(-6436, 9633);
  const f4 = factors(9633, 6437);
  const z3Low = i32x4.dot_i16x8_s(lz, f3);
  const z3High = i32x4.dot_i16x8_s(hz, f3);
  const z4Low = i32x4.dot_i16x8_s(lz, f4);
  const z4High = i32x4.dot_i16x8_s(hz, f4);
  const l71 = low(r7, r1);
  const h71 = high(r7, r1);
  const l53 = low(r5, r3);
  const h53 = high(r5, r3);
  const f0 = factors(-4927, -7373);
  const f1 = factors(-4176, -20995);
  const f2 = factors(-20995, 4177);
  const f5 = factors(-7373, 4926);
  put(
    0,
    i32x4.add(sumLow, aLow),
    i32x4.add(i32x4.dot_i16x8_s(l71, f5), z4Low),
    i32x4.add(sumHigh, aHigh),
    i32x4.add(i32x4.dot_i16x8_s(h71, f5), z4High),
    shift,
  );
  put(
    1,
    i32x4.add(differenceLow, bLow),
    i32x4.add(i32x4.dot_i16x8_s(l53, f2), z3Low),
    i32x4.add(differenceHigh, bHigh),
    i32x4.add(i32x4.dot_i16x8_s(h53, f2), z3High),
    shift,
  );
  put(
    2,
    i32x4.sub(differenceLow, bLow),
    i32x4.add(i32x4.dot_i16x8_s(l53, f1), z4Low),
    i32x4.sub(differenceHigh, bHigh),
    i32x4.add(i32x4.dot_i16x8_s(h53, f1), z4High),
    shift,
  );
  put(
    3,
    i32x4.sub(sumLow, aLow),
    i32x4.add(i32x4.dot_i16x8_s(l71, f0), z3Low),
    i32x4.sub(sumHigh, aHigh),
    i32x4.add(i32x4.dot_i16x8_s(h71, f0), z3High),
    shift,
  );
}

/** Turns the rows of {@link block} into columns. */
function transpose(): void {
  const r0 = v128.load(block);
  const r1 = v128.load(block, 16);
  const r2 = v128.load(block, 32);
  const r3 = v128.load(block, 48);
  const r4 = v128.load(block, 64);
  const r5 = v128.load(block, 80);
  const r6 = v128.load(block, 96);
  const r7 = v128.load(block, 112);
  // Eight by eight is a perfect shuffle of the rows, three times.
  const a0 = low(r0, r4);
  const a1 = high(r0, r4);
  const a2 = low(r1, r5);
  const a3 = high(r1, r5);
  const a4 = low(r2, r6);
  const a5 = high(r2, r6);
  const a6 = low(r3, r7);
  const a7 = high(r3, r7);
  const b0 = low(a0, a4);
  const b1 = high(a0, a4);
  const b2 = low(a1, a5);
  const b3 = high(a1, a5);
  const b4 = low(a2, a6);
  const b5 = high(a2, a6);
  const b6 = low(a3, a7);
  const b7 = high(a3, a7);
  v128.store(block, low(b0, b4));
  v128.store(block, high(b0, b4), 16);
  v128.store(block, low(b1, b5), 32);
  v128.store(block, high(b1, b5), 48);
  v128.store(block, low(b2, b6), 64);
  v128.store(block, high(b2, b6), 80);
  v128.store(block, low(b3, b7), 96);
  v128.store(block, high(b3, b7), 112);
}
