import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import type { Container } from 'inversify';
import type { Issue, Pipeline, StageNode } from '../config/pipeline.js';
import { bindPlugin, LOG, SINK, SOURCE, STAGE } from '../container.js';
import { RxrayError, messageOf } from '../errors.js';
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
  readonly signal: AbortSignal;
  unsettled(source: string, candidates: readonly Candidate[]): Promise<Candidate[]>;
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

  for (const node of pipeline.stages) {
    bindPlugin(container, STAGE, node.id, () =>
      node.plugin.runsIn === 'main'
        ? createOnMain(node, services(node.id))
        : createInWorkers(node, pool, `${run}:${node.id}`, pipeline),
    );
  }
  const columns = (): { stage: string; column: { name: string; path: readonly string[] } }[] =>
    pipeline.stages.flatMap(({ id }) =>
      (stages.get(id)?.columns ?? []).map((column) => ({ stage: id, column })),
    );
  for (const node of pipeline.sinks) {
    bindPlugin(container, SINK, node.id, async () =>
      node.plugin.create(node.settings as never, {
        ...services(node.id),
        columns: columns(),
        expression: compileExpression,
      }),
    );
  }
  for (const node of pipeline.sources) {
    bindPlugin(container, SOURCE, node.id, async () =>
      node.plugin.create(node.settings as never, {
        ...services(node.id),
        once: intake.once,
        unsettled: (candidates) => intake.unsettled(node.id, candidates),
      }),
    );
  }

  async function all<T>(nodes: Pipeline['stages' | 'sinks' | 'sources'], get: (id: string) => Promise<T>) {
    const made = new Map<string, T>();
    for (const { id, location } of nodes) {
      try {
        made.set(id, await get(id));
      } catch (thrown) {
        if (thrown instanceof RxrayError && /^(STATE|OUTPUT)_/.test(thrown.code)) throw thrown;
        const code = thrown instanceof RxrayError ? thrown.code : 'CONFIG_CREATE';
        issues.push({ severity: 'error', code, message: messageOf(thrown), component: id, location });
      }
    }
    return made;
  }
  const stages = await all(pipeline.stages, (id) => container.getAsync(STAGE, { name: id }));
  if (issues.length > 0) throw new CreateError(issues);
  const sinks = await all(pipeline.sinks, (id) => container.getAsync(SINK, { name: id }));
  const sources = await all(pipeline.sources, (id) => container.getAsync(SOURCE, { name: id }));
  if (issues.length > 0) throw new CreateError(issues);
  return { sources, stages, sinks };
}

async function createOnMain(node: StageNode, services: Services): Promise<StageInstance> {
  const stage = await node.plugin.create(node.settings as never, services);
  if (node.batch !== undefined && !('processBatch' in stage)) {
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
