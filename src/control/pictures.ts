import sharp, { type Sharp } from 'sharp';
import { isImage, type Frame, type Image, type View } from '../core/frame.js';
import type { Remade } from '../core/run/remake.js';
import { viewOf } from '../imaging/view.js';
import type { WorklistFilm } from './worklist.js';

/** Size of the cache of encoded pictures, in bytes. */
const CACHE_BYTES = 64 * 1024 ** 2;
/** Number of films whose stage outputs are kept for further pictures, and how long after the last one. */
const KEPT_FILMS = 3;
const KEEP_MS = 30_000;
/** The longer side of a thumbnail. */
const THUMBNAIL = 160;

/** A picture of a film, ready to be sent. */
export interface Picture {
  readonly type: 'image/png' | 'image/webp';
  readonly data: Uint8Array<ArrayBuffer>;
  /** The part of the film that it shows. */
  readonly view: View;
}

/** Pixels, and the part of the film that they show. */
export interface Shown {
  readonly image: Image;
  readonly view: View;
}

/** Pictures of processed films: on request, the stages run again on the file. Pictures are kept in bounded memory. */
export class Pictures {
  readonly #pictures = new Map<string, Picture>();
  #bytes = 0;
  readonly #films = new Map<string, Promise<Remade>>();
  #timer: NodeJS.Timeout | undefined;
  /** The graph that made the kept pictures. */
  #graph: unknown;

  /** `graph` changes when another graph runs: pictures of earlier graphs are not shown. */
  constructor(
    private readonly remake: (film: WorklistFilm) => Promise<Remade>,
    private readonly graph: () => unknown,
  ) {}

  /** A thumbnail of the output of the first stage with pixels. Null if no stage has pixels. */
  thumbnail(film: WorklistFilm, stages: readonly string[]): Promise<Picture | null> {
    return this.#cached(`${film.id} ${film.sha256} thumbnail`, async () => {
      const at = await this.#stagesOf(film);
      for (const stage of stages) {
        const shown = shownBy(await at(stage));
        if (shown === null) continue;
        const { image, view } = shown;
        const data = await display(image)
          .resize(THUMBNAIL, THUMBNAIL, { fit: 'inside', withoutEnlargement: true })
          .webp({ quality: 80 })
          .toBuffer();
        return { type: 'image/webp', data: Uint8Array.from(data), view };
      }
      return null;
    });
  }

  /** The output of a stage, 8 bit for the screen. Null if the film does not reach the stage. */
  stage(film: WorklistFilm, stage: string): Promise<Picture | null> {
    return this.#png(film, stage, 'image', ({ image }) => image);
  }

  /** An image inside a stage's result: a residual map, a reconstruction. */
  result(film: WorklistFilm, stage: string, field: string): Promise<Picture | null> {
    return this.#png(film, stage, `results.${field}`, ({ results }) => {
      const value: unknown = results[stage]?.[field as never];
      return isImage(value) ? value : undefined;
    });
  }

  /** The picture that `draw` makes of a stage's output, cached under `what`. */
  drawn(
    film: WorklistFilm,
    stage: string,
    what: string,
    draw: (image: Image) => Promise<Image>,
  ): Promise<Picture | null> {
    return this.#cached(`${film.id} ${film.sha256} ${stage} ${what}`, async () => {
      const shown = shownBy(await (await this.#stagesOf(film))(stage));
      if (shown === null) return null;
      const data = Uint8Array.from(await toPng(await draw(shown.image)));
      return { type: 'image/png', data, view: shown.view };
    });
  }

  /** The pixels of a stage's output, at full bit depth. */
  async pixels(film: WorklistFilm, stage: string): Promise<Shown | null> {
    this.#lookAfter();
    return shownBy(await (await this.#stagesOf(film))(stage));
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #png(
    film: WorklistFilm,
    stage: string,
    what: string,
    pick: (frame: Frame) => Image | undefined,
  ): Promise<Picture | null> {
    return this.#cached(`${film.id} ${film.sha256} ${stage} ${what}`, async () => {
      const frame = await (await this.#stagesOf(film))(stage);
      const image = frame === null ? undefined : pick(frame);
      if (frame === null || image === undefined) return null;
      // Maps and masks are of the image that the stage has got, which it passes on.
      const view = viewOf(frame.image ?? image, frame.view);
      return { type: 'image/png', data: Uint8Array.from(await toPng(image)), view };
    });
  }

  #lookAfter(): void {
    const graph = this.graph();
    if (graph === this.#graph) return;
    this.#graph = graph;
    this.#pictures.clear();
    this.#bytes = 0;
    this.#films.clear();
  }

  async #cached(key: string, make: () => Promise<Picture | null>): Promise<Picture | null> {
    this.#lookAfter();
    const graph = this.#graph;
    const known = this.#pictures.get(key);
    if (known !== undefined) {
      this.#pictures.delete(key);
      this.#pictures.set(key, known);
      return known;
    }
    const made = await make();
    if (made === null || this.#pictures.has(key) || graph !== this.graph()) return made;
    this.#pictures.set(key, made);
    this.#bytes += made.data.byteLength;
    for (const [oldest, { data }] of this.#pictures) {
      if (this.#bytes <= CACHE_BYTES) break;
      this.#pictures.delete(oldest);
      this.#bytes -= data.byteLength;
    }
    return made;
  }

  /** Browsers request all pictures of a film at once: the stages run once for all of them. */
  #stagesOf(film: WorklistFilm): Promise<Remade> {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#films.clear(), KEEP_MS).unref();
    const key = `${film.id} ${film.sha256}`;
    let stages = this.#films.get(key);
    if (stages === undefined) {
      stages = this.remake(film);
      this.#films.set(key, stages);
      stages.catch(() => this.#films.delete(key));
      const [oldest] = this.#films.keys();
      if (this.#films.size > KEPT_FILMS && oldest !== undefined) this.#films.delete(oldest);
    }
    return stages;
  }
}

function shownBy(frame: Frame | null): Shown | null {
  if (frame?.image === undefined) return null;
  return { image: frame.image, view: viewOf(frame.image, frame.view) };
}

/** PNG of an image, 8 bit for the screen. */
export async function toPng(image: Image): Promise<Uint8Array> {
  return display(image).png({ compressionLevel: 3 }).toBuffer();
}

/** 16 bit to 8 by its upper byte; floating point from its lowest to its highest value. */
function display({ width, height, channels, data }: Image): Sharp {
  const bytes =
    data instanceof Uint8Array
      ? data
      : data instanceof Uint16Array
        ? Uint8Array.from(data, (value) => value >> 8)
        : stretched(data);
  // sharp does not read shared memory.
  return sharp(Uint8Array.from(bytes), { raw: { width, height, channels } }).toColourspace(
    channels === 1 ? 'b-w' : 'srgb',
  );
}

function stretched(data: Float32Array): Uint8Array {
  let [low, high] = [Infinity, -Infinity];
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const range = high > low ? high - low : 1;
  return Uint8Array.from(data, (value) => Math.round((255 * (value - low)) / range));
}
