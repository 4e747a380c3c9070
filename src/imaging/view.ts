import type { Image, View } from '../core/frame.js';
import type { Box } from './image.js';

type Size = Pick<Image, 'width' | 'height'>;

/** Which part of the film an image shows: `view`, or where it has none all of it, in the film's own pixels. */
export function viewOf({ width, height }: Size, view: View | undefined): View {
  return view ?? { x: 0, y: 0, width, height, film: { width, height } };
}

/** The view of a new image that shows `part` of an image, in pixels of that image. */
export function viewOfPart(part: Box, image: Size, view: View | undefined): View {
  const whole = viewOf(image, view);
  return { ...toFilm(part, image, whole), film: whole.film };
}

/** A box in pixels of an image, in pixels of the film that the image is a view of. */
export function toFilm(box: Box, image: Size, view: View): Box {
  const [across, down] = [view.width / image.width, view.height / image.height];
  return {
    x: view.x + box.x * across,
    y: view.y + box.y * down,
    width: box.width * across,
    height: box.height * down,
  };
}

/** A box in pixels of the film, in pixels of an image that is a view of it. */
export function fromFilm(box: Box, image: Size, view: View): Box {
  const [across, down] = [image.width / view.width, image.height / view.height];
  return {
    x: (box.x - view.x) * across,
    y: (box.y - view.y) * down,
    width: box.width * across,
    height: box.height * down,
  };
}
