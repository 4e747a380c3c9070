import { setTimeout } from 'node:timers/promises';
import type { StageNode } from '../core/config/pipeline.js';
import type { Histogram } from '../core/monitor/histogram.js';
import type { Meter } from '../core/monitor/meter.js';
import type { Load, Monitor } from '../core/monitor/monitor.js';
import type { RemoteStatus } from '../core/monitor/remote-status.js';
import type { Kind } from '../core/plugin.js';

/** Rates are averages over this many seconds. */
const WINDOW_S = 5;
/** If no entry is busy for at least this share of its time, the graph is idle: it waits for films. */
const LIMITING = 0.5;

/** A source, stage or sink of the running graph. */
export interface LiveNode {
  readonly id: string;
  readonly kind: Kind;
  /** The plugin's name. */
  readonly use: string;
  /** Ids, in the order of `from:`. */
  readonly from: readonly string[];
  /** The condition of `when:`, as written. */
  readonly when: string | null;
  /** Since the start. */
  readonly framesIn: number;
  readonly framesOut: number;
  readonly errors: number;
  readonly bytes: number;
  /** Now. */
  readonly queue: number;
  readonly inFlight: number;
  /** For a sink: films parked in the journal. */
  readonly parked: number;
  /** Over the last seconds. */
  readonly framesPerSecond: number;
  readonly bytesPerSecond: number;
  /** The mean duration of a call; null without calls. */
  readonly ms: number | null;
  /** Frames per call; null without calls. */
  readonly batch: number | null;
  /** The share of time that it was busy, 0–1; null where that cannot be measured (sources, operators). */
  readonly busy: number | null;
  /** Why it does not work at present, and since when (ISO 8601); null if there is no problem. */
  readonly trouble: { readonly since: string; readonly message: string } | null;
}

/** The activity of the graph over the last seconds. */
export interface Live {
  readonly at: string;
  readonly uptimeSeconds: number;
  /** Of the process, resident, in bytes. */
  readonly memory: number;
  readonly films: Monitor['films'];
  readonly filmsPerSecond: number;
  readonly load: Load;
  /** The workers on other machines; null when stages run in this process. */
  readonly cluster: RemoteStatus | null;
  /** The id of the bottleneck; null while the graph waits for films. */
  readonly limiting: string | null;
  readonly nodes: readonly LiveNode[];
}

/** The counters of one meter at one time. */
interface Sample {
  readonly framesOut: number;
  readonly bytes: number;
  readonly callSeconds: number;
  readonly workSeconds: number;
  readonly durations: Pick<Histogram, 'sum' | 'count'>;
  readonly batches: Pick<Histogram, 'sum' | 'count'>;
}

interface Moment {
  readonly at: number;
  readonly settled: number;
  readonly samples: ReadonlyMap<string, Sample>;
}

/** Rates of a running graph, from differences of its counters. Sampled once per second while there are requests. */
export class LiveGraph {
  #moments: Moment[] = [];
  #asked = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly monitor: Monitor) {}

  /** The activity of the last seconds; the first request after a pause takes one second. */
  async look(): Promise<Live> {
    this.#asked = performance.now();
    if (this.#timer === undefined) {
      this.#moments = [this.#moment()];
      this.#timer = setInterval(() => this.#tick(), 1000).unref();
      await setTimeout(1000);
    }
    const now = this.#moment();
    return this.#compare(this.#moments[0] ?? now, now, await this.monitor.parked());
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tick(): void {
    if (performance.now() - this.#asked > 10_000) {
      this.close();
      return;
    }
    this.#moments.push(this.#moment());
    this.#moments = this.#moments.slice(-WINDOW_S);
  }

  #moment(): Moment {
    const { films, meters } = this.monitor;
    return {
      at: performance.now(),
      settled: films.done + films.failed + films.skipped,
      samples: new Map([...meters].map(([id, meter]) => [id, sampleOf(meter)])),
    };
  }

