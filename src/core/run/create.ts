import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import {
  DUPLICATE,
  STAGE_TIMEOUT_MS,
  type Issue,
  type Pipeline,
  type StageNode,
} from '../config/pipeline.js';
import { isFatal, messageOf, RxrayError } from '../errors.js';
import { compileExpression } from '../expression.js';
import type { Frame } from '../frame.js';
import type {
  Candidate,
  FrameStage,
  Log,
  Needs,
  Services,
  SinkInstance,
  SourceInstance,
  StageInstance,
} from '../plugin.js';
import type { WorkerPool } from '../workers/pool.js';
import type { StageSpec } from '../workers/wire.js';

/** Where a graph begins and ends: what may hold files and folders, of which only one graph at a time can have some. */
export interface Ends {
  readonly sources: ReadonlyMap<string, SourceInstance>;
  readonly sinks: ReadonlyMap<string, SinkInstance>;
}

/** What the run offers to sources and sinks. */
export interface Intake {
  readonly once: boolean;
  readonly again: boolean;
  unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]>;
  unread(source: string, name: string, reason: string): void;
  outage(source: string, reason: string | null): void;
}

/** A stage in worker threads, as the main thread sees it. */
export interface PooledStage extends FrameStage {
  /** This stage and none behind it, so that its pixels are handed over. */
  alone(frame: Frame): Promise<Frame>;
}

export type Stages = ReadonlyMap<string, StageInstance | PooledStage>;

/** What a graph needs to make its plugins. */
export interface Workshop {
  readonly log: Log;
  readonly pool: WorkerPool;
  /** A service of the process, by its class; throws where there is none. */
  readonly provide: (service: Needs[string]) => unknown;
}

interface Disposable {
  dispose?(): Promise<void> | void;
}

/** The plugins that a graph has made, which are disposed of together. */
export class Opened {
  readonly #plugins: { readonly id: string; readonly plugin: Disposable }[] = [];

  constructor(private readonly log: Log) {}

  add(id: string, plugin: Disposable): void {
    this.#plugins.push({ id, plugin });
  }

  /** Disposes of all, also when one cannot be closed: that is logged. */
  async dispose(): Promise<void> {
    await Promise.all(
      this.#plugins.splice(0).map(async ({ id, plugin }) => {
        try {
          await plugin.dispose?.();
        } catch (error) {
          this.log.error({ component: id }, `could not be closed: ${messageOf(error)}`);
        }
      }),
    );
  }
}

/** Some plugins refused to be made: every one is in `issues`, with its place in the pipeline file. */
export class CreateError extends Error {
  constructor(readonly issues: readonly Issue[]) {
    super(issues.map(({ component, message }) => `${component ?? ''}: ${message}`).join('\n'));
    this.name = 'CreateError';
  }
}

/**
 * Makes the stages of the graph, and adds them to `opened`. Throws {@link CreateError}, or the error itself where the
 * trouble is outside the pipeline file (no place to write, say). `isWatched` tells whether somebody looks at what comes out of an
 * entry: then a thread hands its pixels over.
 */
export async function createStages(
  pipeline: Pipeline,
  { log, pool, provide }: Workshop,
  opened: Opened,
  signal: AbortSignal,
  isWatched: (id: string) => boolean,
): Promise<Stages> {
  const graph = randomUUID();
  const services = servicesOf(pipeline, log, signal);
  return all(
    await make(opened, pipeline.stages, (node) =>
      node.plugin.runsIn === 'main'
        ? createOnMain(node, { ...services(node.id), ...provided(node.plugin.needs, provide) })
        : createInWorkers(node, pool, { graph, signal, pipeline, isWatched }),
    ),
  );
}

/** Makes sinks and sources, of which sinks ask for the columns of the stages. Throws like {@link createStages}. */
export async function createEnds(
  pipeline: Pipeline,
  log: Log,
  opened: Opened,
  stages: ReadonlyMap<string, Pick<StageInstance, 'columns'>>,
  signal: AbortSignal,
  intake: Intake,
): Promise<Ends> {
  const services = servicesOf(pipeline, log, signal);
  const columns = pipeline.stages.flatMap(({ id }) =>
    (stages.get(id)?.columns ?? []).map((column) => ({ stage: id, column })),
  );
  if (pipeline.duplicates === 'skip') {
    columns.push({ stage: DUPLICATE, column: { name: 'of', path: ['of'] } });
  }
  const sinks = await make(opened, pipeline.sinks, (node) =>
    node.plugin.create(node.settings as never, {
      ...services(node.id),
      columns,
      stages: pipeline.stages.map(({ id, use, settings }) => ({ id, use, with: settings })),
      again: intake.again,
      expression: compileExpression,
    }),
  );
  const sources = await make(opened, pipeline.sources, (node) =>
    node.plugin.create(node.settings as never, {
      ...services(node.id),
      once: intake.once,
      part: pipeline.part,
      unsettled: (candidates) => intake.unsettled(node.id, candidates),
      unread: (name, reason) => intake.unread(node.id, name, reason),
      outage: (reason) => intake.outage(node.id, reason),
    }),
  );
  all({ made: new Map(), issues: [...sinks.issues, ...sources.issues] });
  return { sinks: sinks.made, sources: sources.made };
}

