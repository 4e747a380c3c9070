import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import {
  DUPLICATE,
  STAGE_TIMEOUT_MS,
  type Issue,
  type Pipeline,
  type SourceNode,
  type StageNode,
} from '../config/pipeline.js';
import { isFatal, messageOf, RxrayError } from '../errors.js';
import { compileExpression } from '../expression.js';
import type {
  Candidate,
  Fetcher,
  Log,
  Needs,
  Services,
  SinkInstance,
  SourceInstance,
  StageInstance,
} from '../plugin.js';
import { checkInstance } from '../plugin-instance.js';
import type { WorkerPool } from '../workers/pool.js';
import type { StageSpec } from '../workers/protocol.js';
import { Segment, type PooledStage } from '../workers/segment.js';

/** The sources and sinks of a graph. They hold files and folders, which only one graph at a time can have. */
export interface Connectors {
  readonly sources: ReadonlyMap<string, SourceInstance>;
  readonly sinks: ReadonlyMap<string, SinkInstance>;
}

/** What the run provides to sources and sinks. */
export interface ConnectorHost {
  readonly once: boolean;
  readonly again: boolean;
  unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]>;
  unread(source: string, name: string, reason: string): void;
  leftAlone(files: number): void;
  outage(source: string, reason: string | null): void;
}

export type Stages = ReadonlyMap<string, StageInstance | PooledStage>;

/** What a graph needs to create its stages. */
export interface StageHost {
  readonly log: Log;
  readonly pool: WorkerPool;
  /** A service of the process, by its class; throws if there is none. */
  readonly provide: (service: Needs[string]) => unknown;
}

interface Disposable {
  dispose?(): Promise<void> | void;
}

/** A plugin whose `create` takes longer is named in the log, again and again: it may wait for what never answers. */
const TELL_EVERY_MS = 20_000;

/** The plugins that a graph has created; they are disposed of together. */
export class OpenPlugins {
  readonly #plugins: { readonly id: string; readonly plugin: Disposable }[] = [];

  constructor(
    private readonly log: Log,
    private readonly tellEveryMs = TELL_EVERY_MS,
  ) {}

  add(id: string, plugin: Disposable): void {
    this.#plugins.push({ id, plugin });
  }

  /** Creates a plugin, and warns while that takes long. */
  async creating<T>(id: string, create: () => T | Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      this.log.warn({ component: id }, 'it is still starting: films wait until it has started');
    }, this.tellEveryMs).unref();
    try {
      return await create();
    } finally {
      clearInterval(timer);
    }
  }

  /** Disposes of all plugins; an error of one is logged. */
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

/** Some plugins could not be created: `issues` has all of them, with their positions in the pipeline file. */
export class CreateError extends Error {
  constructor(readonly issues: readonly Issue[]) {
    super(issues.map(({ component, message }) => `${component ?? ''}: ${message}`).join('\n'));
    this.name = 'CreateError';
  }
}

/**
 * Creates the stages of the graph, and adds them to `opened`. Throws {@link CreateError}, or the error itself if its
 * cause is outside the pipeline file (a folder that cannot be written, for example).
 */
export async function createStages(
  pipeline: Pipeline,
  { log, pool, provide }: StageHost,
  opened: OpenPlugins,
  signal: AbortSignal,
): Promise<Stages> {
  const graph = randomUUID();
  const services = servicesOf(pipeline, log, signal);
  return all(
    await make(opened, pipeline.stages, (node) =>
      node.plugin.runsIn === 'main'
        ? createOnMain(node, { ...services(node.id), ...provided(node.plugin.needs, provide) })
        : createInWorkers(node, pipeline, pool, { graph, signal }),
    ),
  );
}

/** Creates sinks, with the columns of the stages, and sources. Throws like {@link createStages}. */
export async function createConnectors(
  pipeline: Pipeline,
  log: Log,
  opened: OpenPlugins,
  stages: ReadonlyMap<string, Pick<StageInstance, 'columns'>>,
  signal: AbortSignal,
  intake: ConnectorHost,
): Promise<Connectors> {
  const services = servicesOf(pipeline, log, signal);
  const columns = pipeline.stages.flatMap(({ id, shadow }) =>
    (stages.get(id)?.columns ?? []).map((column) => ({
      stage: id,
      column: shadow === true ? { ...column, onRequest: true } : column,
    })),
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
      leftAlone: (files) => intake.leftAlone(files),
      outage: (reason) => intake.outage(node.id, reason),
    }),
  );
  all({ made: new Map(), issues: [...sinks.issues, ...sources.issues] });
  return { sinks: sinks.made, sources: sources.made };
}

