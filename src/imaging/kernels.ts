/**
 * What is computed for every pixel of every film, with the bits of OpenCV: in our own WebAssembly (`wasm/`) what most
 * graphs use, the rest in opencv-wasm. `RXRAY_KERNELS=opencv` in the environment puts everything there.
 */
import { readFileSync } from 'node:fs';
import type { Image } from '../core/frame.js';
import * as opencv from './opencv.js';

export { INTERPOLATIONS, toGrey, resize, type Interpolation } from './opencv.js';

/**
 * Contrast-limited adaptive histogram equalisation, as `cv2.createCLAHE(clipLimit, (n, n)).apply`.
 *
 * 8 and 16 bit. Colour is equalised in its lightness alone (L of CIE Lab), 8 bit only: OpenCV has no
 * 16-bit Lab. Throws on floating point. Source: Zuiderveld, Graphics Gems IV (1994).
 */
export function clahe(image: Image, clipLimit: number, tileGridSize: number): Image {
  const { width, height, channels, data } = image;
  const kernels = channels === 1 && !(data instanceof Float32Array) ? load() : undefined;
  if (kernels === undefined) return opencv.clahe(image, clipLimit, tileGridSize);
  const equalise = data instanceof Uint8Array ? kernels.clahe8 : kernels.clahe16;
  const limit = Math.min(clipLimit, data instanceof Uint8Array ? 256 : 65536);
  return inMemory(kernels, image, (pixels) => {
    equalise(pixels, width, height, limit, tileGridSize);
    return { at: pixels, width, height };
  });
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

/** Our kernels; undefined when the user wants OpenCV's. */
function load(): Kernels | undefined {
  if (process.env['RXRAY_KERNELS'] === 'opencv') return undefined;
  // Tests run the sources, beside which nothing is compiled.
  const folder = import.meta.url.endsWith('.ts') ? '../../dist/imaging/' : './';
  compiled ??= new WebAssembly.Module(readFileSync(new URL(`${folder}kernels.wasm`, import.meta.url)));
  instance ??= new WebAssembly.Instance(compiled).exports as Kernels;
  return instance;
}

/** Copies the pixels into the module's memory, has them worked on, and copies the result out. */
function inMemory(
  kernels: Kernels,
  image: Image,
  work: (pixels: number) => { at: number; width: number; height: number },
): Image {
  const { channels, data } = image;
  const Samples = data.constructor as Uint8ArrayConstructor;
  if (data.byteLength > MOST_BYTES) throw new Error(`the image is too large: ${data.byteLength} bytes`);
  try {
    const pixels = kernels.pixels(data.byteLength);
    new Samples(kernels.memory.buffer, pixels, data.length).set(data);
    const { at, width, height } = work(pixels);
    const result = new Samples(kernels.memory.buffer, at, width * height * channels).slice();
    return { width, height, channels, data: result };
  } finally {
    // Also after a trap, whatever it left behind.
    if (kernels.memory.buffer.byteLength > KEEP_BYTES) instance = undefined;
  }
}
