import sharp from 'sharp';
import type { Image } from '../../core/frame.js';
import { heatColour } from '../../imaging/heat.js';
import { fullScale } from '../../imaging/image.js';

/** An image as a PNG inside the page. */
export async function picture(image: Image): Promise<string> {
  const { width, height, channels, data } = image;
  const full = fullScale(data);
  const bytes = Uint8Array.from(data, (sample) => (sample / full) * 255);
  const png = await sharp(bytes, { raw: { width, height, channels } })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .png({ compressionLevel: 9 })
    .toBuffer();
  return `data:image/png;base64,${png.toString('base64')}`;
}

/**
 * A grey film with a map laid over it, in the colours of {@link heatColour}.
 *
 * @param map Of any size, 0–1, row by row; it is brought to the film's by cubic interpolation.
 */
export async function overlay(
  film: Image,
  map: { readonly width: number; readonly height: number; readonly data: Float32Array },
): Promise<string> {
  const { width, height } = film;
  const levels = Uint8Array.from(map.data, (value) => Math.round(255 * Math.min(1, Math.max(0, value))));
  const raw = { width: map.width, height: map.height, channels: 1 as const };
  const heat = await sharp(levels, { raw })
    .resize(width, height, { kernel: 'cubic', fit: 'fill' })
    .toColourspace('b-w')
    .raw()
    .toBuffer();
  const full = fullScale(film.data);
  const data = new Uint8Array(width * height * 3);
  for (let p = 0; p < width * height; p++) {
    const grey = ((film.data[p * film.channels] ?? 0) / full) * 255;
    const [r, g, b, opacity] = heatColour((heat[p] ?? 0) / 255);
    const colour = [r, g, b];
    for (let c = 0; c < 3; c++) data[p * 3 + c] = grey + 0.65 * (opacity / 255) * ((colour[c] ?? 0) - grey);
  }
  return picture({ width, height, channels: 3, data });
}

/** A residual map 0–255 on black, in the same colours: the larger, the brighter. */
export async function heat(map: Image): Promise<string> {
  const { width, height } = map;
  const highest = Math.max(1, ...map.data);
  const data = new Uint8Array(width * height * 3);
  for (let p = 0; p < width * height; p++) {
    const [r, g, b, opacity] = heatColour((map.data[p] ?? 0) / highest);
    data.set(
      [r, g, b].map((value) => Math.round((value * opacity) / 255)),
      p * 3,
    );
  }
  return picture({ width, height, channels: 3, data });
}
