import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isCancel, select, text } from '@clack/prompts';
import { Argument, type Command } from 'commander';
import sharp from 'sharp';
import { phantomFilm } from '../imaging/phantom.js';
import { EXIT } from './exit.js';

const KINDS = ['pipeline', 'stage', 'source', 'sink', 'package'] as const;
type Kind = (typeof KINDS)[number];

/** The folder of this rxray. */
const HOME = fileURLToPath(new URL('../../', import.meta.url)).replace(/[\\/]$/, '');
const TEMPLATES = join(HOME, 'templates');
const KEBAB = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

const EXAMPLES = `
Examples:
  $ rxray new pipeline ward          ward.yaml, ward.test.yaml and films to test with
  $ rxray new stage denoise          denoise.ts, a graph that uses it, tests for both
  $ rxray new sink lab-system --dir plugins
  $ rxray new package rxray-plugin-denoise

Existing files are never overwritten. Without arguments, in a terminal, it asks.`;

interface NewFlags {
  readonly dir: string;
  readonly json?: true;
}

export function newCommand(program: Command): void {
  program
    .command('new')
    .addArgument(new Argument('[kind]', 'what to write').choices(KINDS))
    .argument('[name]', 'its name, in kebab-case')
    .option('--dir <folder>', 'where to write it', '.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (kind: Kind | undefined, name: string | undefined, flags: NewFlags) => {
      const asked = await ask(kind, name);
      process.exitCode = asked === undefined ? EXIT.usage : await scaffold(asked.kind, asked.name, flags);
    });
}

/** Asks for what the command line left out; undefined if there is no answer. */
async function ask(kind?: Kind, name?: string): Promise<{ kind: Kind; name: string } | undefined> {
  if (kind !== undefined && name !== undefined) return { kind, name };
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    process.stderr.write('expected a kind and a name, such as: rxray new stage denoise\n');
    return undefined;
  }
  const options = KINDS.map((value) => ({ value, label: value }));
  const chosen = kind ?? (await select<Kind>({ message: 'What do you want to create?', options }));
  if (isCancel(chosen)) return undefined;
  const validate = (value: string | undefined): string | undefined =>
    KEBAB.test(value ?? '') ? undefined : 'a name in kebab-case, such as denoise-film';
  const named = name ?? (await text({ message: `Name of the ${chosen}?`, validate }));
  return isCancel(named) ? undefined : { kind: chosen, name: named };
}

/** Copies the template of `kind` with its example's name replaced; returns the exit code. */
async function scaffold(kind: Kind, name: string, { dir, json }: NewFlags): Promise<number> {
  if (!KEBAB.test(name)) {
    process.stderr.write(`the name "${name}": expected one in kebab-case, such as denoise-film\n`);
    return EXIT.usage;
  }
  const template = join(TEMPLATES, kind);
  const target = kind === 'package' ? join(dir, name) : dir;
  const files = new Map<string, string | Uint8Array>();
  for (const entry of await readdir(template, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    // npm and its checkers would treat a folder with a package.json as a package.
    const file = relative(template, path).replace('.template.', '.');
    files.set(named(kind, name, file), named(kind, name, await readFile(path, 'utf8')));
  }
  if (kind === 'package') {
    const manifest = files.get('package.json') as string;
    const spec = await specOfRxray(target);
    files.set('package.json', manifest.replace(/(?<="devDependencies": \{[^}]*"rxray": ")[^"]*/, spec));
  }
  if (kind === 'pipeline' || kind === 'stage') files.set(join('films', 'phantom.png'), await phantomPng());

  const written = [...files].filter(([file]) => !isShared(file) || !existsSync(join(target, file)));
  const there = written.map(([file]) => join(target, file)).filter((file) => existsSync(file));
  if (there.length > 0) {
    process.stderr.write(`${there.join(', ')} already exists, nothing was written\n`);
    return EXIT.usage;
  }
  for (const [file, content] of written) {
    await mkdir(dirname(join(target, file)), { recursive: true });
    await writeFile(join(target, file), content, { flag: 'wx' });
  }
  const paths = written.map(([file]) => join(target, file));
  if (json) console.log(JSON.stringify({ kind, name, files: paths }));
  else
    console.log(
      [...paths, '', 'Next:', ...nextSteps(kind, name, target).map((step) => `  ${step}`)].join('\n'),
    );
  return EXIT.fine;
}

/** Replaces `example-stage` in names and texts, and `example_stage` in ids, by the new name. */
function named(kind: Kind, name: string, text: string): string {
  const id = (kebab: string): string => kebab.replaceAll('-', '_');
  const example = `example-${kind}`;
  return text
    .replaceAll(example, name)
    .replaceAll(id(example), id(name))
    .replaceAll(id(example).toUpperCase(), id(name).toUpperCase());
}

/**
 * What a package in `target` names in its `package.json` to be tested with the rxray that wrote it: the tarball that it was
 * installed from, or its folder; a range of versions where it came from a registry.
 */
export async function specOfRxray(target: string, home = HOME): Promise<string> {
  const modules = dirname(home);
  const folder = fileSpec(target, home);
  if (basename(modules) !== 'node_modules') return folder;
  const installed = await readFile(join(modules, '.package-lock.json'), 'utf8').then(
    (text) => JSON.parse(text) as { packages?: Record<string, { resolved?: string; version?: string }> },
    () => undefined,
  );
  const { resolved = '', version = '' } = installed?.packages?.['node_modules/rxray'] ?? {};
  if (/^https?:/.test(resolved)) return `^${version}`;
  const tarball = resolve(dirname(modules), resolved.replace(/^file:/, ''));
  return resolved.startsWith('file:') && existsSync(tarball) ? fileSpec(target, tarball) : folder;
}

function fileSpec(from: string, to: string): string {
  return `file:${relative(resolve(from), to).replaceAll('\\', '/')}`;
}

/** All scaffolds in a folder share the same test films. */
function isShared(file: string): boolean {
  return dirname(file) === 'films';
}

/** A synthetic film. */
async function phantomPng(): Promise<Uint8Array> {
  const { width, height, channels, data } = phantomFilm({ seed: 1, size: 256 }).image;
  return sharp(data, { raw: { width, height, channels } }).toColourspace('b-w').png().toBuffer();
}

function nextSteps(kind: Kind, name: string, target: string): string[] {
  const rxray = process.env['npm_lifecycle_event'] === 'npx' ? 'npx rxray' : 'rxray';
  const at = (file: string): string => join(target, file);
  switch (kind) {
    case 'pipeline':
      return [`${rxray} lint ${at(`${name}.yaml`)}`, `${rxray} test ${at(`${name}.test.yaml`)}`];
    case 'stage':
      return [`${rxray} test ${at(`${name}.test.ts`)}`, `${rxray} test ${at(`${name}.test.yaml`)}`];
    case 'source':
    case 'sink':
      return [`${rxray} test ${at(`${name}.test.ts`)}`, `${rxray} lint ${at(`${name}.yaml`)}`];
    case 'package':
      return [`cd ${target}`, 'npm install --ignore-scripts', 'npm test'];
  }
}
