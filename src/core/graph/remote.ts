import { identity, map, merge, mergeMap, share, Subject, takeUntil, tap, type Observable } from 'rxjs';
import type { Pipeline } from '../config/pipeline.js';
import { compileCondition } from '../expression.js';
import type { Frame } from '../frame.js';
import type { Monitor } from '../monitor/monitor.js';
import type { RemoteStatus } from '../monitor/remote-status.js';
import type { Outlet } from '../outlets/outlet.js';
import type { Candidate } from '../plugin.js';
import { deliver } from './deliver.js';
import { route } from './route.js';
import type { SinkAnswer, Ticket, Token } from '../flow/ticket.js';

/** A film to process elsewhere: its file, without pixels. */
export interface Reference {
  readonly frame: Frame;
  readonly candidate: Candidate;
}

/** The results of the stages, by sink; null for a sink that the film does not reach. */
export type Findings = Readonly<Record<string, Pick<Frame, 'meta' | 'results'> | null>>;

/** Runs the stages of a graph on other machines. */
export interface Remote {
  /** Maximum number of films in flight. */
  readonly frames: number;
  /** Errors when the run cannot continue. Never completes. */
  readonly fatal$: Observable<never>;
  /** Sets the graph of all further films; `monitor` gets the counters of its stages. */
  use(pipeline: Pipeline, monitor: Monitor): void;
  /** Processes a film. Rejects with a stage's error; never settles after `signal` is aborted. */
  process(film: Reference, signal: AbortSignal): Promise<Findings>;
  /** The workers now; `waiting` files have not been taken in yet. */
  status(waiting: number): RemoteStatus;
  close(): Promise<void>;
}

/**
 * The graph of a process that runs no stages: sends frames as references, and delivers the results to the sinks. One
 * answer per ticket and sink, as in `wire`.
 */
export function wireRemote(
  { sources, stages, sinks }: Pipeline,
  outlets: ReadonlyMap<string, Outlet>,
  admitted: Observable<Token>,
  { remote, monitor, signal }: { remote: Remote; monitor: Monitor; signal: AbortSignal },
): Observable<SinkAnswer> {
  const made$ = admitted.pipe(
    mergeMap(async ({ ticket, frame }) => ({ ticket, frames: await throughStages(ticket, frame) })),
    share(),
  );
  const answers = sinks.map((node) => {
    const meter = monitor.meter(node.id);
    const outlet = outlets.get(node.id);
    if (outlet === undefined) throw new Error(`the graph has no sink "${node.id}"`);
    return made$.pipe(
      map(({ ticket, frames }): Token => ({ ticket, frame: frames[node.id] ?? null })),
      node.when === undefined ? identity : route(node.id, compileCondition(node.when)),
      meter.entering(),
      deliver(node.id, outlet, sinks.length),
      meter.settling(),
    );
  });
  const ended = new Subject<void>();
  return merge(
    remote.fatal$.pipe(takeUntil(ended)),
    merge(...answers).pipe(tap({ complete: () => ended.next() })),
  );

  async function throughStages(ticket: Ticket, frame: Frame | null): Promise<Record<string, Frame>> {
    if (frame === null) return {};
    if (ticket.duplicate || stages.length === 0) {
      const reached = ticket.duplicate
        ? sinks
        : sinks.filter(({ from }) => from.some((id) => sources.some((source) => source.id === id)));
      return Object.fromEntries(reached.map(({ id }) => [id, frame]));
    }
    try {
      const findings = await remote.process({ frame, candidate: ticket.candidate }, signal);
      return Object.fromEntries(
        Object.entries(findings).flatMap(([sink, found]) =>
          found === null ? [] : [[sink, { ...frame, ...found, meta: { ...frame.meta, ...found.meta } }]],
        ),
      );
    } catch (thrown) {
      ticket.fail((thrown as { component?: string }).component, thrown, 'FRAME_STAGE');
      return {};
    }
  }
}
