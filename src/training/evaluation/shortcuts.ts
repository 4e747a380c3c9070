import type { Image } from '../../core/frame.js';
import type { LungMasks } from './lung-masks.js';

/** A blacked-out part, and the resulting images. */
export interface Blackout {
  readonly name: string;
  readonly images: readonly Image[];
}

/** Side of the centre, as a share of the film's: about half of its area. */
const CENTRE = 0.7;

/**
 * The films with their centre black, with their border black, and, where their lungs are known, with the lungs black and
 * with all else black. A model that still works without the lungs uses something else (a marker, the shape of the
 * image).
 */
export function blackouts(images: readonly Image[], lungs: LungMasks | undefined): Blackout[] {
  const inCentre = ({ width, height }: Image, p: number): boolean => {
    const [x, y] = [(p % width) + 0.5, Math.floor(p / width) + 0.5];
    return Math.abs(x / width - 0.5) < CENTRE / 2 && Math.abs(y / height - 0.5) < CENTRE / 2;
  };
  const found: Blackout[] = [
    { name: 'centre black', images: images.map((image) => black(image, (p) => inCentre(image, p))) },
    { name: 'border black', images: images.map((image) => black(image, (p) => !inCentre(image, p))) },
  ];
  if (lungs === undefined) return found;
  const inLungs = (i: number, p: number): boolean => lungs.masks[i]?.[p] === 1;
  return [
    ...found,
    { name: 'lungs black', images: images.map((image, i) => black(image, (p) => inLungs(i, p))) },
    {
      name: 'all but the lungs black',
      images: images.map((image, i) => black(image, (p) => !inLungs(i, p))),
    },
  ];
}

function black(image: Image, hidden: (pixel: number) => boolean): Image {
  const data = image.data.slice();
  for (let p = 0; p < image.width * image.height; p++) {
    if (hidden(p)) data.fill(0, p * image.channels, (p + 1) * image.channels);
  }
  return { ...image, data };
}
