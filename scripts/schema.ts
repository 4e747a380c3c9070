/** Writes `schema/pipeline.schema.json`, from which editors complete and check pipeline files. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { builtInRegistry } from '../src/host/builtins.js';
import { pipelineSchema, sinkSchema, sourceSchema, stageSchema } from '../src/core/config/schema.js';
import type { Kind } from '../src/core/plugin.js';

export const SCHEMA_FILE = new URL('../schema/pipeline.schema.json', import.meta.url);

type Json = Record<string, unknown>;

const ENTRIES = { source: sourceSchema, stage: stageSchema, sink: sinkSchema };
const DEFINITIONS = '#/definitions/';

export async function pipelineJsonSchema(): Promise<Json> {
  const root = jsonSchema(pipelineSchema);
  const definitions: Json = {
    environment: { type: 'string', pattern: '\\$\\{[A-Za-z_]\\w*(:-[^}]*)?\\}' },
  };
  for (const kind of ['source', 'stage', 'sink'] as const) definitions[kind] = await entrySchema(kind);
  const lists = (['source', 'stage', 'sink'] as const).map((kind) => {
    const list = (root.properties as Record<string, Json>)[`${kind}s`];
    return [`${kind}s`, { ...list, items: { $ref: `${DEFINITIONS}${kind}` } }];
  });
  const properties = { ...(root.properties as Json), ...(Object.fromEntries(lists) as Json) };
  return { ...root, title: 'A pipeline of rxray', properties, definitions };
}

/** What belongs to the host, and for each built-in plugin what it takes under `with`. */
async function entrySchema(kind: Kind): Promise<Json> {
  const registry = builtInRegistry();
  const plugins = await Promise.all(
    registry.names(kind).map(async (name) => (await registry.load(kind, name, process.cwd())).plugin),
  );
  const entry = jsonSchema(ENTRIES[kind]);
  const properties = entry.properties as Record<string, Json>;
  properties.use = {
    description: properties.use?.description,
    anyOf: [
      ...plugins.map(({ name, summary }) => ({ const: name, description: summary })),
      { type: 'string', pattern: '[./:@-]', description: 'A file, or an installed package.' },
    ],
  };
  properties.with = { type: 'object', description: properties.with?.description };
  const allOf = plugins.map(({ name, options }) => {
    const settings = jsonSchema(options);
    return {
      if: { properties: { use: { const: name } }, required: ['use'] },
      then: {
        properties: { with: settings },
        ...(settings.required === undefined ? {} : { required: ['with'] }),
      },
    };
  });
  return { ...entry, allOf };
}

function jsonSchema(schema: z.ZodType): Json {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'any',
  });
  return withEnvironment({ ...(schema === pipelineSchema ? { $schema } : {}), ...rest }) as Json;
}

/** Whatever is not free text may come from the environment, too. */
function withEnvironment(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withEnvironment);
  if (typeof node !== 'object' || node === null) return node;
  const json = node as Json;
  const isTyped = ['number', 'integer', 'boolean'].includes(String(json.type));
  const isBound = ['enum', 'format', 'pattern'].some((keyword) => isConstraint(json[keyword]));
  if (!isTyped && !isBound) {
    return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, withEnvironment(value)]));
  }
  const { description, default: fallback, ...type } = json;
  return { description, default: fallback, anyOf: [type, { $ref: `${DEFINITIONS}environment` }] };
}

/** Not an option that happens to have the name of a keyword: its value would be a schema. */
function isConstraint(value: unknown): boolean {
  return typeof value === 'string' || Array.isArray(value);
}

async function main(): Promise<void> {
  const schema = await pipelineJsonSchema();
  mkdirSync(new URL('.', SCHEMA_FILE), { recursive: true });
  writeFileSync(SCHEMA_FILE, `${JSON.stringify(schema, null, 2)}\n`);
}

// no top-level await: mocha would load the modules behind the test of this file twice
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) void main();
