import { createHash } from 'node:crypto';
import { frameId, type Frame, type Image, type Samples, type StageResult } from '../core/frame.js';

export interface FrameOptions {
  /** The path inside the source. Default `film.png`. */
  readonly name?: string;
  /** Default `inbox`. */
  readonly source?: string;
  /** Default 8. */
  readonly width?: number;
  /** Default 6. */
  readonly height?: number;
  /** Default 1. */
  readonly channels?: 1 | 3;
  /** The sample type. Default `uint8`. */
  readonly type?: 'uint8' | 'uint16' | 'float32';
  /** Other seeds give other pixels. Default 0. */
  readonly seed?: number;
  /** Your own pixels, or null for a frame that has not been decoded. */
  readonly image?: Image | null;
  readonly meta?: Readonly<Record<string, unknown>>;
  readonly results?: Readonly<Record<string, StageResult>>;
}

/** A decoded frame: a soft gradient with some texture, the same for the same options. */
export function makeFrame(options: FrameOptions = {}): Frame {
  const { name = 'film.png', source = 'inbox', seed = 0 } = options;
  const image = options.image === undefined ? gradient(options, seed) : options.image;
  const sha256 = createHash('sha256').update(`${name}\0${seed}`).digest('hex');
  return {
    id: frameId(source, name, sha256),
    origin: {
      source,
      name,
      path: `/films/${name}`,
      size: 1000 + seed,
      mtimeMs: 1_700_000_000_000,
      sha256,
      receivedAt: '2026-01-01T08:00:00.000Z',
    },
    ...(image !== null && { image }),
    meta: options.meta ?? {},
    results: options.results ?? {},
  };
}

function gradient(options: FrameOptions, seed: number): Image {
  const { width = 8, height = 6, channels = 1, type = 'uint8' } = options;
  const length = width * height * channels;
  const [data, maximum]: [Samples, number] =
    type === 'uint8'
      ? [new Uint8Array(length), 255]
      : type === 'uint16'
        ? [new Uint16Array(length), 65535]
        : [new Float32Array(length), 1];
  for (let i = 0; i < length; i++) {
    const texture = ((i * 7919 + seed * 104729) % 257) / 257;
    data[i] = maximum * ((0.7 * i) / length + 0.3 * texture);
  }
  return { width, height, channels, data };
}
