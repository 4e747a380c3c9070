import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { messageOf, type ErrorCode } from '../errors.js';
import { isCode, readAtMost, realPathOf } from '../files.js';
import { partOutput, partStateDir, type Part, type PartOutput } from '../part.js';
import type { Column } from '../plugin.js';
import type { PluginRegistry } from '../plugins/registry.js';
import { YamlFile } from './document.js';
import { EntryReader, type Entry } from './entries.js';
import { lintExpression, lintId } from './expressions.js';
import { connect } from './graph.js';
import {
  DUPLICATE,
  needsPixels,
  type Pipeline,
  type Issue,
  type SinkNode,
  type SourceNode,
  type StageNode,
} from './pipeline.js';
import { parseAt, schemaIssues } from './problems.js';
import { pipelineSchema, sinkSchema, sourceSchema, stageSchema } from './schema.js';

/** Maximum size of a pipeline file. */
const MAX_BYTES = 1024 * 1024;

type Env = Readonly<Record<string, string | undefined>>;

export interface LoadOptions {
  /** Default: the environment of the process. */
  readonly env?: Env;
  /** A folder or a file (relative to the working directory) instead of the first source's films. */
  readonly input?: string | undefined;
  /** One slice of a backfill. */
  readonly part?: Part | undefined;
  /** Whether plugins check their settings too (does the model exist?). Default: true. */
  readonly lint?: boolean;
}

export interface Loaded {
  /** Absent when there are errors. */
  readonly pipeline?: Pipeline;
  /** All errors and warnings. */
  readonly issues: readonly Issue[];
  /** The YAML text, for {@link formatIssues}. */
  readonly text?: string;
}

/** Reads and resolves a pipeline file. Errors in the file are not thrown: see {@link Loaded.issues}. */
export async function loadPipeline(
  path: string,
  registry: PluginRegistry,
  options: LoadOptions = {},
): Promise<Loaded> {
  const file = resolve(path);
  let text: string;
  try {
    text = await readText(file);
  } catch (error) {
    return { issues: [{ severity: 'error', code: 'CONFIG_NOT_FOUND', message: unreadable(file, error) }] };
  }
  return parsePipeline(text, { file, registry, ...options });
}

/** The same from YAML text. Relative paths are relative to the folder of `file`, which need not exist. */
export async function parsePipeline(
  text: string,
  options: LoadOptions & { readonly file: string; readonly registry: PluginRegistry },
): Promise<Loaded> {
  const { file, registry, env = process.env, input, part, lint = true } = options;
  const yaml = new YamlFile(text, env);
  const issues: Issue[] = [...yaml.issues];
  const done = (pipeline?: Pipeline): Loaded => {
    const failed = issues.some(({ severity }) => severity === 'error');
    return { issues, text, ...(pipeline === undefined || failed ? {} : { pipeline }) };
  };
  if (yaml.data === undefined) return done();

  const whole = parseAt(yaml, [], pipelineSchema, yaml.data);
  if (!whole.success) issues.push(...schemaIssues(yaml, [], pipelineSchema, whole.error));

  const path = resolve(file);
  const baseDir = dirname(path);
  const reader = new EntryReader(yaml, registry, baseDir, issues);
  const [sources, stages, sinks] = await Promise.all([
    reader.read('source', sourceSchema, 'sources', input === undefined ? undefined : resolve(input)),
    reader.read('stage', stageSchema, 'stages'),
    reader.read('sink', sinkSchema, 'sinks'),
  ]);

  const report = (issue: Issue): void => void issues.push(issue);
  const refuse: Refuse = (code, message, place, component) => {
    report({ severity: 'error', code, message, ...place, component });
  };
  lintIds([...sources, ...stages, ...sinks], refuse);
  const order = connect(sources, stages, sinks, yaml, report);
  const entries = new Map(stages.map((stage) => [stage.id, stage]));
  for (const entry of [...stages, ...sinks]) lintExpression(entry, entries, yaml, report);
  for (const stage of stages) lintBatch(stage, yaml, refuse);
  for (const entry of [...stages, ...sinks]) lintShadow(entry, entries, yaml, refuse);
  if (whole.success && whole.data.duplicates === 'skip') lintReserved(stages, refuse);
  lintCase(stages, sinks, refuse);
  if (lint) {
    const all = [...sources, ...stages, ...sinks];
    await Promise.all(all.map((entry) => lintSettings(entry, entries, yaml, baseDir, report)));
    for (const entry of [...stages, ...sinks]) lintPixels(entry, entries, refuse);
    const state = whole.success ? whole.data.state : undefined;
    await lintOutputs(sources, sinks, yaml, baseDir, state, refuse);
    await lintSharedFiles(sinks, yaml, baseDir, [path, ...recordsIn(state)], refuse);
  }
  if (!whole.success || issues.some(({ severity }) => severity === 'error')) return done();

  const { name = basename(path, extname(path)), state } = whole.data;
  const { limits, duplicates, shutdownTimeoutMs, threads, maxErrors, cluster } = whole.data;
  const nodes = {
    sources: sources.map((entry) => nodeOf(entry)) as SourceNode[],
    stages: order.map((entry) => ({ ...nodeOf(entry), ...flowOf(entry) })) as StageNode[],
    sinks: sinks.map((entry) => ({ ...nodeOf(entry), ...flowOf(entry) })) as SinkNode[],
  };
  const stateDir = resolve(baseDir, state);
  const hash = hashOf(nodes, duplicates);
  const all = {
    ...{ file: path, baseDir, stateDir, name, limits, duplicates, shutdownTimeoutMs, ...nodes, hash },
    ...(threads !== undefined && { threads }),
    ...(maxErrors !== undefined && { maxErrors }),
    ...(cluster !== undefined && { cluster }),
  };
  return done(part === undefined ? all : onlyPart(all, part, refuse));
}

