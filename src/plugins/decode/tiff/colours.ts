import type { Image } from '../../../core/frame.js';
import { cmykToRgb } from '../cmyk.js';
import { damaged, unsupported } from '../decoder.js';
import type { Directory } from './directory.js';
import { PHOTOMETRIC, type Layout } from './layout.js';
import type { Samples } from './samples.js';

/**
 * Stored samples → displayed samples: grey (WhiteIsZero inverted) or RGB, of 8 bits if at most 8 are stored, else of
 * 16, scaled to the full range; alpha has a black background.
 */
export function toPicture(samples: Samples, layout: Layout, directory: Directory): Image {
  const { width, height, photometric, bits } = layout;
  const { data } = photometric === PHOTOMETRIC.Palette ? lookUp(samples, layout, directory) : samples;
  const colours = photometric === PHOTOMETRIC.WhiteIsZero || photometric === PHOTOMETRIC.BlackIsZero ? 1 : 3;
  if (photometric === PHOTOMETRIC.YCbCr) toRgb(data, samples.channels, directory);
  else if (photometric !== PHOTOMETRIC.Palette)
    spread(data, bits, photometric === PHOTOMETRIC.WhiteIsZero, samples.channels - colours);
  const light = photometric === PHOTOMETRIC.CMYK ? cmykToRgb(data, samples.channels) : data;
  const channels = colours + (layout.alpha === undefined ? 0 : 1);
  const shown = layout.alpha === undefined ? light : ontoBlack(light, channels, layout.alpha.associated);
  return { width, height, channels: colours, data: shown };
}

/**
 * Samples of any depth → the full range of 8 or 16 bits, inverted if needed (except `alphas` samples at a pixel's end).
 */
function spread(data: Uint8Array | Uint16Array, bits: number, invert: boolean, alphas: number): void {
  const most = 2 ** bits - 1;
  const white = bits > 8 ? 65535 : 255;
  if (most === white && !invert) return;
  const levels = Uint16Array.from({ length: most + 1 }, (_, value) => Math.round((value / most) * white));
  for (let i = 0; i < data.length; i++) {
    const level = levels[data[i] ?? 0] ?? 0;
    // Only grey is inverted: alpha is every second sample, if there is any.
    data[i] = invert && (alphas === 0 || i % 2 === 0) ? white - level : level;
  }
}

/** Palette indices → RGB of 8 bits (alpha as it is). */
function lookUp({ data, channels }: Samples, { bits }: Layout, directory: Directory): Samples {
  if (bits > 8) throw unsupported('TIFF', `has a palette with indices of ${bits} bits`);
  const size = 2 ** bits;
  const map = directory.numbers('ColorMap') ?? [];
  if (map.length < 3 * size) throw damaged('TIFF', `its palette has ${map.length} values, not ${3 * size}`);
  // Some writers fill the 16-bit palette with 8-bit values.
  const scale = map.every((value) => value < 256) ? 1 : 257;
  const colours = Uint8Array.from(map, (value) => Math.round(value / scale));
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * (channels + 2));
  for (let i = 0, from = 0, to = 0; i < pixels; i++, from += channels, to += channels + 2) {
    const index = data[from] ?? 0;
    for (let plane = 0; plane < 3; plane++) rgb[to + plane] = colours[plane * size + index] ?? 0;
    if (channels === 2) rgb[to + 3] = Math.round(((data[from + 1] ?? 0) / (size - 1)) * 255);
  }
  return { data: rgb, channels: channels + 2 };
}

/** YCbCr without JPEG, one chroma sample for every pixel (TIFF 6.0, section 21), in place. */
function toRgb(data: Uint8Array | Uint16Array, channels: number, directory: Directory): void {
  const [red = 0.299, green = 0.587, blue = 0.114] = directory.numbers('YCbCrCoefficients') ?? [];
  const [y0 = 0, y1 = 255, cb0 = 128, cb1 = 255, cr0 = 128, cr1 = 255] =
    directory.numbers('ReferenceBlackWhite') ?? [];
  if (y1 === y0 || cb1 === cb0 || cr1 === cr0 || green === 0) throw damaged('TIFF', 'its YCbCr has no range');
  const clamped = new Uint8ClampedArray(data.buffer, data.byteOffset, data.length);
  for (let i = 0; i < data.length; i += channels) {
    const y = (((data[i] ?? 0) - y0) * 255) / (y1 - y0);
    const cb = (((data[i + 1] ?? 0) - cb0) * 127) / (cb1 - cb0);
    const cr = (((data[i + 2] ?? 0) - cr0) * 127) / (cr1 - cr0);
    const r = y + cr * (2 - 2 * red);
    const b = y + cb * (2 - 2 * blue);
    clamped[i] = r;
    clamped[i + 1] = (y - red * r - blue * b) / green;
    clamped[i + 2] = b;
  }
}

/** Removes alpha: multiplies colours by alpha unless they are premultiplied. */
function ontoBlack(
  data: Uint8Array | Uint16Array,
  channels: number,
  associated: boolean,
): Uint8Array | Uint16Array {
  const white = data instanceof Uint8Array ? 255 : 65535;
  const colours = channels - 1;
  const shown = new (data.constructor as Uint16ArrayConstructor)((data.length / channels) * colours);
  for (let from = 0, to = 0; from < data.length; from += channels) {
    const alpha = data[from + colours] ?? 0;
    for (let i = 0; i < colours; i++) {
      const value = data[from + i] ?? 0;
      shown[to++] = associated ? value : Math.round((value * alpha) / white);
    }
  }
  return shown;
}
