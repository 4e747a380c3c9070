// AssemblyScript. The filters of PNG (ISO/IEC 15948, clause 9).

/**
 * Undoes the filters of `rows` rows in place: each begins with its filter's number, which the result has no longer.
 * `rowBytes` is without it, `step` the bytes of a pixel. Where `isDeep`, samples of 16 bit become little-endian. Returns
 * whether all filters exist.
 */
export function unfilter(at: usize, rowBytes: i32, rows: i32, step: i32, isDeep: bool): bool {
  let from = at;
  let to = at;
  for (let y = 0; y < rows; y++) {
    const filter = load<u8>(from++);
    const above: usize = y == 0 ? 0 : to - <usize>rowBytes;
    // The first row has zeros above it: there, Up changes nothing, and Paeth is Sub.
    if (filter == 0 || (filter == 2 && y == 0)) memory.copy(to, from, rowBytes);
    else if (filter == 1 || (filter == 4 && y == 0)) sub(from, to, rowBytes, step);
    else if (filter == 2) up(from, to, above, rowBytes);
    else if (filter == 3) average(from, to, above, rowBytes, step);
    else if (filter == 4) paeth(from, to, above, rowBytes, step);
    else return false;
    from += rowBytes;
    to += rowBytes;
  }
  if (isDeep) swap(at, to);
  return true;
}

function sub(from: usize, to: usize, bytes: i32, step: i32): void {
  for (let i = 0; i < bytes; i++) {
    store<u8>(to + i, load<u8>(from + i) + (i < step ? 0 : load<u8>(to + i - step)));
  }
}

function up(from: usize, to: usize, above: usize, bytes: i32): void {
  let i = 0;
  for (; i + 16 <= bytes; i += 16) {
    v128.store(to + i, i8x16.add(v128.load(from + i), v128.load(above + i)));
  }
  for (; i < bytes; i++) store<u8>(to + i, load<u8>(from + i) + load<u8>(above + i));
}

function average(from: usize, to: usize, above: usize, bytes: i32, step: i32): void {
  for (let i = 0; i < bytes; i++) {
    const left: i32 = i < step ? 0 : load<u8>(to + i - step);
    const over: i32 = above == 0 ? 0 : load<u8>(above + i);
    store<u8>(to + i, <u8>(load<u8>(from + i) + ((left + over) >> 1)));
  }
}

function paeth(from: usize, to: usize, above: usize, bytes: i32, step: i32): void {
  for (let i = 0; i < step; i++) store<u8>(to + i, load<u8>(from + i) + load<u8>(above + i));
  for (let i = step; i < bytes; i++) {
    const a: i32 = load<u8>(to + i - step);
    const b: i32 = load<u8>(above + i);
    const c: i32 = load<u8>(above + i - step);
    const toA = abs(b - c);
    const toB = abs(a - c);
    const toC = abs(a + b - c - c);
    const nearest = select(a, select(b, c, toB <= toC), (toA <= toB) & (toA <= toC));
    store<u8>(to + i, <u8>(load<u8>(from + i) + nearest));
  }
}

/** Exchanges the two bytes of each sample. */
function swap(at: usize, end: usize): void {
  for (; at + 16 <= end; at += 16) {
    const bytes = v128.load(at);
    v128.store(at, v128.shuffle<u8>(bytes, bytes, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  }
  for (; at < end; at += 2) store<u16>(at, bswap<u16>(load<u16>(at)));
}
