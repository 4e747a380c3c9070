/**
 * Pixel operations, bit-identical to OpenCV's: the common ones in our own WebAssembly (`wasm/`), the rest in
 * opencv-wasm. With `RXRAY_KERNELS=opencv` in the environment, all of them run in opencv-wasm, and libvips decodes all
 * PNG and JPEG files.
 */
import { readFileSync } from 'node:fs';
import type { Image } from '../core/frame.js';
import { copyOf } from '../core/image-memory.js';
import * as opencv from './opencv.js';

export { INTERPOLATIONS, toGrey, type Interpolation } from './opencv.js';

/**
 * Contrast-limited adaptive histogram equalisation, as `cv2.createCLAHE(clipLimit, (n, n)).apply`.
 *
 * 8 and 16 bit. Colour is equalised in its lightness alone (L of CIE Lab), 8 bit only: OpenCV has no
 * 16-bit Lab. Throws on floating point. Source: Zuiderveld, Graphics Gems IV (1994).
 */
export function clahe(image: Image, clipLimit: number, tileGridSize: number): Image {
  const { width, height, channels, data } = image;
  const kernels = channels === 1 && !(data instanceof Float32Array) ? selected() : undefined;
  if (kernels === undefined) return opencv.clahe(image, clipLimit, tileGridSize);
  const equalise = data instanceof Uint8Array ? kernels.clahe8 : kernels.clahe16;
  const limit = Math.min(clipLimit, data instanceof Uint8Array ? 256 : 65536);
  return inMemory(kernels, data.byteLength, (memory, pixels) => {
    const Samples = data.constructor as Uint8ArrayConstructor;
    new Samples(memory.buffer, pixels, data.length).set(data);
    equalise(pixels, width, height, limit, tileGridSize);
    return { width, height, channels, data: copyOf(new Samples(memory.buffer, pixels, data.length)) };
  });
}

/** The image at another size, as `cv2.resize`: any sample type, any channel count. */
export function resize(
  image: Image,
  width: number,
  height: number,
  interpolation: opencv.Interpolation,
): Image {
  const kernels = interpolation === 'area' && isShrunk(image, width, height) ? selected() : undefined;
  if (kernels === undefined) return opencv.resize(image, width, height, interpolation);
  const { data } = image;
  const shrink = data instanceof Uint8Array ? kernels.area8 : kernels.area16;
  return inMemory(kernels, data.byteLength, (memory, pixels) => {
    const Samples = data.constructor as Uint8ArrayConstructor;
    new Samples(memory.buffer, pixels, data.length).set(data);
    const result = shrink(pixels, image.width, image.height, width, height);
    return { width, height, channels: 1, data: copyOf(new Samples(memory.buffer, result, width * height)) };
  });
}

/** Whether our kernel for areas supports it: one channel of integers, smaller in both directions. */
function isShrunk({ channels, data, ...from }: Image, width: number, height: number): boolean {
  if (channels !== 1 || data instanceof Float32Array) return false;
  if (width > from.width || height > from.height || width < 1 || height < 1) return false;
  // OpenCV sums up whole blocks of 16 bit in floating point, which rounds from this number of pixels on.
  const isWhole = from.width % width === 0 && from.height % height === 0;
  return !(isWhole && data instanceof Uint16Array && (from.width * from.height) / (width * height) > 256);
}

/** A baseline JPEG of 8 bit, grey or with two components of colour, as its header describes it. */
export interface JpegScan {
  readonly width: number;
  readonly height: number;
  /** Blocks of luma that an MCU has in a row, and in a column. */
  readonly across: number;
  readonly down: number;
  readonly coloured: boolean;
  /** In MCUs; 0: none. */
  readonly restartInterval: number;
  /** Of luma, in zigzag order. */
  readonly quantisers: Uint16Array;
  /** Huffman tables: luma DC and AC, colour DC and AC, each with the number of codes by length (1 to 16) and 256 symbols. */
  readonly codes: Uint8Array;
  /** The entropy-coded data with its markers, to the end of the file. */
  readonly data: Uint8Array;
}

/**
 * The grey levels of a JPEG, with the bits of libjpeg (ISLOW). Undefined for damaged files, colours, and where
 * libjpeg's result depends on the processor: the caller must then use another decoder.
 */
