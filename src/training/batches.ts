import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { BOX_NUMBERS, mostBoxes } from './batch-layout.js';
import type { BatchTask, BatchWorkerData } from './batch-worker.js';
import type { IntegerSamples } from './preprocess.js';

/** N × H × W × 1, 0–1. */
export interface Batch {
  readonly images: Float32Array;
  /** Empty where the films have none. */
  readonly masks: Float32Array;
  /** Of each film as many as the film with the most has, {@link BOX_NUMBERS} numbers each; NaN where there is none. */
  readonly boxes: Float32Array;
}

/** Batches made ahead of the one that is being trained on. */
const AHEAD = 3;

/** Augments films in worker threads, a few batches ahead of the training, and measures how long the training waits. */
export class Batches {
  readonly #threads: Piscina<BatchTask, Float32Array>;
  readonly #made: Promise<Float32Array>[] = [];
  /** Numbers of a film: its image, its mask and its boxes. */
  readonly #parts: readonly [image: number, mask: number, boxes: number];
  #waitedMs = 0;

  /** `data.films`, its variants and `data.masks` are copied into memory that the threads share. */
  constructor(data: BatchWorkerData, threads = Math.max(1, availableParallelism() - 1)) {
    const area = data.films.width * data.films.height;
    this.#parts = [area, data.masks === undefined ? 0 : area, mostBoxes(data.boxes) * BOX_NUMBERS];
    const films = { ...data.films, data: shared(data.films.data) };
    const masks = data.masks && { ...data.masks, data: shared(data.masks.data) };
    const variants = data.variants?.map((each) => ({ ...each, data: shared(each.data) }));
    this.#threads = new Piscina({
      filename: new URL('./batch-worker-entry.cjs', import.meta.url).href,
      minThreads: 1,
      maxThreads: threads,
      workerData: {
        ...data,
        films,
        ...(masks && { masks }),
        ...(variants && { variants }),
      } satisfies BatchWorkerData,
    });
  }

  /** The batch of each task in turn. */
  async *of(tasks: Iterable<BatchTask>): AsyncGenerator<Batch, void, undefined> {
    const rest = tasks[Symbol.iterator]();
    const order = (): void => {
      const next = rest.next();
      if (next.done !== true) this.#made.push(this.#threads.run(next.value));
    };
    for (let i = 0; i < AHEAD; i++) order();
    try {
      for (let batch = this.#made.shift(); batch !== undefined; batch = this.#made.shift()) {
        const asked = performance.now();
        const made = await batch;
        this.#waitedMs += performance.now() - asked;
        order();
        const [image, mask, boxes] = this.#parts;
        const films = made.length / (image + mask + boxes);
        const behind = films * (image + mask);
        yield {
          images: made.subarray(0, films * image),
          masks: made.subarray(films * image, behind),
          boxes: made.subarray(behind),
        };
      }
    } finally {
      // The training has stopped within an epoch: batches made ahead are dropped.
      await Promise.allSettled(this.#made.splice(0));
    }
  }

  /** Seconds that the training has waited since the last call. */
  takeWaited(): number {
    const seconds = this.#waitedMs / 1000;
    this.#waitedMs = 0;
    return seconds;
  }

  dispose(): Promise<void> {
    return this.#threads.destroy();
  }
}

function shared(data: IntegerSamples): IntegerSamples {
  const memory = new SharedArrayBuffer(data.byteLength);
  const copy = data instanceof Uint8Array ? new Uint8Array(memory) : new Uint16Array(memory);
  copy.set(data);
  return copy;
}
