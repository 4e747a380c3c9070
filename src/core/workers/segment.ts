import { serialize } from 'node:v8';
import type { FrameStage } from '../plugin.js';
import type { PackedSegment, StageReport, StageSpec } from './protocol.js';

/** Tasks that usually take less time share a message: sending one costs up to 0.2 ms of both threads. */
export const QUICK_MS = 0.5;

let packed = 0;

/** A chain of stages that a worker thread processes in one task: one message there and one back. */
export class Segment {
  /** Duration of each stage per frame: moving averages in milliseconds; unknown at first. */
  readonly #pace: number[];
  #packed: PackedSegment | undefined;

  constructor(readonly stages: readonly StageSpec[]) {
    this.#pace = stages.map(() => Infinity);
  }

  /** As it is sent with every frame. */
  get packed(): PackedSegment {
    if (this.#packed === undefined) {
      const plain = serialize(this.stages);
      const bytes = new Uint8Array(new SharedArrayBuffer(plain.length));
      bytes.set(plain);
      this.#packed = { number: (packed += 1), bytes };
    }
    return this.#packed;
  }

  /** Whether the stages `from` to `to` (exclusive) usually take no longer than sending a message. */
  isQuick(from: number, to: number): boolean {
    let ms = 0;
    for (let i = from; i < to; i += 1) ms += this.#pace[i] ?? Infinity;
    return ms < QUICK_MS;
  }

  /** Learns how long the stages took, the first of which is number `from`. */
  learn(from: number, reports: readonly StageReport[]): void {
    reports.forEach(({ ms }, i) => {
      this.#pace[from + i] = movingAverage(this.#pace[from + i] ?? Infinity, ms);
    });
  }
}

/** The average with a new value; Infinity means that there is no average yet. */
export function movingAverage(average: number, value: number): number {
  return average === Infinity ? value : average + (value - average) / 8;
}

/** A stage in worker threads, as the main thread sees it. Its `process` is for a single frame outside of the graph. */
export interface PooledStage extends FrameStage {
  readonly spec: StageSpec;
}
