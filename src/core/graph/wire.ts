import { filter, identity, map, merge, pipe, share, tap, type Observable, type OperatorFunction } from 'rxjs';
import { STAGE_TIMEOUT_MS, type Pipeline, type SinkNode, type StageNode } from '../config/pipeline.js';
import { batchSchema } from '../config/schema.js';
import { RxrayError } from '../errors.js';
import { compileCondition } from '../expression.js';
import { asShadow } from '../frame.js';
import type { Monitor } from '../monitor/monitor.js';
import { MAX_TIMER_MS, type BatchStage, type Log, type StageInstance } from '../plugin.js';
import type { WorkerPool } from '../workers/pool.js';
import { Segment, type PooledStage } from '../workers/segment.js';
import { inBatches } from './batch.js';
import { eachFrame } from './frames.js';
import { joinBranches } from './join.js';
import { throughOperator } from './operator.js';
import type { Outlet } from '../outlets/outlet.js';
import { deliver } from './deliver.js';
import { route } from './route.js';
import { throughSegment } from './segment.js';
import { segmentsOf } from './segments.js';
import { failurePolicyOf } from './failure-policy.js';
import { absent, type SinkAnswer, type Token } from '../flow/ticket.js';
import { tookTooLong, withinTime } from '../time-limit.js';

/** Default concurrency of a stage on the main thread, which mostly waits. */
const MAIN_CONCURRENCY = 8;
const DEFAULT_BATCH = batchSchema.parse({});

export interface WireOptions {
  readonly log: Log;
  readonly pool: Pick<WorkerPool, 'threads' | 'process'>;
  readonly monitor: Monitor;
}

/**
 * Builds the observables of a graph: one shared stream per node (for a segment, of its last one), of operators that emit
 * one token per input token.
 * `admitted` is the root: all tickets of all sources, starting after the subscription. Returns one answer per ticket
 * and sink; without sinks the last stage takes the role of one.
 */
export function wire(
  pipeline: Pipeline,
  stages: ReadonlyMap<string, StageInstance | PooledStage>,
  outlets: ReadonlyMap<string, Outlet>,
  admitted: Observable<Token>,
  { log, pool, monitor }: WireOptions,
): Observable<SinkAnswer> {
  let entered = 0;
  const all = admitted.pipe(
    tap(() => (entered += 1)),
    share(),
  );
  // Tickets of other sources are absent tokens, so that several sources join like branches.
  const outputs = new Map(
    pipeline.sources.map(({ id }) => [
      id,
      all.pipe(
        map((token) => (token.ticket.origin.source === id ? token : absent(token))),
        monitor.meter(id).leaving(),
        share(),
      ),
    ]),
  );

  for (const segment of segmentsOf(pipeline)) {
    const [first] = segment as [StageNode];
    let arrived = 0;
    const isMoreComing = (): boolean => arrived < entered;
    for (const { id, timeoutMs = STAGE_TIMEOUT_MS } of segment) monitor.meter(id).limitMs = timeoutMs;
    const work = first.plugin.runsIn === 'main' ? onMain(first, isMoreComing) : inThreads(segment);
    const measured = (input: Observable<Token>): Observable<Token> =>
      input.pipe(routing(first), monitor.meter(first.id).entering(), work);
    outputs.set(
      segment.at(-1)?.id ?? first.id,
      inputOf(first).pipe(
        tap(() => (arrived += 1)),
        pipeline.duplicates === 'skip' ? pastDuplicates(measured) : measured,
        share(),
      ),
    );
  }
  const [last = pipeline.sources[0]] = pipeline.stages.slice(-1);
  if (pipeline.sinks.length === 0 && last !== undefined) {
    return get(outputs, last.id).pipe(map(settledWithoutSink));
  }
  return merge(
    ...pipeline.sinks.map((node) => {
      const meter = monitor.meter(node.id);
      return inputOf(node).pipe(
        routing(node),
        meter.entering(),
        deliver(node.id, get(outlets, node.id), pipeline.sinks.length),
        meter.settling(),
      );
    }),
  );

  function inputOf({ from }: StageNode | SinkNode): Observable<Token> {
    const inputs = from.map((name) => get(outputs, name));
    const [only] = inputs;
    return only !== undefined && inputs.length === 1 ? only : joinBranches(inputs);
  }

  function routing({ id, when }: StageNode | SinkNode): OperatorFunction<Token, Token> {
    return when === undefined ? identity : route(id, compileCondition(when));
  }

  function onMain(node: StageNode, isMoreComing: () => boolean): OperatorFunction<Token, Token> {
    const { id, shadow, concurrency } = node;
    const meter = monitor.meter(id);
    const marked = map(({ ticket, frame }: Token) => ({ ticket, frame: frame && asShadow(frame, id) }));
    return pipe(operator(), shadow === true ? marked : identity, meter.leaving());

    function operator(): OperatorFunction<Token, Token> {
      const policy = failurePolicyOf(node, log);
      const stage = meter.stage(timed(get(stages, id), node));
      if ('operator' in stage) return throughOperator(policy, stage);
      if ('processBatch' in stage) {
        meter.capacity = concurrency ?? stage.device?.lanes ?? 1;
        const options = { ...DEFAULT_BATCH, ...node.batch, concurrency: meter.capacity, isMoreComing };
        return inBatches(policy, stage, options);
      }
      meter.capacity = concurrency ?? MAIN_CONCURRENCY;
      return eachFrame(policy, (frame) => stage.process(frame), meter.capacity);
    }
  }

  function inThreads(nodes: readonly StageNode[]): OperatorFunction<Token, Token> {
    const specs = nodes.map(({ id, when, shadow }, i) => {
      const stage = get(stages, id);
      if (!('spec' in stage)) throw new Error(`the stage "${id}" is not in worker threads`);
      // The first one's condition is tested before a thread is free.
      return { ...stage.spec, when: i === 0 ? undefined : when, shadow };
    });
    const parts = nodes.map((node) => ({
      policy: failurePolicyOf(node, log),
      meter: monitor.meter(node.id),
    }));
    for (const { meter } of parts) meter.capacity = pool.threads;
    return throughSegment(new Segment(specs), parts, pool, nodes[0]?.concurrency ?? pool.threads);
  }
}

