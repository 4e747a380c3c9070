// AssemblyScript. The layout of the module's memory: the pixels first, the tables of a kernel behind them.

/** The first byte that is free for pixels. Below it the compiler has its own data. */
const PIXELS: usize = 4096;

/** Makes room for `bytes` of pixels and returns their address. All earlier contents are lost. */
export function pixels(bytes: usize): usize {
  grow(PIXELS + bytes);
  return PIXELS;
}

/** The first address behind `end` that vectors may be loaded from at full speed. */
export function aligned(end: usize): usize {
  return (end + 63) & ~63;
}

/** Makes the memory reach to `end`. Traps when there is no more. */
export function grow(end: usize): void {
  const pages = <i32>((end + 0xffff) >>> 16) - memory.size();
  if (pages > 0 && memory.grow(pages) < 0) unreachable();
}
