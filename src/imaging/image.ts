import type { Image, Samples } from '../core/frame.js';

/** A rectangle in pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The value of white: 255, 65535, or 1 for floating point. */
export function fullScale(samples: Samples): number {
  return samples instanceof Uint8Array ? 255 : samples instanceof Uint16Array ? 65535 : 1;
}

/** `length` zeros of the same type as `samples`. */
export function blankLike<S extends Samples>(samples: S, length: number): S {
  return new (samples.constructor as new (length: number) => S)(length);
}

/** The pixels inside `box`, which must lie inside the image. */
export function cropTo(image: Image, box: Box): Image {
  const { x, y, width, height } = box;
  if (x < 0 || y < 0 || width < 1 || height < 1 || x + width > image.width || y + height > image.height) {
    throw new Error(
      `cannot crop ${width} × ${height} pixels at (${x}, ${y}) out of an image of ${image.width} × ${image.height}`,
    );
  }
  const row = width * image.channels;
  const data = blankLike(image.data, row * height);
  for (let line = 0; line < height; line++) {
    const start = ((y + line) * image.width + x) * image.channels;
    data.set(image.data.subarray(start, start + row), line * row);
  }
  return { width, height, channels: image.channels, data };
}

/** A canvas of one grey level (in samples) with `image` at (x, y). */
export function padTo(image: Image, canvas: Box, level: number): Image {
  const { x, y, width, height } = canvas;
  const row = image.width * image.channels;
  const data = blankLike(image.data, width * height * image.channels).fill(level);
  for (let line = 0; line < image.height; line++) {
    data.set(image.data.subarray(line * row, (line + 1) * row), ((y + line) * width + x) * image.channels);
  }
  return { width, height, channels: image.channels, data };
}

/** The pixels inside `box`, which may reach beyond the image: there the nearest pixel of its edge, as OpenCV's `BORDER_REPLICATE`. */
export function cropReplicated(image: Image, box: Box): Image {
  const { width, height } = box;
  const { channels } = image;
  const data = blankLike(image.data, width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const row = within(box.y + y, image.height) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (row + within(box.x + x, image.width)) * channels;
      for (let c = 0; c < channels; c++) data[to++] = image.data[from + c] ?? 0;
    }
  }
  return { width, height, channels, data };
}

function within(at: number, length: number): number {
  return Math.min(length - 1, Math.max(0, at));
}

/** Turns and mirrors an image that was stored with this EXIF or TIFF orientation (1–8; 1: as it is) upright. */
export function orient(image: Image, orientation: number): Image {
  if (orientation === 1) return image;
  const { width, height, channels } = image;
  const turned = orientation >= 5;
  // Where in the stored image the first pixel is, and how far it is to the next one in a row, and in a column.
  const right = [2, 3, 7, 8].includes(orientation) ? -1 : 1;
  const down = [3, 4, 6, 7].includes(orientation) ? -1 : 1;
  const first = (right < 0 ? width - 1 : 0) + (down < 0 ? height - 1 : 0) * width;
  const [across, along] = turned ? [down * width, right] : [right, down * width];
  const data = blankLike(image.data, image.data.length);
  const [columns, rows] = turned ? [height, width] : [width, height];
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const from = (first + x * across + y * along) * channels;
      for (let c = 0; c < channels; c++) data[to++] = image.data[from + c] ?? 0;
    }
  }
  return { width: columns, height: rows, channels, data };
}