/** Reports an error at a place of the file. */
type Refuse = (
  code: ErrorCode,
  message: string,
  place: Pick<Issue, 'location' | 'length'>,
  component?: string,
) => void;

// ── checks ────────────────────────────────────────────────────────────────────────────────────────

/** Reports duplicate ids and replaces the later ones, so that the rest can be checked. */
function lintIds(entries: readonly Entry[], refuse: Refuse): void {
  const first = new Map<string, Entry>();
  for (const entry of entries) {
    const { id, idPlace, named } = entry;
    if (entry.use === '' && !named) {
      entry.id = `the entry in line ${entry.place.location.line}`;
      continue;
    }
    const problem = lintId(id);
    if (problem !== undefined) refuse('CONFIG_INVALID', problem, idPlace);
    const other = first.get(id);
    if (other === undefined) {
      first.set(id, entry);
      continue;
    }
    const origin = named ? '' : ' (the name of its plugin)';
    const advice =
      named && other.named ? 'give one of them another id' : 'give one of them an `id:` of its own';
    const message = `the id \`${id}\`${origin} is taken by the entry in line ${other.idPlace.location.line}: ${advice}`;
    refuse('CONFIG_DUPLICATE_ID', message, idPlace, id);
    entry.id = `${id} in line ${idPlace.location.line}`;
  }
}

/** Only stages on the main thread can get several frames at once. */
function lintBatch({ path, id, use, host, plugin }: Entry, yaml: YamlFile, refuse: Refuse): void {
  if (host.batch === undefined || plugin?.kind !== 'stage' || plugin.runsIn === 'main') return;
  const message = `\`${use}\` takes frames one by one: leave out \`batch:\``;
  refuse('CONFIG_INVALID', message, yaml.key([...path, 'batch']), id);
}

