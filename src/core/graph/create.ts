import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import type { Container, ServiceIdentifier } from 'inversify';
import type { Issue, Pipeline, StageNode } from '../config/pipeline.js';
import { adopt, LOG, SINK, SOURCE, STAGE } from '../container.js';
import { isFatal, messageOf, RxrayError } from '../errors.js';
import { compileExpression } from '../expression.js';
import type { Candidate, Services, SinkInstance, SourceInstance, StageInstance } from '../plugin.js';
import { WorkerPool } from '../workers/pool.js';

/** The plugins of a graph, made and ready. */
export interface Parts {
  readonly sources: ReadonlyMap<string, SourceInstance>;
  readonly stages: ReadonlyMap<string, StageInstance>;
  readonly sinks: ReadonlyMap<string, SinkInstance>;
}

/** What the run offers to its sources. */
export interface Intake {
  readonly once: boolean;
  readonly again: boolean;
  readonly signal: AbortSignal;
  unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]>;
}

interface Disposable {
  dispose?(): Promise<void> | void;
}

/** Some plugins refused to be made: every one is in `issues`, with its place in the pipeline file. */
export class CreateError extends Error {
  constructor(readonly issues: readonly Issue[]) {
    super(issues.map(({ component, message }) => `${component ?? ''}: ${message}`).join('\n'));
    this.name = 'CreateError';
  }
}

/**
 * Makes every plugin of the graph in its container: stages first, since sinks ask for their columns.
 * Throws {@link CreateError}, or the error itself where the trouble is outside the pipeline file
 * (no place to write, say).
 */
export async function createParts(pipeline: Pipeline, container: Container, intake: Intake): Promise<Parts> {
  const pool = container.get(WorkerPool);
  const run = randomUUID();
  const issues: Issue[] = [];

  const services = (id: string): Services => ({
    id,
    log: container.get(LOG),
    baseDir: pipeline.baseDir,
    stateDir: pipeline.stateDir,
    signal: intake.signal,
    resolve: (path) => resolve(pipeline.baseDir, path),
    get: (service) => container.get(service),
  });

  /** Makes one kind of entries; what is refused becomes an issue, so that all are shown at once. */
  async function make<N extends Pipeline['sources' | 'stages' | 'sinks'][number], T extends Disposable>(
    nodes: readonly N[],
    kind: ServiceIdentifier<T>,
    create: (node: N) => T | Promise<T>,
  ): Promise<Map<string, T>> {
    const made = new Map<string, T>();
    for (const node of nodes) {
      const { id, location } = node;
      try {
        const plugin = await create(node);
        adopt(container, kind, id, plugin);
        made.set(id, plugin);
      } catch (thrown) {
        if (thrown instanceof RxrayError && isFatal(thrown)) throw thrown;
        const code = thrown instanceof RxrayError ? thrown.code : 'CONFIG_CREATE';
        issues.push({ severity: 'error', code, message: messageOf(thrown), component: id, location });
      }
    }
    return made;
  }

  const stages = await make(pipeline.stages, STAGE, (node) =>
    node.plugin.runsIn === 'main'
      ? createOnMain(node, services(node.id))
      : createInWorkers(node, pool, `${run}:${node.id}`, pipeline),
  );
  // Sinks ask for the columns of all stages, so with a stage missing they would complain in vain.
  if (issues.length > 0) throw new CreateError(issues);
  const columns = pipeline.stages.flatMap(({ id }) =>
    (stages.get(id)?.columns ?? []).map((column) => ({ stage: id, column })),
  );
  const sinks = await make(pipeline.sinks, SINK, (node) =>
    node.plugin.create(node.settings as never, {
      ...services(node.id),
      columns,
      again: intake.again,
      expression: compileExpression,
    }),
  );
  const sources = await make(pipeline.sources, SOURCE, (node) =>
    node.plugin.create(node.settings as never, {
      ...services(node.id),
      once: intake.once,
      unsettled: (candidates) => intake.unsettled(node.id, candidates),
    }),
  );
  if (issues.length > 0) throw new CreateError(issues);
  return { sources, stages, sinks };
}

async function createOnMain(node: StageNode, services: Services): Promise<StageInstance> {
  const stage = await node.plugin.create(node.settings as never, services);
  if (node.batch !== undefined && !('processBatch' in stage)) {
    await stage.dispose?.();
    throw new RxrayError('CONFIG_INVALID', `"${node.use}" does not work in batches: leave out \`batch:\``);
  }
  return stage;
}

/** A stand-in on the main thread for a stage that every worker thread makes for itself. */
async function createInWorkers(
  node: StageNode,
  pool: WorkerPool,
  key: string,
  pipeline: Pipeline,
): Promise<StageInstance> {
  const { id, url, settings } = node;
  if (node.batch !== undefined) {
    throw new RxrayError('CONFIG_INVALID', `"${node.use}" takes frames one by one: leave out \`batch:\``);
  }
  const spec = { key, id, url, settings, baseDir: pipeline.baseDir, stateDir: pipeline.stateDir };
  return { columns: await pool.create(spec), process: (frame) => pool.process(spec, frame) };
}
