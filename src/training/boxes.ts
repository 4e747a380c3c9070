import { fromFilm } from '../imaging/view.js';
import type { BoxInImage } from './batch-layout.js';
import type { Film } from './film.js';
import { viewAt, type PreparedFilms } from './preprocess.js';

/** Of a box that a crop cuts, less than this share of its area no longer counts as an object. */
const LEAST_VISIBLE = 0.4;

/** The boxes of films in pixels of the prepared films, cut at their edges. A label is an index of `labels`. */
export function boxesInImages(
  films: readonly Film[],
  prepared: PreparedFilms,
  labels: readonly string[],
): BoxInImage[][] {
  return films.map((film, i) =>
    (film.boxes ?? []).flatMap(({ label, ...box }) => {
      const whole = fromFilm(box, prepared, viewAt(prepared, i));
      const x = Math.max(0, whole.x);
      const y = Math.max(0, whole.y);
      const width = Math.min(prepared.width, whole.x + whole.width) - x;
      const height = Math.min(prepared.height, whole.y + whole.height) - y;
      if (width <= 0 || height <= 0 || width * height < LEAST_VISIBLE * whole.width * whole.height) return [];
      return [{ x, y, width, height, label: labels.indexOf(label) }];
    }),
  );
}

/** The labels of all boxes, sorted. */
export function boxLabels(films: readonly Film[]): string[] {
  return [...new Set(films.flatMap(({ boxes = [] }) => boxes.map(({ label }) => label)))].sort();
}