/** A shadow stage must change neither the pixels for other stages nor which films reach them. */
function lintShadow(
  { path, id, host, place, from }: Entry,
  stages: ReadonlyMap<string, Entry>,
  yaml: YamlFile,
  refuse: Refuse,
): void {
  if (host.shadow === true) {
    if (host.onError === undefined) return;
    const message = 'a failure of a `shadow` stage fails no film: leave out `onError:`';
    refuse('CONFIG_INVALID', message, yaml.key([...path, 'onError']), id);
    return;
  }
  const seen = new Set<Entry>();
  let before = stages.get(from[0] ?? '');
  while (before?.host.shadow === true && !seen.has(before)) {
    seen.add(before);
    const { plugin } = before;
    const changesPixels = plugin?.kind === 'stage' && plugin.keepsPixels !== true;
    const holdsBack = before.host.when !== undefined && from.length === 1;
    if (changesPixels || holdsBack) {
      const what = changesPixels
        ? 'would get the pixels of'
        : 'would miss the films that `when:` keeps out of';
      const message = `\`${id}\` ${what} the shadow stage \`${before.id}\`: join them, the main branch first (\`from: [main, ${before.id}]\`)`;
      refuse('CONFIG_INVALID', message, place, id);
      return;
    }
    before = stages.get(before.from[0] ?? '');
  }
}

/** Refuses what needs pixels where no stage has decoded the film: it would fail on every film. */
function lintPixels(entry: Entry, stages: ReadonlyMap<string, Entry>, refuse: Refuse): void {
  if (!usesPixels(entry)) return;
  // A stage that is not known may decode; one that fails itself is enough to name.
  const before = precedingOf(entry, stages);
  if (before.some((stage) => usesPixels(stage) || mayDecode(stage))) return;
  const message = `\`${entry.id}\` needs the pixels of the film, which no stage before it decodes: put \`use: decode\` before it`;
  refuse('CONFIG_REFUSED', message, entry.place, entry.id);
}

function usesPixels({ plugin, settings }: Entry): boolean {
  if (plugin?.kind === 'stage') return plugin.needsPixels === true;
  return plugin?.kind === 'sink' && settings !== undefined && needsPixels({ plugin, settings });
}

function mayDecode({ plugin }: Entry): boolean {
  return plugin?.kind !== 'stage' || plugin.keepsPixels !== true;
}

/** The results of a duplicate film have a reserved name. */
function lintReserved(stages: readonly Entry[], refuse: Refuse): void {
  const stage = stages.find(({ id }) => id === DUPLICATE);
  if (stage === undefined) return;
  const message = `with \`duplicates: skip\`, \`${DUPLICATE}\` is the id of the host's own results: give the stage another id`;
  refuse('CONFIG_DUPLICATE_ID', message, stage.idPlace, stage.id);
}

/** Refuses ids that a sink cannot tell apart. */
function lintCase(stages: readonly Entry[], sinks: readonly Entry[], refuse: Refuse): void {
  const sink = sinks.find(({ plugin }) => plugin?.kind === 'sink' && plugin.ignoresCase === true);
  if (sink === undefined) return;
  const first = new Map<string, string>();
  for (const { id, idPlace } of stages) {
    const other = first.get(id.toLowerCase());
    if (other === undefined) {
      first.set(id.toLowerCase(), id);
      continue;
    }
    const message = `the ids \`${other}\` and \`${id}\` are the same to \`${sink.use}\`, which ignores upper and lower case: give one of them another id`;
    refuse('CONFIG_DUPLICATE_ID', message, idPlace, id);
  }
}

/** Refuses sinks, and a state folder, whose files a source would take as films. */
async function lintOutputs(
  sources: readonly Entry[],
  sinks: readonly Entry[],
  yaml: YamlFile,
  baseDir: string,
  state: string | undefined,
  refuse: Refuse,
): Promise<void> {
  const outputs = sinks.flatMap(({ plugin, settings, path, id }) =>
    plugin?.kind !== 'sink' || settings === undefined
      ? []
      : (plugin.writes?.(settings as never) ?? []).map((file) => ({
          file,
          place: [...path, 'with', 'path'],
          id,
        })),
  );
  const deadLetter =
    state === undefined
      ? []
      : [{ file: join(state, 'deadletter/x/film.png'), place: ['state'], id: undefined }];
  const refused = new Set<string>();
  for (const { plugin, settings, id: source } of sources) {
    if (plugin?.kind !== 'source' || settings === undefined) continue;
    for (const { file, place, id } of [...outputs, ...deadLetter]) {
      if (
        refused.has(place.join()) ||
        (await plugin.takes?.(settings as never, resolve(baseDir, file), baseDir)) !== true
      ) {
        continue;
      }
      refused.add(place.join());
      const message = `the source \`${source}\` would take the files written here as films: name a folder outside its own`;
      refuse('CONFIG_REFUSED', message, yaml.place(place), id);
    }
  }
}