function servicesOf(pipeline: Pipeline, log: Log, signal: AbortSignal): (id: string) => Services {
  return (id) => ({
    id,
    log,
    baseDir: pipeline.baseDir,
    stateDir: pipeline.stateDir,
    signal,
    resolve: (path) => resolve(pipeline.baseDir, path),
  });
}

function provided(needs: Needs = {}, provide: Workshop['provide']): Record<string, unknown> {
  return Object.fromEntries(Object.entries(needs).map(([name, service]) => [name, provide(service)]));
}

interface Made<T> {
  readonly made: ReadonlyMap<string, T>;
  readonly issues: readonly Issue[];
}

/** Makes one kind of entries; what is refused becomes an issue, so that all are shown at once. */
async function make<N extends Pipeline['sources' | 'stages' | 'sinks'][number], T extends Disposable>(
  opened: Opened,
  nodes: readonly N[],
  create: (node: N) => T | Promise<T>,
): Promise<Made<T>> {
  const made = new Map<string, T>();
  const issues: Issue[] = [];
  for (const node of nodes) {
    const { id, location } = node;
    try {
      const plugin = await create(node);
      opened.add(id, plugin);
      made.set(id, plugin);
    } catch (thrown) {
      if (isFatal(thrown)) throw thrown;
      const code = thrown instanceof RxrayError ? thrown.code : 'CONFIG_CREATE';
      issues.push({ severity: 'error', code, message: messageOf(thrown), component: id, location });
    }
  }
  return { made, issues };
}

function all<T>({ made, issues }: Made<T>): ReadonlyMap<string, T> {
  if (issues.length > 0) throw new CreateError(issues);
  return made;
}

async function createOnMain(node: StageNode, services: Services): Promise<StageInstance> {
  const stage = await node.plugin.create(node.settings as never, services);
  if (node.batch !== undefined && !('processBatch' in stage)) {
    await stage.dispose?.();
    throw new RxrayError('CONFIG_INVALID', `"${node.use}" does not work in batches: leave out \`batch:\``);
  }
  if (node.retry !== undefined && 'operator' in stage) {
    await stage.dispose?.();
    throw new RxrayError(
      'CONFIG_INVALID',
      `"${node.use}" is an RxJS operator, which may retry by itself: leave out \`retry:\``,
    );
  }
  if (node.timeoutMs !== undefined && 'operator' in stage) {
    await stage.dispose?.();
    throw new RxrayError(
      'CONFIG_INVALID',
      `"${node.use}" is an RxJS operator, which holds frames as long as it likes: leave out \`timeoutMs:\``,
    );
  }
  return stage;
}

/** A stand-in on the main thread for a stage that every worker thread makes for itself. */
async function createInWorkers(
  node: StageNode,
  pool: WorkerPool,
  {
    graph,
    signal,
    pipeline,
    isWatched,
  }: { graph: string; signal: AbortSignal; pipeline: Pipeline; isWatched: (id: string) => boolean },
): Promise<PooledStage> {
  if (node.batch !== undefined) {
    throw new RxrayError('CONFIG_INVALID', `"${node.use}" takes frames one by one: leave out \`batch:\``);
  }
  const spec = specOf(node, pipeline, graph);
  const alone = { ...spec, next: undefined };
  signal.addEventListener('abort', () => {
    pool.abort(spec.key);
  });
  return {
    columns: await pool.create(spec),
    process: (frame) => pool.process(handsOver(spec, isWatched) ? alone : spec, frame),
    alone: (frame) => pool.process(alone, frame),
    dispose: () => pool.disposeStage(spec.key),
  };
}

/** Whether somebody wants to see the pixels of a stage, which has another behind it. */
function handsOver(spec: StageSpec, isWatched: (id: string) => boolean): boolean {
  if (spec.next === undefined) return false;
  return isWatched(spec.id) || handsOver(spec.next, isWatched);
}

function specOf(node: StageNode, pipeline: Pipeline, graph: string): StageSpec {
  const { id, url, settings, timeoutMs = STAGE_TIMEOUT_MS } = node;
  const { baseDir, stateDir } = pipeline;
  const next = successorOf(node, pipeline);
  return {
    ...{ key: `${graph}:${id}`, id, url, settings, baseDir, stateDir, timeoutMs },
    next: next && specOf(next, pipeline, graph),
  };
}

/** The stage that a thread may go on with: it gets every frame, nobody else does, and no bound of its own holds it back. */
function successorOf({ id, concurrency }: StageNode, { stages, sinks }: Pipeline): StageNode | undefined {
  const [only, ...others] = [...stages, ...sinks].filter(({ from }) => from.includes(id));
  const next = stages.find((stage) => stage === only);
  if (next === undefined || others.length > 0 || next.from.length > 1) return undefined;
  const bound = concurrency ?? next.concurrency ?? next.when;
  return bound === undefined && next.plugin.runsIn !== 'main' ? next : undefined;
}
