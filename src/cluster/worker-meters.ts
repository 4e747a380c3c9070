import type { Meter, MeterCounts } from '../core/monitor/meter.js';

/** The counters of a worker's stages, by their ids. */
export type StageCounts = Readonly<Record<string, MeterCounts>>;

/** Workers whose last counters are kept; one that is heard again is not counted twice. */
const KEPT = 10_000;

/** Sums of the counters of all workers' stages, in the meters of the head: of counters and buckets, not of quantiles. */
export class WorkerMeters {
  readonly #last = new Map<string, StageCounts>();
  /** Those whose frames in progress are in the sums. */
  readonly #present = new Set<string>();

  /** `meters`: of the head, by the ids of the entries. */
  constructor(private readonly meters: () => ReadonlyMap<string, Meter>) {}

  /** A worker has sent its counters, which only grow. */
  take(worker: string, stages: StageCounts): void {
    const before = this.#last.get(worker);
    for (const [id, counts] of Object.entries(stages)) this.meters().get(id)?.add(counts, before?.[id]);
    this.#present.add(worker);
    this.#last.delete(worker);
    this.#last.set(worker, stages);
    const [oldest] = this.#last.keys();
    if (this.#last.size > KEPT && oldest !== undefined) this.#last.delete(oldest);
  }

  /** The remaining workers: nothing is in progress at the others. */
  keep(workers: ReadonlySet<string>): void {
    for (const worker of this.#present) {
      if (workers.has(worker)) continue;
      const last = this.#last.get(worker) ?? {};
      const idle = Object.entries(last).map(
        ([id, counts]) => [id, { ...counts, queue: 0, inFlight: 0, capacity: 0 }] as const,
      );
      this.take(worker, Object.fromEntries(idle));
      this.#present.delete(worker);
    }
  }
}
