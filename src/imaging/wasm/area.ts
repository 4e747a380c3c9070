// AssemblyScript. Shrinking by the mean over areas with the bits of OpenCV's INTER_AREA (modules/imgproc/src/resize.cpp):
// the same single-precision operations in the same order for each pixel. Four rows are in the lanes of a vector, since the
// sum along a row must be taken pixel by pixel.
import { aligned, grow } from './memory';

/** Shrinks an 8-bit image of one channel. Returns the address of the result. */
export function area8(image: usize, width: i32, height: i32, toWidth: i32, toHeight: i32): usize {
  return shrink<u8>(image, width, height, toWidth, toHeight);
}

/** The same for 16 bit; of whole blocks, none may have more than 256 pixels. */
export function area16(image: usize, width: i32, height: i32, toWidth: i32, toHeight: i32): usize {
  return shrink<u16>(image, width, height, toWidth, toHeight);
}

function shrink<T>(image: usize, width: i32, height: i32, toWidth: i32, toHeight: i32): usize {
  const result = aligned(image + <usize>(width * height) * sizeof<T>());
  const free = aligned(result + <usize>(toWidth * toHeight) * sizeof<T>() + 16);
  if (width % toWidth == 0 && height % toHeight == 0) {
    grow(free);
    blocks<T>(image, width, width / toWidth, height / toHeight, result, toWidth, toHeight);
  } else {
    parts<T>(image, width, height, result, toWidth, toHeight, free);
  }
  return result;
}

/** Means of blocks of whole pixels. */
function blocks<T>(
  image: usize,
  width: i32,
  across: i32,
  down: i32,
  result: usize,
  toWidth: i32,
  toHeight: i32,
): void {
  const scale = <f32>1 / <f32>(across * down);
  for (let y = 0; y < toHeight; y++) {
    for (let x = 0; x < toWidth; x++) {
      let sum: i32 = 0;
      let row = image + <usize>(y * down * width + x * across) * sizeof<T>();
      for (let j = 0; j < down; j++) {
        sum += rowSum<T>(row, across);
        row += <usize>width * sizeof<T>();
      }
      // OpenCV has an integer loop for two by two.
      const mean = across == 2 && down == 2 ? (sum + 2) >> 2 : <i32>nearest<f32>(<f32>sum * scale);
      store<T>(result + <usize>(y * toWidth + x) * sizeof<T>(), <T>mean);
    }
  }
}

function rowSum<T>(at: usize, count: i32): i32 {
  let sums = i32x4.splat(0);
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const eight =
      sizeof<T>() == 1
        ? i16x8.extend_low_i8x16_u(v128.load64_zero(at + i))
        : v128.load(at + <usize>i * sizeof<T>());
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_u(eight));
  }
  let sum =
    i32x4.extract_lane(sums, 0) +
    i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) +
    i32x4.extract_lane(sums, 3);
  for (; i < count; i++) sum += load<T>(at + <usize>i * sizeof<T>());
  return sum;
}

// ── areas that cut pixels ─────────────────────────────────────────────────────────────────────────

/** For each pixel of the result: i32 the first pixel it is made of, i32 how many, and where their weights are. */
const ENTRY_BYTES = 12;

function parts<T>(
  image: usize,
  width: i32,
  height: i32,
  result: usize,
  toWidth: i32,
  toHeight: i32,
  free: usize,
): void {
  const columns = free;
  const rows = aligned(columns + weightBytes(width, toWidth));
  const quads = aligned(rows + weightBytes(height, toHeight));
  const lines = aligned(quads + <usize>(width + 16) * 16);
  const lineBytes = <usize>(toWidth + 3) * 4;
  const sums = aligned(lines + 4 * lineBytes);
  grow(sums + lineBytes + 16);
  weigh(columns, width, toWidth);
  weigh(rows, height, toHeight);
  let group = -1;
  for (let y = 0; y < toHeight; y++) {
    const entry = rows + y * ENTRY_BYTES;
    const first = load<i32>(entry);
    const count = load<i32>(entry, 4);
    const weights = load<usize>(entry, 8);
    for (let i = 0; i < count; i++) {
      const from = first + i;
      if (from >> 2 != group) {
        group = from >> 2;
        gather<T>(image, width, height, group * 4, quads);
        across(quads, columns, toWidth, lines, lineBytes);
      }
      const line = lines + <usize>(from & 3) * lineBytes;
      const weight = f32x4.splat(load<f32>(weights + i * 4));
      for (let x: usize = 0; x < lineBytes - 12; x += 16) {
        const part = f32x4.mul(weight, v128.load(line + x));
        v128.store(sums + x, i == 0 ? part : f32x4.add(v128.load(sums + x), part));
      }
    }
    const to = result + <usize>(y * toWidth) * sizeof<T>();
    for (let x = 0; x < toWidth; x++) {
      const most: f32 = sizeof<T>() == 1 ? 255 : 65535;
      store<T>(to + <usize>x * sizeof<T>(), <T>min<f32>(most, nearest<f32>(load<f32>(sums + x * 4))));
    }
  }
}

