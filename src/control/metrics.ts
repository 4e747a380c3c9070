import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Histogram } from '../core/monitor/histogram.js';
import type { Meter } from '../core/monitor/meter.js';
import type { Monitor } from '../core/monitor/monitor.js';
import type { RemoteStatus } from '../core/monitor/remote-status.js';
import type { Kind } from '../core/plugin.js';

/** The metrics per entry: `rxray_stage_frames_total{stage="decode"}`, and the same for sources and sinks. */
const COUNTED: Readonly<
  Record<string, { help: string; of: (meter: Meter) => number; kinds: readonly Kind[] }>
> = {
  frames_total: { help: 'Frames that came out', of: (m) => m.framesOut, kinds: ['source', 'stage', 'sink'] },
  frames_received_total: { help: 'Frames that came in', of: (m) => m.framesIn, kinds: ['stage', 'sink'] },
  errors_total: { help: 'Frames that failed', of: (m) => m.errors, kinds: ['stage', 'sink'] },
  frame_bytes_total: {
    help: 'Encoded bytes and pixels of the frames that came out',
    of: (m) => m.bytes,
    kinds: ['source', 'stage'],
  },
  work_seconds_total: { help: 'Time of work in worker threads', of: (m) => m.workSeconds, kinds: ['stage'] },
};
const NOW: typeof COUNTED = {
  queue_length: { help: 'Frames that wait', of: (m) => m.queue, kinds: ['stage', 'sink'] },
  in_flight: { help: 'Frames in progress', of: (m) => m.inFlight, kinds: ['stage', 'sink'] },
};
const SPREAD: Readonly<Record<string, { help: string; of: (meter: Meter) => Histogram }>> = {
  duration_seconds: {
    help: 'Duration of a call, including waits for a device; in worker threads only the work',
    of: (m) => m.durations,
  },
  batch_size: { help: 'Frames per call', of: (m) => m.batches },
};

