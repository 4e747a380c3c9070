import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  renderingOf,
  type Pipeline,
  type SinkNode,
  type SourceNode,
  type StageNode,
} from '../core/config/pipeline.js';
import { RxrayError } from '../core/errors.js';
import { sha256Of } from '../core/files.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import type { Graph, SinkDescription } from './protocol.js';

/** The part of a graph that a worker needs, and the hashes of its files: plugins and bundles. */
export async function describeGraph(pipeline: Pipeline): Promise<Graph> {
  const { file, baseDir, name, threads, limits, duplicates, shutdownTimeoutMs, hash, cluster } = pipeline;
  const description: Graph['pipeline'] = {
    ...{ file, baseDir, name, limits, duplicates, shutdownTimeoutMs, hash },
    ...(threads !== undefined && { threads }),
    sources: pipeline.sources.map(({ id, use, settings, plugin }) => ({
      id,
      ...(cluster?.films === 'object' && plugin.fetcher !== undefined && { fetched: { use, settings } }),
    })),
    stages: pipeline.stages.map(
      ({ plugin, url: _url, written: _written, location: _location, ...stage }) => ({
        ...stage,
        version: plugin.version,
      }),
    ),
    sinks: pipeline.sinks.map(describeSink),
  };
  const rendered = pipeline.sinks.flatMap((node) => {
    const settings = renderingOf(node);
    return settings === undefined ? [] : [{ ...node, settings }];
  });
  const files = await filesOf([...pipeline.stages, ...rendered], baseDir);
  const text = JSON.stringify([description, files]);
  return { hash: createHash('sha256').update(text).digest('hex'), pipeline: description, files };
}

function describeSink(node: SinkNode): SinkDescription {
  const { id, from, use, plugin, when } = node;
  const settings = renderingOf(node);
  return {
    ...{ id, from },
    ...(settings !== undefined && { rendered: { use, version: plugin.version, settings, when } }),
  };
}

/**
 * The graph as a pipeline of this machine, with its plugins. Throws CONFIG_CREATE if plugins or bundles differ from the
 * head's.
 */
export async function pipelineOf(
  graph: Graph,
  registry: PluginRegistry,
  stateDir: string,
): Promise<Pipeline> {
  const { sources, stages, sinks, ...rest } = graph.pipeline;
  const location = { line: 1, column: 1 };
  const loaded = await Promise.all(
    stages.map(async ({ version, ...stage }): Promise<StageNode> => {
      const loading = registry.load('stage', stage.use, rest.baseDir);
      return { ...stage, ...sameVersion(stage.use, await loading, version), written: {}, location };
    }),
  );
  const ends = await Promise.all(
    sinks.map(async ({ rendered, ...sink }): Promise<WorkerSink> => {
      if (rendered === undefined) return sink;
      const { use, version, settings, when } = rendered;
      const loading = registry.load('sink', use, rest.baseDir);
      const { plugin, url } = sameVersion(use, await loading, version);
      return { ...sink, use, plugin, url, settings, ...(when !== undefined && { when }) };
    }),
  );
  const files = await filesOf([...loaded, ...ends.filter(isRendered)], rest.baseDir);
  const names = new Set([...Object.keys(files), ...Object.keys(graph.files)]);
  const other = [...names].filter((name) => files[name] !== graph.files[name]);
  if (other.length > 0) {
    throw new RxrayError('CONFIG_CREATE', `different from the head's: ${other.slice(0, 5).join(', ')}`);
  }
  return {
    ...rest,
    stateDir,
    sources: await Promise.all(
      sources.map(async ({ id, fetched }) => {
        if (fetched === undefined) return { id } as SourceNode;
        const { plugin, url } = await registry.load('source', fetched.use, rest.baseDir);
        return { id, ...fetched, plugin, url, written: {}, location };
      }),
    ),
    stages: loaded,
    sinks: ends as SinkNode[],
  };
}

/** A sink without what only the head needs. `settings`: the options of the plugin's `render`. */
export type WorkerSink = Pick<SinkNode, 'id' | 'from'> &
  Partial<Pick<SinkNode, 'use' | 'plugin' | 'url' | 'settings' | 'when'>>;

function sameVersion<L extends { plugin: { version?: string } }>(
  use: string,
  loaded: L,
  version: string | undefined,
): L {
  if (loaded.plugin.version === version) return loaded;
  const message = `the plugin ${use} has version ${String(loaded.plugin.version)}, the head's has ${String(version)}`;
  throw new RxrayError('CONFIG_CREATE', message);
}

type WithFiles = Pick<StageNode, 'use' | 'url' | 'settings'>;
const isRendered = (sink: WorkerSink): sink is WorkerSink & WithFiles => sink.plugin !== undefined;

/** Plugin files, and all files and folders named in settings. */
async function filesOf(nodes: readonly WithFiles[], baseDir: string): Promise<Record<string, string>> {
  const paths = new Set<string>();
  for (const { use, url, settings } of nodes) {
    if (use.startsWith('.') || use.startsWith('/')) paths.add(fileURLToPath(url));
    for (const value of Object.values(settings as object)) {
      if (typeof value === 'string' && /[./\\]/.test(value)) paths.add(resolve(baseDir, value));
    }
  }
  const found = await Promise.all([...paths].map(filesIn));
  const hashes = await Promise.all(found.flat().map(async (path) => [path, await sha256Of(path)] as const));
  return Object.fromEntries(hashes.sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function filesIn(path: string): Promise<string[]> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile() === true) return [path];
  if (info?.isDirectory() !== true) return [];
  const entries = await readdir(path, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