export function decodeJpeg(scan: JpegScan): Image | undefined {
  const kernels = selected();
  if (kernels === undefined) return undefined;
  const { width, height, across, down, data, quantisers, codes } = scan;
  const room = align(width, 8 * across) * align(height, 8 * down);
  const [tables, entropy] = [room + quantisers.byteLength, room + quantisers.byteLength + codes.length];
  return inMemory(kernels, entropy + data.length, (memory, pixels) => {
    const at = (offset: number, length: number): Uint8Array =>
      new Uint8Array(memory.buffer, pixels + offset, length);
    new Uint16Array(memory.buffer, pixels + room, quantisers.length).set(quantisers);
    at(tables, codes.length).set(codes);
    at(entropy, data.length).set(data);
    const isWhole = kernels.jpeg(
      pixels,
      width,
      height,
      across,
      down,
      scan.coloured,
      scan.restartInterval,
      pixels + room,
      pixels + entropy,
      pixels + entropy + data.length,
    );
    if (isWhole === 0) return undefined;
    return { width, height, channels: 1, data: copyOf(at(0, width * height)) };
  });
}

/** The rows of a PNG, or of one pass of an interlaced one. */
export interface PngRows {
  /** Bytes of a row, without its filter. */
  readonly rowBytes: number;
  readonly rows: number;
  /** Bytes of a pixel; 1 for pixels of fewer than 8 bits. */
  readonly step: number;
  /** Whether samples have 16 bits; they become little-endian. */
  readonly isDeep: boolean;
}

/**
 * The bytes of a PNG's rows, from its inflated data, in which each row begins with its filter. Undefined for a filter that
 * does not exist. `RXRAY_KERNELS` does not apply: OpenCV has no such operation.
 */
export function unfilterPng(
  filtered: Uint8Array,
  { rowBytes, rows, step, isDeep }: PngRows,
): Uint8Array | undefined {
  const kernels = load();
  return inMemory(kernels, filtered.length, (memory, pixels) => {
    new Uint8Array(memory.buffer, pixels, filtered.length).set(filtered);
    if (kernels.unfilter(pixels, rowBytes, rows, step, isDeep) === 0) return undefined;
    return copyOf(new Uint8Array(memory.buffer, pixels, rowBytes * rows));
  });
}

function align(length: number, unit: number): number {
  return Math.ceil(length / unit) * unit;
}

// ── the module ────────────────────────────────────────────────────────────────────────────────────

/** What `wasm/index.ts` exports. Addresses and sizes are in bytes, images as in {@link Image}. */
interface Kernels {
  readonly memory: { readonly buffer: ArrayBuffer };
  /** Makes room for pixels and returns their address. */
  pixels(bytes: number): number;
  /** In place. */
  clahe8(image: number, width: number, height: number, clipLimit: number, tiles: number): void;
  clahe16(image: number, width: number, height: number, clipLimit: number, tiles: number): void;
  /** Return the address of the result. */
  area8(image: number, width: number, height: number, toWidth: number, toHeight: number): number;
  area16(image: number, width: number, height: number, toWidth: number, toHeight: number): number;
  jpeg(
    image: number,
    width: number,
    height: number,
    across: number,
    down: number,
    coloured: boolean,
    restartInterval: number,
    tables: number,
    scan: number,
    end: number,
  ): number;
  unfilter(image: number, rowBytes: number, rows: number, step: number, isDeep: boolean): number;
}

// TypeScript declares it with the browser's things only.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Memory that is kept for the next film; WebAssembly's never shrinks. */
const KEEP_BYTES = 64 * 1024 ** 2;
/** Addresses have 32 bits, and the tables need some, too. */
const MOST_BYTES = 3 * 1024 ** 3;

let compiled: object | undefined;
let instance: Kernels | undefined;

/** Whether the user has selected the libraries instead of our own kernels. */
export function usesLibraries(): boolean {
  return process.env['RXRAY_KERNELS'] === 'opencv';
}

function selected(): Kernels | undefined {
  return usesLibraries() ? undefined : load();
}

function load(): Kernels {
  // Tests run the sources, beside which nothing is compiled.
  const folder = import.meta.url.endsWith('.ts') ? '../../dist/imaging/' : './';
  compiled ??= new WebAssembly.Module(readFileSync(new URL(`${folder}kernels.wasm`, import.meta.url)));
  instance ??= new WebAssembly.Instance(compiled).exports as Kernels;
  return instance;
}

/** Makes room for pixels in the module's memory and has it used. Views of the memory are void after each kernel. */
function inMemory<T>(
  kernels: Kernels,
  bytes: number,
  work: (memory: Kernels['memory'], pixels: number) => T,
): T {
  if (bytes > MOST_BYTES) throw new Error(`the image is too large: ${bytes} bytes`);
  try {
    return work(kernels.memory, kernels.pixels(bytes));
  } finally {
    // Also after a trap, whatever it left behind.
    if (kernels.memory.buffer.byteLength > KEEP_BYTES) instance = undefined;
  }
}