/** The metrics for Prometheus. Counters are read at each scrape; metrics of the process begin with the first scrape. */
export function createRegistry(monitor: Monitor, version: string): Registry {
  const registers = [new Registry()] as [Registry];
  const [registry] = registers;
  const metersOf = (kind: Kind): Meter[] =>
    [...monitor.meters.values()].filter((meter) => meter.kind === kind);

  new Gauge({
    name: 'rxray_info',
    help: 'The program and the graph that it runs',
    labelNames: ['version', 'pipeline', 'graph'],
    registers,
    collect() {
      this.reset();
      this.set({ version, pipeline: monitor.pipeline?.name ?? '', graph: monitor.pipeline?.hash ?? '' }, 1);
    },
  });
  new Counter({
    name: 'rxray_films_total',
    help: 'Films that settled, and files left alone: settled before, or not images by their names',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset();
      const { done, failed, skipped, already, failedBefore, leftAlone } = monitor.films;
      this.inc({ outcome: 'done' }, done);
      this.inc({ outcome: 'failed' }, failed);
      this.inc({ outcome: 'skipped' }, skipped);
      this.inc({ outcome: 'already_done' }, already);
      this.inc({ outcome: 'failed_before' }, failedBefore);
      this.inc({ outcome: 'no_image' }, leftAlone);
    },
  });
  const gauges: Readonly<Record<string, { help: string; value: () => number }>> = {
    rxray_intake_waiting_files: { help: 'Files that wait to be read', value: () => monitor.load().waiting },
    rxray_frames_in_flight: {
      help: 'Frames that are being read or are in the graph',
      value: () => monitor.load().frames,
    },
    rxray_frames_in_flight_bytes: {
      help: 'Upper bound of their memory',
      value: () => monitor.load().bytes,
    },
    rxray_last_film_timestamp_seconds: {
      help: 'When a film settled last; 0 before the first',
      value: () => (monitor.lastSettledAt ?? 0) / 1000,
    },
  };
  for (const [name, { help, value }] of Object.entries(gauges)) {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }

  const ofCluster: Readonly<Record<string, { help: string; value: (status: RemoteStatus) => number }>> = {
    workers: { help: 'Workers that respond to the head', value: ({ workers }) => workers.length },
    backlog_films: {
      help: 'Films that no worker has finished, and files that wait for admission',
      value: ({ backlog }) => backlog,
    },
    desired_workers: {
      help: 'Workers that would finish the backlog in drainSeconds',
      value: ({ desired }) => desired,
    },
  };
  for (const [name, { help, value }] of Object.entries(ofCluster)) {
    new Gauge({
      name: `rxray_cluster_${name}`,
      help: `${help}; only of a head`,
      registers,
      collect() {
        this.reset();
        const status = monitor.remote();
        if (status === null) this.remove();
        else this.set(value(status));
      },
    });
  }
  new Counter({
    name: 'rxray_cluster_worker_films_total',
    help: 'Films that a worker has finished; only of a head',
    labelNames: ['worker'],
    registers,
    collect() {
      this.reset();
      for (const { name, through } of monitor.remote()?.workers ?? []) this.inc({ worker: name }, through);
    },
  });
  new Gauge({
    name: 'rxray_sink_parked_films',
    help: 'Films parked in the journal for the sink',
    labelNames: ['sink'],
    registers,
    async collect() {
      const parked = await monitor.parked();
      this.reset();
      for (const { id } of metersOf('sink')) this.set({ sink: id }, parked[id] ?? 0);
    },
  });
  new Gauge({
    name: 'rxray_trouble_timestamp_seconds',
    help: 'Since when an entry has not worked; absent if there is no problem',
    labelNames: ['entry', 'kind'],
    registers,
    collect() {
      this.reset();
      for (const { entry, kind, since } of monitor.troubles)
        this.set({ entry, kind }, since.getTime() / 1000);
    },
  });
  for (const kind of ['source', 'stage', 'sink'] as const) {
    for (const [name, { help, of, kinds }] of Object.entries(COUNTED)) {
      if (!kinds.includes(kind)) continue;
      new Counter({
        name: `rxray_${kind}_${name}`,
        help,
        labelNames: [kind],
        registers,
        collect() {
          this.reset();
          for (const meter of metersOf(kind)) this.inc({ [kind]: meter.id }, of(meter));
        },
      });
    }
    for (const [name, { help, of, kinds }] of Object.entries(NOW)) {
      if (!kinds.includes(kind)) continue;
      new Gauge({
        name: `rxray_${kind}_${name}`,
        help,
        labelNames: [kind],
        registers,
        collect() {
          this.reset();
          for (const meter of metersOf(kind)) this.set({ [kind]: meter.id }, of(meter));
        },
      });
    }
    if (kind === 'source') continue;
    for (const [name, { help, of }] of Object.entries(SPREAD)) {
      registry.registerMetric(
        histogram(`rxray_${kind}_${name}`, help, () =>
          metersOf(kind).map((meter) => [{ [kind]: meter.id }, of(meter)]),
        ),
      );
    }
  }
  collectDefaultMetrics({ register: registry });
  return registry;
}

/** A histogram with existing counts, which prom-client's own histograms do not support. */
function histogram(
  name: string,
  help: string,
  read: () => readonly (readonly [Record<string, string>, Histogram])[],
): Gauge {
  const metric = {
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    reset: () => undefined,
    get: async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: read().flatMap(([labels, { bounds, counts, sum, count }]) => {
        let below = 0;
        const buckets = counts.map((observed, i) => {
          below += observed;
          return {
            metricName: `${name}_bucket`,
            labels: { ...labels, le: bounds[i] ?? '+Inf' },
            value: below,
          };
        });
        return [
          ...buckets,
          { metricName: `${name}_sum`, labels, value: sum },
          { metricName: `${name}_count`, labels, value: count },
        ];
      }),
    }),
  };
  return metric as unknown as Gauge;
}