  #compare(before: Moment, now: Moment, parked: Readonly<Record<string, number>>): Live {
    const { monitor } = this;
    const seconds = Math.max(0.001, (now.at - before.at) / 1000);
    const { sources = [], stages = [], sinks = [] } = monitor.pipeline ?? {};
    const troubles = new Map(monitor.troubles.map(({ entry, ...trouble }) => [entry, trouble]));
    const nodes = [...sources, ...stages, ...sinks].flatMap((node): LiveNode[] => {
      const meter = monitor.meters.get(node.id);
      const [was, is] = [before.samples.get(node.id), now.samples.get(node.id)];
      if (meter === undefined || is === undefined) return [];
      const grown = (value: (sample: Sample) => number): number =>
        value(is) - (was === undefined ? 0 : value(was));
      const mean = (pick: (sample: Sample) => Pick<Histogram, 'sum' | 'count'>): number | null => {
        const count = grown((sample) => pick(sample).count);
        return count === 0 ? null : grown((sample) => pick(sample).sum) / count;
      };
      const ms = mean(({ durations }) => durations);
      const work = meter.workSeconds > 0;
      const busy =
        meter.capacity === null
          ? null
          : grown(({ callSeconds, workSeconds }) => (work ? workSeconds : callSeconds)) /
            (seconds * meter.capacity);
      const trouble = troubles.get(node.id);
      const { from = [], when } = node as Partial<StageNode>;
      return [
        {
          id: node.id,
          kind: meter.kind,
          use: node.plugin.name,
          from,
          when: when === undefined ? null : String(node.written.when),
          framesIn: meter.framesIn,
          framesOut: meter.framesOut,
          errors: meter.errors,
          bytes: meter.bytes,
          queue: meter.queue,
          inFlight: meter.inFlight,
          parked: parked[node.id] ?? 0,
          framesPerSecond: grown(({ framesOut }) => framesOut) / seconds,
          bytesPerSecond: grown(({ bytes }) => bytes) / seconds,
          ms: ms === null ? null : ms * 1000,
          batch: mean(({ batches }) => batches),
          busy: busy === null ? null : Math.min(1, busy),
          trouble:
            trouble === undefined ? null : { since: trouble.since.toISOString(), message: trouble.message },
        },
      ];
    });
    const load = monitor.load();
    return {
      at: new Date().toISOString(),
      uptimeSeconds: (Date.now() - monitor.startedAt.getTime()) / 1000,
      memory: process.memoryUsage.rss(),
      films: { ...monitor.films },
      filmsPerSecond: (now.settled - before.settled) / seconds,
      load,
      cluster: monitor.remote(),
      limiting: load.frames === 0 ? null : limiting(nodes, monitor),
      nodes,
    };
  }
}

/**
 * The bottleneck: the entry that is always busy. Stages in worker threads share the threads: when those are fully used,
 * it is the stage that uses most of their time.
 */
function limiting(nodes: readonly LiveNode[], { meters }: Monitor): string | null {
  const inWorkers = nodes.filter(({ id }) => (meters.get(id)?.workSeconds ?? 0) > 0);
  const threads = inWorkers.reduce((sum, { busy }) => sum + (busy ?? 0), 0);
  const shares = nodes.map((node) => {
    const most = inWorkers.every((other) => (other.busy ?? 0) <= (node.busy ?? 0));
    return { id: node.id, share: inWorkers.includes(node) && most ? threads : (node.busy ?? 0) };
  });
  const [first] = shares.sort((a, b) => b.share - a.share);
  return first !== undefined && first.share >= LIMITING ? first.id : null;
}

function sampleOf({ framesOut, bytes, callSeconds, workSeconds, durations, batches }: Meter): Sample {
  return {
    framesOut,
    bytes,
    callSeconds,
    workSeconds,
    durations: { sum: durations.sum, count: durations.count },
    batches: { sum: batches.sum, count: batches.count },
  };
}