/** What rxray itself writes in its state folder. */
function recordsIn(state: string | undefined): string[] {
  const names = ['journal.db', 'worklist.jsonl', 'worklist.older.jsonl', 'reviews.jsonl'];
  return state === undefined ? [] : names.map((name) => join(state, name));
}

/** Refuses sinks that write a file of another sink, or one of rxray's own. */
async function lintSharedFiles(
  sinks: readonly Entry[],
  yaml: YamlFile,
  baseDir: string,
  own: readonly string[],
  refuse: Refuse,
): Promise<void> {
  const owners = new Map<string, Pick<Entry, 'id' | 'use'> | undefined>();
  for (const file of own) owners.set(await realPathOf(resolve(baseDir, file)), undefined);
  for (const { plugin, settings, path, id, use } of sinks) {
    if (plugin?.kind !== 'sink' || settings === undefined) continue;
    for (const written of plugin.writes?.(settings as never) ?? []) {
      const file = await realPathOf(resolve(baseDir, written));
      const owner = owners.get(file);
      if (!owners.has(file)) owners.set(file, { id, use });
      else if (owner?.id !== id && !(owner?.use === use && plugin.sharesFile === true)) {
        const whose = owner === undefined ? 'rxray itself uses' : `the sink \`${owner.id}\` writes`;
        refuse(
          'CONFIG_REFUSED',
          `${whose} this file: name another`,
          yaml.place([...path, 'with', 'path']),
          id,
        );
        break;
      }
    }
  }
}

/** Runs the plugin's own check of its settings and of the stages before it. */
async function lintSettings(
  entry: Entry,
  stages: ReadonlyMap<string, Entry>,
  yaml: YamlFile,
  baseDir: string,
  report: (issue: Issue) => void,
): Promise<void> {
  const { plugin, settings } = entry;
  if (plugin?.lint === undefined || settings === undefined) return;
  const before = precedingOf(entry, stages);
  // The error of a faulty entry before it is enough.
  if (before.some((stage) => stage.settings === undefined)) return;
  const preceding = before.map(({ id, use, settings: options, plugin: stage }) => ({
    ...(stage?.kind === 'stage' && { keepsPixels: stage.keepsPixels, limits: stage.limits }),
    id,
    use,
    with: options,
  }));
  try {
    const columns = (): ReturnType<typeof columnsOf> => columnsOf(stages, baseDir);
    for (const found of await plugin.lint(settings as never, { baseDir, preceding, columns })) {
      const { severity, message, stage, option } = found;
      const { code = severity === 'error' ? 'CONFIG_REFUSED' : 'CONFIG_ADVICE' } = found;
      const { path } = before.find(({ id }) => id === stage) ?? entry;
      const place = yaml.place([...path, ...(option.length === 0 ? ['use'] : ['with', ...option])]);
      report({ severity, code, message, ...place, component: entry.id });
    }
  } catch (error) {
    const message = `\`${entry.use}\` failed while checking its settings: ${messageOf(error)}`;
    const place = yaml.place([...entry.path, 'use']);
    report({ severity: 'error', code: 'CONFIG_PLUGIN_BROKEN', message, ...place, component: entry.id });
  }
}

/** The columns of the stages, as far as they are known without creating the stages. */
function columnsOf(
  entries: ReadonlyMap<string, Entry>,
  baseDir: string,
): Promise<{ stage: string; columns: readonly Column[] | undefined }[]> {
  const stages = [...entries.values()].filter(({ plugin }) => plugin?.kind !== 'source');
  const services = { resolve: (path: string) => resolve(baseDir, path) };
  return Promise.all(
    stages.map(async ({ id, plugin, settings }) => {
      if (plugin?.kind !== 'stage' || settings === undefined) return { stage: id, columns: undefined };
      // The stage itself reports a bundle that cannot be read.
      const columns = await Promise.resolve(plugin.columns?.(settings as never, services)).catch(
        () => undefined,
      );
      return { stage: id, columns };
    }),
  );
}