/** Creates what fetches films of sources that are on another machine. Throws like {@link createStages}. */
export async function createFetchers(
  pipeline: Pipeline,
  log: Log,
  opened: OpenPlugins,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Fetcher>> {
  const services = servicesOf(pipeline, log, signal);
  const fetchers = new Map<string, Fetcher>();
  for (const { id, plugin, settings } of pipeline.sources) {
    const fetcher = await (plugin as SourceNode['plugin'] | undefined)?.fetcher?.(
      settings as never,
      services(id),
    );
    if (fetcher === undefined) continue;
    opened.add(id, fetcher);
    fetchers.set(id, fetcher);
  }
  return fetchers;
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

function provided(needs: Needs = {}, provide: StageHost['provide']): Record<string, unknown> {
  return Object.fromEntries(Object.entries(needs).map(([name, service]) => [name, provide(service)]));
}

interface Created<T> {
  readonly made: ReadonlyMap<string, T>;
  readonly issues: readonly Issue[];
}

/** Creates the plugins of one kind; errors become issues, so that all are shown at once. */
async function make<N extends Pipeline['sources' | 'stages' | 'sinks'][number], T extends Disposable>(
  opened: OpenPlugins,
  nodes: readonly N[],
  create: (node: N) => T | Promise<T>,
): Promise<Created<T>> {
  const made = new Map<string, T>();
  const issues: Issue[] = [];
  for (const node of nodes) {
    const { id, location } = node;
    try {
      const created = await opened.creating(id, () => create(node));
      const plugin = checkInstance(node.plugin.kind, node.use, created);
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

function all<T>({ made, issues }: Created<T>): ReadonlyMap<string, T> {
  if (issues.length > 0) throw new CreateError(issues);
  return made;
}

async function createOnMain(node: StageNode, services: Services): Promise<StageInstance> {
  const stage = checkInstance('stage', node.use, await node.plugin.create(node.settings as never, services));
  const fault = faultOf(node, stage);
  if (fault === undefined) return stage;
  await stage.dispose?.();
  throw new RxrayError('CONFIG_INVALID', `"${node.use}" ${fault}`);
}

/** Which keys of the entry the stage does not support, in words. */
function faultOf({ batch, retry, timeoutMs }: StageNode, stage: StageInstance): string | undefined {
  if (batch !== undefined && !('processBatch' in stage))
    return 'does not work in batches: leave out `batch:`';
  if (!('operator' in stage)) return undefined;
  if (retry !== undefined) return 'is an RxJS operator, which may retry by itself: leave out `retry:`';
  if (timeoutMs === undefined) return undefined;
  return 'is an RxJS operator, which may hold frames for any time: leave out `timeoutMs:`';
}

/** A proxy on the main thread for a stage that every worker thread creates for itself. */
async function createInWorkers(
  { id, url, use, batch, plugin, settings, timeoutMs = STAGE_TIMEOUT_MS }: StageNode,
  { baseDir, stateDir }: Pipeline,
  pool: WorkerPool,
  { graph, signal }: { graph: string; signal: AbortSignal },
): Promise<PooledStage> {
  if (batch !== undefined) {
    throw new RxrayError('CONFIG_INVALID', `"${use}" takes frames one by one: leave out \`batch:\``);
  }
  const key = `${graph}:${id}`;
  const { retainsNothing = false, runsNativeCode = false } = plugin;
  const kind = { retainsNothing, runsNativeCode };
  const spec: StageSpec = { key, id, url, settings, baseDir, stateDir, timeoutMs, ...kind };
  const alone = new Segment([spec]);
  signal.addEventListener('abort', () => {
    pool.abort(key);
  });
  return {
    spec,
    columns: await pool.create(spec),
    process: (frame) => pool.make(alone, frame),
    dispose: () => pool.disposeStage(key),
  };
}
