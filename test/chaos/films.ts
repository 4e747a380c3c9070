import { createHash } from 'node:crypto';
import { greyPng } from '../support/films.js';

/** What is to become of a film. */
export type Fate =
  /** It reaches every sink. */
  | 'delivered'
  /** No decoder takes it: it stands in the dead letter, and no sink has it. */
  | 'unreadable'
  /** The webhook's receiver answers 413 to it: it stands in the dead letter, and the other sinks have it. */
  | 'refused';

export interface Film {
  /** Its path inside the inbox. */
  readonly name: string;
  readonly fate: Fate;
  readonly bytes: Buffer;
}

/** What the checker is told of a film. */
export interface Expectation {
  readonly name: string;
  readonly fate: Fate;
  readonly sha256: string;
}

const SIDE = 16;

/**
 * The `index`th film of a lab: a grey PNG of 16×16 pixels. Most are sound and of bytes of their own; some are
 * copies of others under another name, some are broken, some will be refused.
 */
export function makeFilm(lab: number, index: number): Film {
  const name = `ward-${index % 3}/film-${String(index).padStart(4, '0')}.png`;
  if (index % 43 === 42) return { name, fate: 'unreadable', bytes: broken(lab, index) };
  if (index % 29 === 28)
    return { name: name.replace('film', 'huge'), fate: 'refused', bytes: png(lab, index) };
  return { name, fate: 'delivered', bytes: png(lab, index % 10 === 9 ? index - 1 : index) };
}

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');

function broken(lab: number, index: number): Buffer {
  const whole = png(lab, index);
  return index % 2 === 0 ? whole.subarray(0, whole.length - 24) : Buffer.from(`no film ${lab} ${index}`);
}

function png(lab: number, index: number): Buffer {
  const rows = Buffer.alloc(SIDE * (1 + SIDE));
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) rows[y * (1 + SIDE) + 1 + x] = (x * 16 + y * index + lab) & 255;
  }
  rows.writeUInt32BE(lab, 1);
  rows.writeUInt32BE(index, 5);
  return greyPng(SIDE, SIDE, 8, rows);
}
