/**
 * The only module that uses opencv-wasm; graphs use it through `kernels.ts`. Its functions take and return plain
 * {@link Image}s and are bit-identical to native OpenCV (`cubic` may differ by one level in a pixel of 750). OpenCV
 * loads on the first call, once per thread (90 ms, 35 MB).
 */
import { createRequire } from 'node:module';
import type { Image, Samples } from '../core/frame.js';

/** Interpolation by OpenCV's names, in lower case without the prefix: `area` is `INTER_AREA`. */
export const INTERPOLATIONS = ['nearest', 'linear', 'cubic', 'area', 'lanczos4'] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];

/**
 * Contrast-limited adaptive histogram equalisation, as `cv2.createCLAHE(clipLimit, (n, n)).apply`.
 *
 * 8 and 16 bit. Colour is equalised in its lightness alone (L of CIE Lab), 8 bit only: OpenCV has no
 * 16-bit Lab. Throws on floating point. Source: Zuiderveld, Graphics Gems IV (1994).
 */
export function clahe(image: Image, clipLimit: number, tileGridSize: number): Image {
  if (image.data instanceof Float32Array) {
    throw new Error(
      'CLAHE counts grey levels and needs 8 or 16-bit samples, the image has floating-point ones',
    );
  }
  if (image.channels === 3 && image.data instanceof Uint16Array) {
    throw new Error('CLAHE of 16-bit colour is not supported: decode the image with `color: grey`');
  }
  // From one full histogram on, nothing is clipped; a larger number only overflows OpenCV's integers.
  const levels = image.data instanceof Uint8Array ? 256 : 65536;
  return withOpenCv((cv, own) => {
    const kernel = own(new cv.CLAHE(Math.min(clipLimit, levels), new cv.Size(tileGridSize, tileGridSize)));
    const source = own(toMat(cv, image));
    const result = own(new cv.Mat());
    if (image.channels === 1) {
      kernel.apply(source, result);
      return fromMat(result, image);
    }
    cv.cvtColor(source, source, cv.COLOR_RGB2Lab);
    const planes = own(new cv.MatVector());
    cv.split(source, planes);
    const lightness = own(planes.get(0));
    kernel.apply(lightness, result);
    planes.set(0, result);
    cv.merge(planes, source);
    cv.cvtColor(source, source, cv.COLOR_Lab2RGB);
    return fromMat(source, image);
  });
}

/** Histogram equalisation of 8-bit grey, as `cv2.equalizeHist`. */
export function equalizeHist(image: Image): Image {
  return withOpenCv((cv, own) => {
    const source = own(toMat(cv, image));
    const result = own(new cv.Mat());
    cv.equalizeHist(source, result);
    return fromMat(result, image);
  });
}

/** The image at another size, as `cv2.resize`: any sample type, any channel count. */
export function resize(image: Image, width: number, height: number, interpolation: Interpolation): Image {
  return withOpenCv((cv, own) => {
    const source = own(toMat(cv, image));
    const result = own(new cv.Mat());
    cv.resize(source, result, new cv.Size(width, height), 0, 0, FLAGS[interpolation]);
    return fromMat(result, image);
  });
}

/** Colour to grey by Rec. 601 luma, as `cv2.COLOR_RGB2GRAY`; equal channels keep their value exactly. */
export function toGrey(image: Image): Image {
  if (image.channels === 1) return image;
  return withOpenCv((cv, own) => {
    const source = own(toMat(cv, image));
    const result = own(new cv.Mat());
    cv.cvtColor(source, result, cv.COLOR_RGB2GRAY);
    return fromMat(result, { ...image, channels: 1 });
  });
}

// ── the library ───────────────────────────────────────────────────────────────────────────────────

/** OpenCV's own numbers for `INTER_*`. */
const FLAGS: Readonly<Record<Interpolation, number>> = {
  nearest: 0,
  linear: 1,
  cubic: 2,
  area: 3,
  lanczos4: 4,
};

/** On the WASM heap, which is not garbage-collected: it must be deleted. */
interface Owned {
  delete(): void;
}
interface Mat extends Owned {
  readonly rows: number;
  readonly cols: number;
  // Views of the heap, which become empty when it grows: always read them again.
  readonly data: Uint8Array;
  readonly data16U: Uint16Array;
  readonly data32F: Float32Array;
}
interface MatVector extends Owned {
  get(index: number): Mat;
  set(index: number, mat: Mat): void;
}
interface OpenCv {
  readonly Mat: new (rows?: number, cols?: number, type?: number) => Mat;
  readonly MatVector: new () => MatVector;
  readonly Size: new (width: number, height: number) => object;
  readonly CLAHE: new (clipLimit: number, tiles: object) => Owned & { apply(from: Mat, to: Mat): void };
  readonly COLOR_RGB2GRAY: number;
  readonly COLOR_RGB2Lab: number;
  readonly COLOR_Lab2RGB: number;
  readonly [type: `CV_${string}`]: number;
  cvtColor(from: Mat, to: Mat, code: number): void;
  equalizeHist(from: Mat, to: Mat): void;
  resize(from: Mat, to: Mat, size: object, fx: number, fy: number, flag: number): void;
  split(from: Mat, planes: MatVector): void;
  merge(planes: MatVector, to: Mat): void;
}
interface Library {
  readonly cv: OpenCv;
  readonly cvTranslateError: (cv: OpenCv, thrown: unknown) => string | Error | undefined;
}

const require = createRequire(import.meta.url);
let library: Library | undefined;

function load(): Library {
  if (library !== undefined) return library;
  // On load the library adds listeners that end the process on any uncaught error, ours included.
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.rawListeners(event));
  library = require('opencv-wasm') as Library;
  events.forEach((event, i) => {
    for (const listener of process.rawListeners(event)) {
      if (before[i]?.includes(listener) === false) process.off(event, listener as () => void);
    }
  });
  return library;
}

/** Runs `work` and deletes all that it owns, also when it throws. */
function withOpenCv<T>(work: (cv: OpenCv, own: <O extends Owned>(object: O) => O) => T): T {
  const { cv, cvTranslateError } = load();
  const owned: Owned[] = [];
  try {
    return work(cv, (object) => {
      owned.push(object);
      return object;
    });
  } catch (thrown) {
    if (typeof thrown !== 'number') throw thrown;
    // OpenCV throws the address of a C++ exception.
    throw new Error(`OpenCV: ${String(cvTranslateError(cv, thrown))}`, { cause: thrown });
  } finally {
    for (const object of owned.reverse()) object.delete();
  }
}

function toMat(cv: OpenCv, { width, height, channels, data }: Image): Mat {
  const type = data instanceof Uint8Array ? '8U' : data instanceof Uint16Array ? '16U' : '32F';
  const mat = new cv.Mat(height, width, cv[`CV_${type}C${channels}`]);
  view(mat, data).set(data);
  return mat;
}

function fromMat(mat: Mat, { channels, data }: Image): Image {
  return { width: mat.cols, height: mat.rows, channels, data: view(mat, data).slice() };
}

/** The samples of `mat`, in the type of `like`. */
function view(mat: Mat, like: Samples): Samples {
  return like instanceof Uint8Array ? mat.data : like instanceof Uint16Array ? mat.data16U : mat.data32F;
}
