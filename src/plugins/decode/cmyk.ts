/**
 * Inks → light, without a colour profile: (1 − C) (1 − K) and so on, as OpenCV, Pillow and ImageMagick do it. `data`: cyan,
 * magenta, yellow and black of each pixel, of 0 (no ink) to the largest value of their type, and the samples after them
 * up to `channels`, which are kept.
 */
export function cmykToRgb<S extends Uint8Array | Uint16Array>(data: S, channels = 4): S {
  const white = data.BYTES_PER_ELEMENT === 1 ? 255 : 65535;
  const pixels = data.length / channels;
  const rgb = new (data.constructor as new (length: number) => S)(pixels * (channels - 1));
  for (let i = 0, from = 0, to = 0; i < pixels; i++, from += channels) {
    const paper = white - (data[from + 3] ?? 0);
    for (let ink = 0; ink < 3; ink++)
      rgb[to++] = Math.round(((white - (data[from + ink] ?? 0)) * paper) / white);
    for (let extra = 4; extra < channels; extra++) rgb[to++] = data[from + extra] ?? 0;
  }
  return rgb;
}
