import { basename, extname } from 'node:path';
import type { z } from 'zod';
import { RxrayError } from '../errors.js';
import type { Kind, Plugin } from '../plugin.js';
import type { PluginRegistry } from '../plugins/registry.js';
import { valueAt } from '../value-at.js';
import type { Path, Place, YamlFile } from './document.js';
import type { Issue, Retry, Written } from './pipeline.js';
import { parseAt, schemaIssues } from './problems.js';
import { MAX_ENTRIES, type stageSchema } from './schema.js';

type Host = Omit<Partial<z.output<typeof stageSchema>>, 'retry'> & {
  readonly retry?: Retry;
  readonly timeoutMs?: number;
};

/**
 * An entry of `sources`, `stages` or `sinks`. A faulty entry keeps its valid parts, so that all errors are found at
 * once.
 */
export interface Entry {
  readonly kind: Kind;
  readonly path: Path;
  readonly place: Place;
  id: string;
  /** Where the id comes from: its own `id:`, or the plugin's name. */
  readonly idPlace: Place;
  readonly named: boolean;
  readonly use: string;
  /** The keys beside `use` and `with`, which the host reads. */
  readonly host: Host;
  readonly plugin?: Plugin;
  readonly url?: string;
  /** Parsed by the plugin's schema; absent if that failed. */
  readonly settings?: unknown;
  readonly written: Written;
  /** Set by `connect`. */
  from: readonly string[];
}

/** Reads the entries of `sources`, `stages` and `sinks`: host part, plugin, options. */
export class EntryReader {
  constructor(
    private readonly yaml: YamlFile,
    private readonly registry: PluginRegistry,
    private readonly baseDir: string,
    private readonly issues: Issue[],
  ) {}

  /** `input`: what takes the place of the first entry's films (an absolute path). */
  async read(kind: Kind, schema: z.ZodObject, list: string, input?: string): Promise<Entry[]> {
    const raw: unknown = (this.yaml.data as Record<string, unknown> | null)?.[list];
    if (!Array.isArray(raw)) return [];
    const entries = raw
      .slice(0, MAX_ENTRIES)
      .map((item, index) => this.#entry(kind, schema, item, [list, index], index === 0 ? input : undefined));
    return Promise.all(entries);
  }

  async #entry(kind: Kind, schema: z.ZodObject, raw: unknown, path: Path, input?: string): Promise<Entry> {
    const parsed = parseAt(this.yaml, path, schema, raw);
    if (!parsed.success) this.issues.push(...schemaIssues(this.yaml, path, schema, parsed.error));
    const host = (parsed.success ? parsed.data : understood(schema, raw)) as Host;

    const use = host.use ?? '';
    const loaded = use === '' ? undefined : await this.#plugin(kind, use, path);
    const { plugin } = loaded ?? {};
    const given = (raw as { id?: unknown } | null)?.id;
    const name = typeof given === 'string' ? given : (plugin?.name ?? basename(use, extname(use)));
    const id = identifier(name);
    const named = typeof given === 'string';
    const idPlace = this.yaml.place([...path, named ? 'id' : 'use']);
    const options = { ...host.with, ...(input !== undefined && (await replacedBy(input, plugin))) };
    const settings =
      plugin === undefined ? undefined : this.#settings(plugin, options, [...path, 'with'], id);
    const written = (valueAt(this.yaml.written, path) ?? {}) as Written;
    const place = this.yaml.place(path);
    return { kind, path, place, id, idPlace, named, use, host, ...loaded, settings, written, from: [] };
  }

  async #plugin(kind: Kind, use: string, path: Path): Promise<{ plugin: Plugin; url: string } | undefined> {
    try {
      return await this.registry.load(kind, use, this.baseDir);
    } catch (error) {
      if (!(error instanceof RxrayError)) throw error;
      const place = this.yaml.place([...path, 'use']);
      this.issues.push({ severity: 'error', code: error.code, message: error.message, ...place });
      return undefined;
    }
  }

  #settings(plugin: Plugin, options: unknown, path: Path, component: string): unknown {
    const parsed = parseAt(this.yaml, path, plugin.options, options);
    if (parsed.success) return parsed.data;
    this.issues.push(...schemaIssues(this.yaml, path, plugin.options, parsed.error, component));
    return undefined;
  }
}

async function replacedBy(input: string, plugin: Plugin | undefined): Promise<object> {
  return plugin?.kind === 'source' && plugin.input !== undefined ? plugin.input(input) : { path: input };
}

/** The valid keys of a faulty entry. */
function understood(schema: z.ZodObject, raw: unknown): Record<string, unknown> {
  if (typeof raw !== 'object' || raw === null) return {};
  const good: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(raw)) {
    const parsed = (schema.shape[key] as z.ZodType | undefined)?.safeParse(value);
    if (parsed?.success === true) good[key] = parsed.data;
  }
  return good;
}

function identifier(name: string): string {
  return name.replaceAll(/\W/g, '_').replace(/^(?=\d|$)/, '_');
}
