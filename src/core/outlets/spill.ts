import { deserialize, serialize } from 'node:v8';
import type { Frame } from '../frame.js';
import type { Journal } from '../journal/journal.js';
import type { FilmFile } from '../journal/protocol.js';

/** A frame parked in the journal. */
export interface Spilled {
  readonly frame: Frame;
  readonly film: FilmFile;
  readonly row: number;
}

/**
 * The frames parked for one sink, oldest first. Frames that the sink has failed on are skipped for a while, so that
 * they do not block the others.
 */
export class Spill {
  /** The next group begins after this row. */
  #cursor = 0;

  constructor(
    private readonly sink: string,
    private readonly journal: Pick<Journal, 'park' | 'parked'>,
  ) {}

  /** Keeps a frame; resolves when it is on the disk. */
  put(frame: Frame): Promise<void> {
    return this.journal.park(frame.id, this.sink, serialize(frame));
  }

  /** The next frames, at most `limit`. After the last one, the skipped ones; empty if none are parked. */
  async take(limit: number): Promise<Spilled[]> {
    for (;;) {
      const rows = await this.journal.parked(this.sink, this.#cursor, limit);
      if (rows.length > 0 || this.#cursor === 0) {
        return rows.map(({ row, film, frame }) => ({ row, film, frame: deserialize(frame) as Frame }));
      }
      this.#cursor = 0;
    }
  }

  passOver({ row }: Spilled): void {
    this.#cursor = Math.max(this.#cursor, row);
  }

  /** Starts again with the oldest. */
  rewind(): void {
    this.#cursor = 0;
  }
}
