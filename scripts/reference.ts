/** Writes `docs/reference.md` from the schemas of the pipeline file and of every built-in plugin. */
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { format } from 'prettier';
import { stringify } from 'yaml';
import type { z } from 'zod';
import { builtInRegistry } from '../src/host/builtins.js';
import { optionRows, schemaOf } from '../src/cli/option-rows.js';
import { pipelineSchema, sinkSchema, sourceSchema, stageSchema } from '../src/core/config/schema.js';
import type { Kind, Plugin } from '../src/core/plugin.js';

export const REFERENCE_FILE = new URL('../docs/reference.md', import.meta.url);

const HOST: readonly [string, z.ZodType][] = [
  ['The pipeline', pipelineSchema],
  ['A source', sourceSchema],
  ['A stage', stageSchema],
  ['A sink', sinkSchema],
];
const KINDS: readonly Kind[] = ['source', 'stage', 'sink'];

export async function referenceText(): Promise<string> {
  const registry = builtInRegistry();
  const pages = await Promise.all(
    KINDS.flatMap((kind) =>
      registry.names(kind).map(async (name) => pluginText((await registry.load(kind, name, '.')).plugin)),
    ),
  );
  const text = [
    '# Reference',
    'Generated from the schemas by `npm run reference`: what `rxray lint` accepts. [The pipeline file](pipeline.md) explains it.',
    '## The file',
    ...HOST.map(([title, schema]) => `### ${title}\n\n${table(schema)}`),
    ...pages,
  ].join('\n\n');
  return format(text, { parser: 'markdown', printWidth: 110, singleQuote: true });
}

function pluginText({ kind, name, summary, options, examples = [] }: Plugin): string {
  const shown = examples.map(({ title, with: settings }) => {
    const entry = { use: name, ...(Object.keys(settings).length === 0 ? {} : { with: settings }) };
    return `${title}:\n\n\`\`\`yaml\n${stringify({ [`${kind}s`]: [entry] })}\`\`\``;
  });
  return [`## \`${name}\` (${kind})`, summary, table(options), ...shown].join('\n\n');
}

function table(schema: z.ZodType): string {
  const rows = optionRows(schemaOf(schema));
  if (rows.length === 0) return 'It has no options.';
  const cell = (text: string): string =>
    text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('\n', ' ');
  const lines = rows.map(({ option, type, about }) => `| \`${option}\` | ${cell(type)} | ${cell(about)} |`);
  return ['| option | type | meaning |', '| --- | --- | --- |', ...lines].join('\n');
}

async function main(): Promise<void> {
  writeFileSync(REFERENCE_FILE, await referenceText());
}

// no top-level await: mocha would load the modules behind the test of this file twice
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) void main();
