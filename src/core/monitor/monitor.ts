import { Subject, type Observable } from 'rxjs';
import type { Pipeline } from '../config/pipeline.js';
import type { Settled, Span } from '../flow/settled.js';
import type { Interval } from '../history.js';
import type { Kind } from '../plugin.js';
import { Meter, type Trouble } from './meter.js';
import type { RemoteStatus } from './remote-status.js';

/** Waiting files, and frames in flight. */
export interface Load {
  /** Files that wait to be read: paths only. */
  readonly waiting: number;
  /** Frames that are being read or are in the graph. */
  readonly frames: number;
  /** An upper bound of the memory that they hold. */
  readonly bytes: number;
}

/** A source, stage or sink that does not work at present: a sink that is down, a stage that hangs, a missing folder. */
export interface Troubled extends Trouble {
  readonly entry: string;
  readonly kind: Kind;
}

/**
 * Observes a running graph: counters per entry, frames in flight, and each settled film with the durations of its
 * stages. It continues when the graph is replaced by another.
 */
export class Monitor {
  readonly startedAt = new Date();
  /** Files since the start, counted as in the run's summary. */
  readonly films = { done: 0, failed: 0, skipped: 0, already: 0, failedBefore: 0, leftAlone: 0 };
  /** When a film settled last, in milliseconds since 1970; null before the first. */
  lastSettledAt: number | null = null;
  /** Called on request. */
  load: () => Load = () => ({ waiting: 0, frames: 0, bytes: 0 });
  /** The workers on other machines; null when stages run in this process. */
  remote: () => RemoteStatus | null = () => null;
  /** Numbers of films parked in the journal, by sink. */
  parked: () => Promise<Readonly<Record<string, number>>> = async () => ({});
  /** Films that settled since then (ms since 1970), by intervals of so many minutes, from the journal. */
  history: (since: number, minutes: number) => Promise<readonly Interval[]> = async () => [];
  /** Why no films are admitted at present. */
  held: Trouble | null = null;
  /** Sinks that cannot take frames, and sources that cannot offer any, by their ids. */
  readonly #outages = new Map<string, Trouble>();
  /** The running graph; undefined before the first. */
  pipeline: Pipeline | undefined;
  /** Number of worker threads for stages. */
  threads = 1;
  /** One for each entry of the graph: sources, stages, sinks. */
  meters: ReadonlyMap<string, Meter> = new Map();
  /** Spans of the frames in flight. */
  readonly #spans = new Map<string, Span[]>();
  readonly #settled = new Subject<Settled>();
  readonly #attached = new Subject<Pipeline>();

  /** Every film as it settles. Never errors, and goes on when the graph is replaced. */
  readonly settled$: Observable<Settled> = this.#settled.asObservable();
  /** Each graph as it begins to run. */
  readonly attached$: Observable<Pipeline> = this.#attached.asObservable();

  /** A graph begins. Entries that the previous graph had keep their counters. */
  attach(pipeline: Pipeline, threads: number): void {
    const before = this.meters;
    const kinds = { sources: 'source', stages: 'stage', sinks: 'sink' } as const;
    this.meters = new Map(
      (['sources', 'stages', 'sinks'] as const).flatMap((key) =>
        pipeline[key].map(({ id }) => {
          const known = before.get(id);
          const meter = known?.kind === kinds[key] ? known : new Meter(id, kinds[key], this.#note);
          return [id, meter] as const;
        }),
      ),
    );
    this.#outages.clear();
    this.pipeline = pipeline;
    this.threads = threads;
    this.#attached.next(pipeline);
  }

  /** The counters of an entry. Throws for an unknown id. */
  meter(id: string): Meter {
    const meter = this.meters.get(id);
    if (meter === undefined) throw new Error(`the graph has no entry "${id}"`);
    return meter;
  }

  /** A frame enters the graph. */
  enter(id: string): void {
    this.#spans.set(id, []);
  }

  /** A frame leaves the graph: returns its spans. */
  leave(id: string): readonly Span[] {
    const spans = this.#spans.get(id) ?? [];
    this.#spans.delete(id);
    return spans;
  }

  /** A sink cannot take frames, or a source cannot offer any; null: it can again. */
  outage(entry: string, outage: Trouble | null): void {
    if (outage === null) this.#outages.delete(entry);
    else this.#outages.set(entry, outage);
  }

  /** What does not work at present, in the order of the graph. */
  get troubles(): readonly Troubled[] {
    return [...this.meters.values()].flatMap((meter): Troubled[] => {
      const held = meter.kind === 'source' ? this.held : null;
      const trouble = this.#outages.get(meter.id) ?? held ?? meter.trouble;
      return trouble === null ? [] : [{ entry: meter.id, kind: meter.kind, ...trouble }];
    });
  }

  /** Whether nothing makes progress: all sources are in trouble, or a stage is and no film has settled since. */
  get isStalled(): boolean {
    const { troubles } = this;
    const sources = this.pipeline?.sources.length ?? 0;
    if (sources > 0 && troubles.filter(({ kind }) => kind === 'source').length === sources) return true;
    return troubles.some(
      ({ kind, since }) => kind === 'stage' && (this.lastSettledAt ?? 0) < since.getTime(),
    );
  }

  settle(film: Settled): void {
    this.films[film.outcome] += 1;
    this.lastSettledAt = Date.now();
    this.#settled.next(film);
  }

  readonly #note = (id: string, span: Span): void => void this.#spans.get(id)?.push(span);
}