/** The stages before `entry`, in order. At a join: those of the first branch, which provides the pixels. */
function precedingOf(entry: Entry, stages: ReadonlyMap<string, Entry>): Entry[] {
  const chain: Entry[] = [];
  let before = stages.get(entry.from[0] ?? '');
  while (before !== undefined && !chain.includes(before)) {
    chain.unshift(before);
    before = stages.get(before.from[0] ?? '');
  }
  return chain;
}

// ── results ───────────────────────────────────────────────────────────────────────────────────────

/** The pipeline for one slice of the films, with its own state folder and output files. */
function onlyPart(pipeline: Pipeline, part: Part, refuse: Refuse): Pipeline {
  const stateDir = partStateDir(pipeline.stateDir, part);
  const outputs: PartOutput[] = [];
  for (const { id, use, plugin, location } of pipeline.sources) {
    if (plugin.splits === true) continue;
    const message = `\`${use}\` cannot be run in parts: list the films in a file, for the source \`manifest\``;
    refuse('CONFIG_REFUSED', message, { location }, id);
  }
  const sinks = pipeline.sinks.map((node) => {
    const settings = node.settings as Readonly<Record<string, unknown>>;
    const option = node.plugin.output;
    if (option === undefined) return node;
    if (settings['rotate'] !== undefined) {
      const message = 'each part writes one file: leave out `rotate`';
      refuse('CONFIG_REFUSED', message, { location: node.location }, node.id);
    }
    const output = partOutput(node.id, resolve(pipeline.baseDir, String(settings[option])), stateDir, part);
    outputs.push(output);
    return { ...node, settings: { ...settings, [option]: output.from } };
  });
  return { ...pipeline, stateDir, sinks, part: { ...part, outputs } };
}

function nodeOf({ id, use, plugin, url, settings, written, place }: Entry): object {
  return { id, use, plugin, url, settings, written, location: place.location };
}

function flowOf({ from, host }: Entry): object {
  const { when, batch, concurrency, retry, timeoutMs, onError, shadow } = host;
  return {
    from,
    ...(when !== undefined && { when }),
    ...(shadow === true && { shadow, onError: 'continue' }),
    ...(batch && { batch }),
    ...(concurrency && { concurrency }),
    ...(retry && { retry }),
    ...(timeoutMs && { timeoutMs }),
    ...(onError && { onError }),
  };
}

/** Over everything that affects results: not the paths of sources, nor limits and concurrency. */
function hashOf(
  { sources, stages, sinks }: Pick<Pipeline, 'sources' | 'stages' | 'sinks'>,
  duplicates: Pipeline['duplicates'],
): string {
  const graph = {
    ...(duplicates === 'skip' && { duplicates }),
    sources: sources.map(({ id, use }) => ({ id, use })),
    stages: stages.map(hashedOf),
    sinks: sinks.map(hashedOf),
  };
  return createHash('sha256').update(JSON.stringify(graph, sorted)).digest('hex');
}

function hashedOf(node: StageNode | SinkNode): object {
  const { id, use, plugin, settings, from, when, onError } = node;
  const { version } = plugin;
  return { id, use, version, settings, from, when, onError, ...('shadow' in node && { shadow: true }) };
}

/** Sorts keys, so that their order in the YAML does not matter. */
function sorted(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The text of a pipeline file. Throws if it is too large or not UTF-8. */
export async function readText(file: string): Promise<string> {
  const bytes = await readAtMost(file, MAX_BYTES);
  if (!isUtf8(bytes)) throw new Error('it is not UTF-8 text');
  return bytes.toString('utf8').replace(/^\uFEFF/, '');
}

/** The message for a pipeline file that {@link readText} could not read. */
export function unreadable(file: string, error: unknown): string {
  return isCode(error, 'ENOENT')
    ? `there is no file ${file}; \`rxray new pipeline NAME\` writes one to start from`
    : `${file} cannot be read: ${messageOf(error)}`;
}
