import { identity, map, merge, share, Subject, takeUntil, tap, type Observable } from 'rxjs';
import type { Pipeline } from '../config/pipeline.js';
import { compileCondition } from '../expression.js';
import type { Reference, Processed, ProcessedToken } from '../flow/elsewhere.js';
import type { Frame } from '../frame.js';
import type { Monitor } from '../monitor/monitor.js';
import type { RemoteStatus } from '../monitor/remote-status.js';
import type { Outlet } from '../outlets/outlet.js';
import { deliver } from './deliver.js';
import { route } from './route.js';
import type { SinkAnswer, Token } from '../flow/ticket.js';

/** Runs the stages of a graph on other machines. */
export interface Remote {
  /** Maximum number of films in flight. */
  readonly frames: number;
  /** Errors when the run cannot continue. Never completes. */
  readonly fatal$: Observable<never>;
  /** Whether the other machines fetch films that are no local files, if the source's plugin can do so. */
  readonly fetches: boolean;
  /** Sets the graph of all further films; `monitor` gets the counters of its stages. */
  use(pipeline: Pipeline, monitor: Monitor): void;
  /**
   * Processes a film; null if its file is not found, or has changed. Rejects if it cannot be read, or ends the processes
   * that have it; never settles after `signal` is aborted.
   */
  process(film: Reference, signal: AbortSignal): Promise<Processed | null>;
  /** The workers now; `waiting` files have not been taken in yet. */
  status(waiting: number): RemoteStatus;
  close(): Promise<void>;
}

/**
 * The graph of a process that runs no stages: delivers what they have found elsewhere to the sinks. One answer per ticket
 * and sink, as in `wire`.
 */
export function wireRemote(
  { sources, sinks }: Pipeline,
  outlets: ReadonlyMap<string, Outlet>,
  admitted: Observable<ProcessedToken>,
  { remote, monitor }: { remote: Remote; monitor: Monitor },
): Observable<SinkAnswer> {
  const made$ = admitted.pipe(
    tap((token) => monitor.meter(token.ticket.origin.source).left(token)),
    map((token) => ({ ticket: token.ticket, frames: framesOf(token) })),
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

  /** By sink. */
  function framesOf({ ticket, frame, findings }: ProcessedToken): Record<string, Frame> {
    if (frame === null) return {};
    if (ticket.duplicate || findings === undefined) {
      const reached = ticket.duplicate
        ? sinks
        : sinks.filter(({ from }) => from.some((id) => sources.some((source) => source.id === id)));
      return Object.fromEntries(reached.map(({ id }) => [id, frame]));
    }
    return Object.fromEntries(
      Object.entries(findings).flatMap(([sink, found]) =>
        found === null ? [] : [[sink, { ...frame, ...found, meta: { ...frame.meta, ...found.meta } }]],
      ),
    );
  }
}
