import { createHash } from 'node:crypto';
import type { Judgement } from './verdict.js';

/** Samples of an image: 8 bit, 16 bit, or floating point. */
export type Samples = Uint8Array | Uint16Array | Float32Array;

/**
 * The pixels of one image.
 *
 * Layout: row-major, channels last (H × W × C), without padding. Range: 0–255 for `Uint8Array`, 0–65535 for
 * `Uint16Array` (the full range, for any number of stored bits), unrestricted for `Float32Array`. Grey images have one
 * channel, coloured ones three (R, G, B).
 */
export interface Image {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Samples;
}

/** The part of the film that an image shows, in pixels of the film; it may reach beyond its edges. */
export interface View {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Size of the film as it was decoded. */
  readonly film: { readonly width: number; readonly height: number };
}

/** Where a frame came from. */
export interface Origin {
  /** The id of the source in the graph. */
  readonly source: string;
  /** The path inside the source, with forward slashes: `ward-3/film.png`. */
  readonly name: string;
  /** The absolute path of the file. */
  readonly path: string;
  /** Size of the encoded file in bytes. */
  readonly size: number;
  /** Modification time in milliseconds since 1970. */
  readonly mtimeMs: number;
  /** SHA-256 of the file's bytes, in hexadecimal. */
  readonly sha256: string;
  /** When the file was admitted: ISO 8601, UTC. */
  readonly receivedAt: string;
}

/** The result of a classifier. */
export interface Classification extends Judgement {
  readonly kind: 'classification';
  /** The most probable label. */
  readonly label: string;
  /** Its probability, 0–1. */
  readonly probability: number;
  /** Of each label, 0–1, in the bundle's order. They sum to 1 unless `positives` is set. */
  readonly probabilities: Readonly<Record<string, number>>;
  /** Multi-label models only: the findings at or above their threshold, in the bundle's order. */
  readonly positives?: readonly string[];
  /** The best `topK` labels, most probable first. */
  readonly topK: readonly { readonly label: string; readonly probability: number }[];
}

/** The result of an anomaly stage. */
export interface Anomaly extends Judgement {
  readonly kind: 'anomaly';
  /** Mean over the pixels: higher is more anomalous, comparable between image sizes. */
  readonly anomalyScore: number;
  /** Sum over the pixels, as in the paper and in the original project. */
  readonly rawSum: number;
  /** 0–100 among the normal films held out in training; null if the bundle has no reference. */
  readonly percentile: number | null;
  readonly [detail: string]: unknown;
}

/** A box on the film, in pixels of the film as it was decoded. */
export interface FoundBox {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly label: string;
  /** How sure the network is, 0–1. */
  readonly score: number;
}

/** The result of a detector. */
export interface Detection extends Judgement {
  readonly kind: 'detection';
  readonly count: number;
  /** The surest first. */
  readonly boxes: readonly FoundBox[];
  /** Size of the film in whose pixels the boxes are. */
  readonly film: { readonly width: number; readonly height: number };
}

/** The result of a stage: plain data (and images), which can be sent between threads and read by expressions. */
export type StageResult =
  | Classification
  | Anomaly
  | Detection
  | (Judgement & { readonly kind: string; readonly [field: string]: unknown });

/**
 * One image in the graph, with its metadata and results. Immutable: a stage returns a new frame (`{ ...frame, image
 * }`).
 */
export interface Frame {
  /** Stable over restarts, different for two files with the same bytes, new when a file is overwritten. */
  readonly id: string;
  readonly origin: Origin;
  /** The encoded file, until a stage has decoded it. */
  readonly encoded?: Uint8Array;
  /** The pixels, once decoded. */
  readonly image?: Image;
  /**
   * Which part of the film the image shows. A stage that cuts or resizes the image sets it, so that a later stage can give
   * positions in pixels of the film. Absent: all of it, in the film's own pixels.
   */
  readonly view?: View;
  /** Metadata from the decoder and other stages: `format`, `bits`, `modality`, … No patient data. */
  readonly meta: Readonly<Record<string, unknown>>;
  /** The results of stages, by stage id. */
  readonly results: Readonly<Record<string, StageResult>>;
  /**
   * Set when the user had it processed again although it was done: the time of that request, in milliseconds since
   * 1970. Stable over restarts.
   */
  readonly repeat?: number;
  /** When the last stage finished: ISO 8601, UTC. Set by the host before delivery. */
  readonly completedAt?: string;
  /** What the sink's `render` has made on a worker of a cluster, or why it failed: use {@link renderedOf}. */
  readonly rendered?: Uint8Array | { readonly failed: string };
}

/** The frame id: 32 hexadecimal digits of SHA-256 over source, name and content hash. */
export function frameId(source: string, name: string, sha256: string): string {
  return createHash('sha256').update(`${source}\0${name}\0${sha256}`).digest('hex').slice(0, 32);
}

/** The frame's image. Throws if no stage has decoded it. */
export function imageOf(frame: Frame): Image {
  if (frame.image === undefined) {
    throw new Error(`${frame.origin.name} has no pixels yet: put a decoding stage before this one`);
  }
  return frame.image;
}

/**
 * What a sink needs of the frame's pixels: made by `make`, unless a worker of a cluster has made it by the sink's `render`.
 * Throws like them.
 */
export async function renderedOf({ rendered }: Frame, make: () => Promise<Uint8Array>): Promise<Uint8Array> {
  if (rendered === undefined) return make();
  if ('failed' in rendered) throw new Error(rendered.failed);
  return rendered;
}

