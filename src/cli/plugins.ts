import type { Command } from 'commander';
import pc from 'picocolors';
import { stringify } from 'yaml';
import { RxrayError } from '../core/errors.js';
import type { Kind, Plugin } from '../core/plugin.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { optionRows, schemaOf } from './option-rows.js';

const KINDS: readonly Kind[] = ['source', 'stage', 'sink'];

const EXAMPLES = `
Examples:
  $ rxray plugins                       all built-in plugins
  $ rxray plugins clahe                 the options of one plugin, with examples
  $ rxray plugins ./stages/invert.ts    the same for your own plugin`;

export function plugins(program: Command): void {
  program
    .command('plugins')
    .argument('[name]', 'a built-in plugin, a file or a package')
    .option('--json', 'print JSON; options as JSON Schema')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string | undefined, { json }: { json?: true }) => {
      try {
        process.stdout.write(`${await describePlugins(name, { json, color: pc.isColorSupported })}\n`);
      } catch (error) {
        if (!(error instanceof RxrayError)) throw error;
        process.stderr.write(`${error.message}\n`);
        process.exitCode = EXIT.usage;
      }
    });
}

/** What `rxray plugins` prints. Throws the registry's errors. */
export async function describePlugins(
  name?: string,
  { json, color = false }: { json?: true | undefined; color?: boolean } = {},
): Promise<string> {
  const registry = builtInRegistry();
  const colors = pc.createColors(color);
  if (name !== undefined) {
    // A source and a sink may share a name.
    const kinds = KINDS.filter((kind) => registry.names(kind).includes(name));
    const found =
      kinds.length === 0
        ? [await registry.loadAny(name, process.cwd())]
        : await Promise.all(kinds.map((kind) => registry.load(kind, name, process.cwd())));
    if (!json) return found.map(({ plugin }) => details(plugin, name, colors)).join('\n\n\n');
    const described = found.map(({ plugin }) => summarise(plugin));
    return JSON.stringify(described.length === 1 ? described[0] : described, null, 2);
  }
  const all = await Promise.all(
    KINDS.flatMap((kind) =>
      registry.names(kind).map(async (each) => (await registry.load(kind, each, process.cwd())).plugin),
    ),
  );
  return json ? JSON.stringify(all.map(summarise), null, 2) : overview(all, colors);
}

/** Characters per line. */
const WIDTH = 90;

type Colors = ReturnType<typeof pc.createColors>;

function summarise({ kind, name, summary, options, examples = [] }: Plugin): object {
  return { kind, name, summary, options: schemaOf(options), examples };
}

function overview(all: readonly Plugin[], colors: Colors): string {
  const width = Math.max(...all.map(({ name }) => name.length));
  const group = (kind: Kind): string => {
    const lines = all
      .filter((plugin) => plugin.kind === kind)
      .map(({ name, summary }) => `  ${colors.bold(name.padEnd(width))}  ${summary}`);
    return [colors.dim(`${kind}s`), ...lines].join('\n');
  };
  return `${KINDS.map(group).join('\n\n')}\n\n${colors.dim('rxray plugins NAME shows the options of one.')}`;
}

function details(plugin: Plugin, use: string, colors: Colors): string {
  const { kind, name, summary, options, examples = [] } = plugin;
  const rows = optionRows(schemaOf(options));
  const table = rows.map(({ option, type, about }) => {
    const text = wrap(about, WIDTH - 6).replaceAll(/^(?=.)/gm, '      ');
    return `  ${colors.bold(option)}  ${colors.cyan(type)}${text === '' ? '' : `\n${text}`}`;
  });
  const shown = examples.map(({ title, with: settings }) => {
    const entry = { use, ...(Object.keys(settings).length === 0 ? {} : { with: settings }) };
    return `  ${colors.dim(`# ${title}`)}\n${stringify({ [`${kind}s`]: [entry] })
      .trimEnd()
      .replaceAll(/^/gm, '  ')}`;
  });
  return [
    `${colors.bold(name)}  ${colors.dim(kind)}\n${summary}`,
    ...(table.length === 0
      ? ['No options.']
      : [`${colors.dim('options (under `with:`)')}\n${table.join('\n')}`]),
    ...(shown.length === 0 ? [] : [`${colors.dim('examples')}\n${shown.join('\n\n')}`]),
  ].join('\n\n');
}

/** Breaks `text` between words, so that no line is longer than `width` (unless a word is). */
function wrap(text: string, width: number): string {
  return text.replaceAll(new RegExp(`(.{1,${width}})(?: +|$)`, 'g'), '$1\n').trimEnd();
}
