/** Counts of observations below ascending bounds, as Prometheus keeps them. */
export class Histogram {
  /** Observations per bucket, not cumulative; one more than `bounds`. */
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(readonly bounds: readonly number[]) {
    this.counts = Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let bucket = 0;
    while (value > (this.bounds[bucket] ?? Infinity)) bucket += 1;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sum += value;
    this.count += 1;
  }

  /** Adds what another one with the same bounds has observed since `before`. */
  add(now: HistogramCounts, before?: HistogramCounts): void {
    for (const [bucket, count] of now.counts.entries()) {
      this.counts[bucket] = (this.counts[bucket] ?? 0) + count - (before?.counts[bucket] ?? 0);
    }
    this.sum += now.sum - (before?.sum ?? 0);
    this.count += now.count - (before?.count ?? 0);
  }
}

/** A histogram as plain data. */
export type HistogramCounts = Pick<Histogram, 'counts' | 'sum' | 'count'>;
