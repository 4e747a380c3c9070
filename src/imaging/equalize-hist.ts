import type { Image } from '../core/frame.js';
import { copyOf } from '../core/image-memory.js';
import { usesLibraries } from './kernels.js';
import * as opencv from './opencv.js';

/**
 * Histogram equalisation: each grey level becomes the share of pixels that are not brighter, without those of the darkest level, in the
 * sample type's range. Any increasing change of grey levels before it makes no difference, up to rounding.
 *
 * 8 bit with the bits of `cv2.equalizeHist`; 16 bit by the same formula, which OpenCV does not support. Throws on colour and floating point.
 */
export function equalizeHist(image: Image): Image {
  const { channels, data } = image;
  if (data instanceof Float32Array) {
    throw new Error('equalising a histogram needs 8 or 16-bit samples, the image has floating-point ones');
  }
  if (channels !== 1) {
    throw new Error(
      'equalising the histogram of colour is not supported: decode the image with `color: grey`',
    );
  }
  if (data instanceof Uint8Array && usesLibraries()) return opencv.equalizeHist(image);
  return { ...image, data: mapped(copyOf(data), equalised(data)) };
}

/** The new level of each. */
function equalised(data: Uint8Array | Uint16Array): Uint8Array | Uint16Array {
  const levels = data instanceof Uint8Array ? new Uint8Array(256) : new Uint16Array(65536);
  const counts = new Uint32Array(levels.length);
  for (const level of data) counts[level] = (counts[level] as number) + 1;
  const darkest = counts.findIndex((count) => count > 0);
  const others = data.length - (counts[darkest] as number);
  if (others === 0) return levels.fill(darkest);
  const scale = Math.fround((levels.length - 1) / others);
  let sum = 0;
  for (let level = darkest + 1; level < levels.length; level++) {
    sum += counts[level] as number;
    levels[level] = roundToEven(Math.fround(Math.fround(sum) * scale));
  }
  return levels;
}

function mapped<T extends Uint8Array | Uint16Array>(data: T, levels: Uint8Array | Uint16Array): T {
  for (let i = 0; i < data.length; i++) data[i] = levels[data[i] as number] as number;
  return data;
}

/** As OpenCV's `cvRound`. */
function roundToEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