/**
 * Checks the output of a stage, and restores what a stage may not change: the encoded file and `repeat`. Throws if it
 * is another frame, has another origin, or if its image, metadata or results are malformed.
 * An image of another size whose stage does not set `view` loses its view.
 */
export function checkMade(made: Frame | undefined, given: Frame): Frame {
  if (made?.id !== given.id) throw new Error('the stage did not return the frame that it was given');
  const { origin } = made as Partial<Frame>;
  const isSame = (Object.keys(given.origin) as (keyof Origin)[]).every(
    (key) => origin?.[key] === given.origin[key],
  );
  if (!isSame)
    throw new Error('the stage returned a frame without its own origin, which no stage may change');
  if (made.image !== undefined && made.image !== given.image) checkImage(made.image);
  // Also where they are the same objects: a stage may have changed them in place.
  for (const part of ['meta', 'results'] as const) {
    const value: unknown = made[part];
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Error(`the stage returned a frame whose \`${part}\` is no object`);
    }
    checkPlain(value, part);
  }
  for (const [stage, result] of Object.entries(made.results as Readonly<Record<string, unknown>>)) {
    if (typeof result !== 'object' || result === null || Array.isArray(result)) {
      throw new Error(`the stage returned a frame whose result of \`${stage}\` is no object`);
    }
  }
  const { encoded, repeat, view, ...rest } = made;
  const isViewKnown = view === undefined || view !== given.view || isSameSize(made.image, given.image);
  if ((encoded === undefined || encoded === given.encoded) && repeat === given.repeat && isViewKnown)
    return made;
  return {
    ...rest,
    ...(isViewKnown && view !== undefined && { view }),
    ...(encoded !== undefined && given.encoded !== undefined && { encoded: given.encoded }),
    ...(given.repeat !== undefined && { repeat: given.repeat }),
  };
}

/** The frame, protected from changes in place by the next stage. */
export function sealed(frame: Frame): Frame {
  Object.freeze(frame.origin);
  return Object.freeze(frame);
}

/** The frame with the results of the stage left out of the verdict. */
export function asShadow(frame: Frame, stage: string): Frame {
  const result = frame.results[stage];
  if (result === undefined) return frame;
  return { ...frame, results: { ...frame.results, [stage]: { ...result, shadow: true } } };
}

function checkImage(image: Partial<Record<keyof Image, unknown>> | null): void {
  const malformed = (what: string): Error => new Error(`the stage returned a malformed image: ${what}`);
  if (image === null) throw malformed('null; leave `image` out of a frame without pixels');
  const { width, height, channels, data } = image;
  if (!(data instanceof Uint8Array || data instanceof Uint16Array || data instanceof Float32Array)) {
    const got = (data as object | undefined)?.constructor.name ?? 'nothing';
    throw malformed(`its samples are ${got}, not Uint8Array, Uint16Array or Float32Array`);
  }
  const size = `${String(width)} × ${String(height)} × ${String(channels)}`;
  if (channels !== 1 && channels !== 3) throw malformed(`it has ${String(channels)} channels, not 1 or 3`);
  if (!isCount(width) || !isCount(height)) {
    throw malformed(`its width and height must be whole numbers of at least 1, got ${size}`);
  }
  if (data.length !== width * height * channels) {
    throw malformed(`${String(data.length)} samples for ${size}`);
  }
}

function isSameSize(a: Image | undefined, b: Image | undefined): boolean {
  return a?.width === b?.width && a?.height === b?.height;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** Throws unless the value is plain data: JSON values and pixels. `path` is its path in the frame. */
function checkPlain(value: unknown, path: string, above: readonly unknown[] = []): void {
  if (typeof value === 'bigint' || typeof value === 'function' || typeof value === 'symbol') {
    throw new Error(`the stage left a ${typeof value} in \`${path}\`: expected plain data as in JSON`);
  }
  if (typeof value !== 'object' || value === null || value instanceof Date || isPixelData(value)) return;
  if (above.includes(value)) throw new Error(`the stage left a circular reference in \`${path}\``);
  for (const [key, field] of Object.entries(value)) checkPlain(field, `${path}.${key}`, [...above, value]);
}

/** Bytes that a frame holds in memory: its encoded file and its pixels. */
export function frameBytes(frame: Frame): number {
  return (frame.encoded?.byteLength ?? 0) + imageBytes(frame);
}

/** Bytes of its pixels alone. */
export function imageBytes({ image }: Pick<Frame, 'image'>): number {
  return image?.data.byteLength ?? 0;
}

/** The frame as plain data: without its file, its image, and the images (residual maps) in its results. */
export function withoutPixels({ encoded: _file, image: _image, rendered: _bytes, ...frame }: Frame): Frame {
  return {
    ...frame,
    meta: withoutImages(frame.meta) as Frame['meta'],
    results: withoutImages(frame.results) as Frame['results'],
  };
}

/** A copy of a result without pixels. */
export function withoutImages(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (Array.isArray(value)) return value.map(withoutImages);
  const kept = Object.entries(value).filter(([, field]) => !isPixels(field));
  return Object.fromEntries(kept.map(([key, field]) => [key, withoutImages(field)]));
}

/** Whether the value is an image. */
export function isImage(value: unknown): value is Image {
  return typeof value === 'object' && value !== null && 'data' in value && ArrayBuffer.isView(value.data);
}

function isPixels(value: unknown): boolean {
  return isPixelData(value) || isImage(value);
}

function isPixelData(value: unknown): boolean {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
}