function weightBytes(size: i32, toSize: i32): usize {
  return toSize * ENTRY_BYTES + (size + 2 * toSize) * 4;
}

/** Which pixels of a row, and how much of each, make the pixels of a shorter one (computeResizeAreaTab). */
function weigh(entries: usize, size: i32, toSize: i32): void {
  const scale = <f64>1 / (<f64>toSize / <f64>size);
  let weights = entries + toSize * ENTRY_BYTES;
  for (let to = 0; to < toSize; to++) {
    const start = <f64>to * scale;
    const end = start + scale;
    const cell = min<f64>(scale, <f64>size - start);
    const last = min(<i32>floor<f64>(end), size - 1);
    const first = min(<i32>ceil<f64>(start), last);
    const hasHead = <f64>first - start > 1e-3;
    const hasTail = end - <f64>last > 1e-3;
    const entry = entries + to * ENTRY_BYTES;
    store<i32>(entry, hasHead ? first - 1 : first);
    store<usize>(entry, weights, 8);
    const begin = weights;
    if (hasHead) {
      store<f32>(weights, <f32>((<f64>first - start) / cell));
      weights += 4;
    }
    for (let i = first; i < last; i++) {
      store<f32>(weights, <f32>(<f64>1 / cell));
      weights += 4;
    }
    if (hasTail) {
      store<f32>(weights, <f32>(min<f64>(min<f64>(end - <f64>last, 1), cell) / cell));
      weights += 4;
    }
    store<i32>(entry, <i32>((weights - begin) >> 2), 4);
  }
}

/** Four rows from `top` on as f32[width][4]; those below the image are its last. */
function gather<T>(image: usize, width: i32, height: i32, top: i32, quads: usize): void {
  const bytes = <usize>width * sizeof<T>();
  const r0 = image + <usize>top * bytes;
  const r1 = top + 1 < height ? r0 + bytes : r0;
  const r2 = top + 2 < height ? r1 + bytes : r1;
  const r3 = top + 3 < height ? r2 + bytes : r2;
  let x: usize = 0;
  for (; x + 8 * sizeof<T>() <= bytes; x += 8 * sizeof<T>()) {
    const a = eight<T>(r0 + x);
    const b = eight<T>(r1 + x);
    const c = eight<T>(r2 + x);
    const d = eight<T>(r3 + x);
    const ab = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    const cd = v128.shuffle<i16>(c, d, 0, 8, 1, 9, 2, 10, 3, 11);
    const ab2 = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    const cd2 = v128.shuffle<i16>(c, d, 4, 12, 5, 13, 6, 14, 7, 15);
    two(quads, v128.shuffle<i32>(ab, cd, 0, 4, 1, 5));
    two(quads + 32, v128.shuffle<i32>(ab, cd, 2, 6, 3, 7));
    two(quads + 64, v128.shuffle<i32>(ab2, cd2, 0, 4, 1, 5));
    two(quads + 96, v128.shuffle<i32>(ab2, cd2, 2, 6, 3, 7));
    quads += 128;
  }
  for (; x < bytes; x += sizeof<T>()) {
    v128.store(
      quads,
      f32x4(<f32>load<T>(r0 + x), <f32>load<T>(r1 + x), <f32>load<T>(r2 + x), <f32>load<T>(r3 + x)),
    );
    quads += 16;
  }
}

function eight<T>(at: usize): v128 {
  return sizeof<T>() == 1 ? i16x8.extend_low_i8x16_u(v128.load64_zero(at)) : v128.load(at);
}

/** Two pixels of four rows. */
function two(quads: usize, samples: v128): void {
  v128.store(quads, f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(samples)));
  v128.store(quads, f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(samples)), 16);
}

/** The weighed sums along four rows, into four lines. */
function across(quads: usize, columns: usize, toWidth: i32, lines: usize, lineBytes: usize): void {
  for (let x = 0; x < toWidth; x++) {
    const entry = columns + x * ENTRY_BYTES;
    let quad = quads + <usize>load<i32>(entry) * 16;
    let weight = load<usize>(entry, 8);
    const end = weight + <usize>load<i32>(entry, 4) * 4;
    let sum = f32x4.splat(0);
    for (; weight < end; weight += 4) {
      sum = f32x4.add(sum, f32x4.mul(v128.load(quad), v128.load32_splat(weight)));
      quad += 16;
    }
    const line = lines + x * 4;
    store<f32>(line, f32x4.extract_lane(sum, 0));
    store<f32>(line + lineBytes, f32x4.extract_lane(sum, 1));
    store<f32>(line + 2 * lineBytes, f32x4.extract_lane(sum, 2));
    store<f32>(line + 3 * lineBytes, f32x4.extract_lane(sum, 3));
  }
}