/** A stage on the main thread with its time limit; for a batch, times its number of frames. */
function timed(stage: StageInstance, { id, timeoutMs = STAGE_TIMEOUT_MS }: StageNode): StageInstance {
  if ('operator' in stage) return stage;
  if ('process' in stage) {
    return { ...stage, process: (frame) => withinTime(id, timeoutMs, () => stage.process(frame)) };
  }
  return {
    ...stage,
    processBatch: (frames) => {
      const limit = Math.min(timeoutMs * frames.length, MAX_TIMER_MS);
      return withinTime(
        id,
        limit,
        () => stage.processBatch(frames),
        () => lateness(stage, id, limit),
      );
    },
  };
}

/**
 * The error of a batch that takes too long. A device that is still at work may never end, and every later film would
 * wait for it: then the run ends, and the next start takes the films again and finds the one that caused it.
 */
function lateness({ device }: BatchStage, id: string, ms: number): RxrayError {
  if (device?.giveUp === undefined || device.idle) return tookTooLong(id, ms);
  const message = `the model of ${id} has not answered for ${ms} ms (\`timeoutMs\`)`;
  device.giveUp(message);
  return new RxrayError('RUN_STOPPED', message, { component: id });
}

/** Duplicates skip the stage. */
function pastDuplicates(work: OperatorFunction<Token, Token>): OperatorFunction<Token, Token> {
  return (tokens) => {
    const shared = tokens.pipe(share());
    return merge(
      shared.pipe(
        filter(({ ticket }) => !ticket.duplicate),
        work,
      ),
      shared.pipe(filter(({ ticket }) => ticket.duplicate)),
    );
  };
}

/** Without sinks, the last stage takes the role of one. */
function settledWithoutSink(token: Token): SinkAnswer {
  return { sink: '', token, frame: token.frame, kind: token.frame === null ? 'skip' : 'confirm' };
}

function get<T>(map: ReadonlyMap<string, T>, id: string): T {
  const found = map.get(id);
  if (found === undefined) throw new Error(`the graph has no node "${id}"`);
  return found;
}
