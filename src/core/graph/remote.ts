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

/** A film whose stages are to be run: where it is, and nothing of its pixels. */
export interface Reference {
  readonly frame: Frame;
  readonly candidate: Candidate;
}

/** What the stages found out, by the sink that it is for; null where the film does not come to it. */
export type Findings = Readonly<Record<string, Pick<Frame, 'meta' | 'results'> | null>>;

/** Whoever runs the stages of a graph, on other machines. */
export interface Remote {
  /** How many films may be in flight. */
  readonly frames: number;
  /** Errors when the run cannot go on. Never completes. */
  readonly fatal$: Observable<never>;
  /** From now on, films are for this graph. */
  use(pipeline: Pipeline): void;
  /** Takes a film through the stages. Rejects with what a stage failed with; never settles once `signal` is aborted. */
  process(film: Reference, signal: AbortSignal): Promise<Findings>;
  /** The workers now; `waiting` files have not been taken in yet. */
  status(waiting: number): RemoteStatus;
  close(): Promise<void>;
}

/**
 * The graph of a process that runs no stage: frames go out as references, and what comes back goes to the sinks. One
 * answer per ticket and sink, as of `wire`.
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
          found === null ? [] : [[sink, { ...frame, ...found }]],
        ),
      );
    } catch (thrown) {
      ticket.fail((thrown as { component?: string }).component, thrown, 'FRAME_STAGE');
      return {};
    }
  }
}
