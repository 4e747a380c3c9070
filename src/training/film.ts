import type { Box } from '../imaging/image.js';

export type Split = 'train' | 'val' | 'test';

/** One labelled film. */
export interface Film {
  /** Absolute. */
  readonly path: string;
  /** As the manifest or the folder names it, with forward slashes. */
  readonly name: string;
  readonly class: string;
  readonly split: Split;
  /** Films of one patient stay together. If unknown, each film is its own patient. */
  readonly patient: string;
  /** Of the file's bytes, in hexadecimal. */
  readonly sha256: string;
  /** Where something is on the film, in its pixels; only of data with boxes. */
  readonly boxes?: readonly (Box & { readonly label: string })[];
  /** Other columns of the manifest: source, view, age, … */
  readonly details?: Readonly<Record<string, string>>;
}

/** The places of the films of a split. */
export function inSplit(films: readonly Film[], split: Split): Uint32Array {
  return Uint32Array.from(films.flatMap((film, i) => (film.split === split ? [i] : [])));
}
