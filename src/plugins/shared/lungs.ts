import { imageOf, type Frame } from '../../core/frame.js';
import type { Segmentation } from '../unet.js';

/**
 * The result of the `unet` stage `id` for this frame. Throws if there is no such result, or if the image has been
 * cropped or resized since, so that the mask no longer matches.
 */
export function lungsOf(frame: Frame, id: string): Segmentation {
  const result = frame.results[id];
  if (result?.kind !== 'segmentation') {
    const known = Object.keys(frame.results);
    throw new Error(
      `there is no lung mask "${id}": put \`use: unet\` with \`id: ${id}\` before this stage` +
        (known.length === 0 ? '' : ` (there are results of ${known.join(', ')})`),
    );
  }
  const found = result as unknown as Segmentation;
  const { width, height } = imageOf(frame);
  if (width !== found.film.width || height !== found.film.height) {
    throw new Error(
      `the lung mask "${id}" was made for ${found.film.width}×${found.film.height} pixels, the image has ${width}×${height}: ` +
        'put this stage before stages that crop or resize the film',
    );
  }
  return found;
}
