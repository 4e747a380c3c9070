import type { Frame } from '../../../src/core/frame.js';
import type { Journal } from '../../../src/core/journal/journal.js';
import type { Parked } from '../../../src/core/journal/protocol.js';

export function frame(id: string): Frame {
  const origin = {
    source: 'watch',
    name: `${id}.png`,
    path: `/inbox/${id}.png`,
    size: 10,
    mtimeMs: 0,
    sha256: id,
    receivedAt: '2026-01-01T00:00:00.000Z',
  };
  return { id, origin, meta: {}, results: {} };
}

/** The journal's deliveries to one sink, in memory: rows by number. */
export class Deliveries implements Pick<Journal, 'park' | 'parked' | 'confirm'> {
  readonly rows = new Map<number, Parked>();
  readonly confirmed: string[] = [];
  #next = 1;

  async park(id: string, _: string, bytes: Uint8Array): Promise<void> {
    const { source, name, path, size, mtimeMs, sha256 } = frame(id).origin;
    const film = { id, source, name, path, size, mtimeMs, sha256 };
    this.rows.set(this.#next, { row: this.#next, film, frame: bytes });
    this.#next += 1;
  }

  async parked(_: string, after: number, limit: number): Promise<readonly Parked[]> {
    return [...this.rows.values()].filter(({ row }) => row > after).slice(0, limit);
  }

  async confirm(id: string): Promise<null> {
    this.confirmed.push(id);
    this.remove(id);
    return null;
  }

  remove(id: string): void {
    for (const [row, { film }] of this.rows) if (film.id === id) this.rows.delete(row);
  }
}
