import { readFileSync, statSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import satisfies from 'semver/functions/satisfies.js';
import valid from 'semver/functions/valid.js';
import validRange from 'semver/ranges/valid.js';
import { RxrayError } from '../errors.js';
import { CONTRACT_VERSION, type Kind, type Plugin, type PluginOf } from '../plugin.js';
import { didYouMean } from '../suggest.js';
import { loadPluginModule } from './load.js';

/** The modules of the built-in plugins: kind → name → URL. */
export type BuiltIns = Readonly<Record<Kind, Readonly<Record<string, string>>>>;

const KINDS: readonly Kind[] = ['source', 'stage', 'sink'];

const { version: HOST_VERSION } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** Finds plugins: built-in ones by name, the user's by file, others as installed packages. */
export class PluginRegistry {
  constructor(private readonly builtIns: BuiltIns) {}

  /** The names of the built-in plugins of a kind. */
  names(kind: Kind): string[] {
    return Object.keys(this.builtIns[kind]);
  }

  /**
   * Loads the plugin named by `use:` in a file of `baseDir`. Throws CONFIG_UNKNOWN_PLUGIN, CONFIG_PLUGIN_BROKEN or
   * CONFIG_PLUGIN_INCOMPATIBLE.
   */
  async load<K extends Kind>(
    kind: K,
    use: string,
    baseDir: string,
  ): Promise<{ plugin: PluginOf<K>; url: string }> {
    const other = KINDS.find((each) => each !== kind && Object.hasOwn(this.builtIns[each], use));
    if (other !== undefined && !Object.hasOwn(this.builtIns[kind], use)) {
      throw new RxrayError('CONFIG_UNKNOWN_PLUGIN', wrongKind(use, other, kind));
    }
    const { plugin, url } = await this.#load([kind], use, baseDir);
    if (isOf(plugin, kind)) return { plugin, url };
    throw new RxrayError('CONFIG_PLUGIN_BROKEN', wrongKind(use, plugin.kind, kind));
  }

  /** The same, of any kind. */
  async loadAny(use: string, baseDir: string): Promise<{ plugin: Plugin; url: string }> {
    return this.#load(KINDS, use, baseDir);
  }

  async #load(
    kinds: readonly Kind[],
    use: string,
    baseDir: string,
  ): Promise<{ plugin: Plugin; url: string }> {
    const builtIn = kinds.find((kind) => Object.hasOwn(this.builtIns[kind], use));
    const own = builtIn === undefined ? undefined : this.builtIns[builtIn][use];
    const url = own ?? (isFile(use) ? fileUrl(use, baseDir) : await this.#packageUrl(kinds, use, baseDir));
    const plugin = await loadPluginModule(url);
    check(plugin, use);
    if (own !== undefined && plugin.name !== use) {
      throw new RxrayError(
        'CONFIG_PLUGIN_BROKEN',
        `the module of \`${use}\` exports a plugin named \`${plugin.name}\``,
      );
    }
    return { plugin, url };
  }

  async #packageUrl(kinds: readonly Kind[], use: string, baseDir: string): Promise<string> {
    const { createJiti } = await import('jiti');
    const url = isBuiltin(use)
      ? undefined
      : createJiti(`${baseDir}/`, { fsCache: false }).esmResolve(use, { try: true });
    if (url !== undefined) return url.startsWith('file:') ? url : pathToFileURL(url).href;
    const known = kinds.flatMap((kind) => this.names(kind));
    const what = kinds.length === 1 ? kinds[0] : 'plugin';
    throw new RxrayError(
      'CONFIG_UNKNOWN_PLUGIN',
      `no ${what} \`${use}\` is built in (${known.join(', ')}) or installed as a package${didYouMean(use, known)}`,
    );
  }
}

function isOf<K extends Kind>(plugin: Plugin, kind: K): plugin is PluginOf<K> {
  return plugin.kind === kind;
}

function wrongKind(use: string, is: Kind, wanted: Kind): string {
  return `\`${use}\` is a ${is}, not a ${wanted}: it belongs under \`${is}s:\``;
}

function isFile(use: string): boolean {
  return /^(\.{1,2}[/\\]|\/|[A-Za-z]:[/\\]|file:)/.test(use);
}

function fileUrl(use: string, baseDir: string): string {
  const path = use.startsWith('file:') ? fileURLToPath(use) : resolve(baseDir, use);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new RxrayError('CONFIG_UNKNOWN_PLUGIN', `there is no plugin file at ${path}`);
  }
  if (!/\.[cm]?[jt]s$/.test(path)) {
    throw new RxrayError('CONFIG_UNKNOWN_PLUGIN', `a plugin file ends in .ts, .js or .mjs, got ${path}`);
  }
  return pathToFileURL(path).href;
}

function check(plugin: Plugin, use: string): void {
  const { contract, version, rxray, name } = plugin;
  const broken = (what: string): RxrayError => new RxrayError('CONFIG_PLUGIN_BROKEN', `\`${use}\` ${what}`);
  const incompatible = (what: string): RxrayError =>
    new RxrayError('CONFIG_PLUGIN_INCOMPATIBLE', `\`${use}\` ${what}`);
  if (contract !== CONTRACT_VERSION) {
    throw incompatible(
      `is for version ${contract} of the plugin contract, this host has version ${CONTRACT_VERSION}`,
    );
  }
  if (version !== undefined && valid(version) === null)
    throw broken(`has the version \`${version}\`: expected one as in npm, such as 1.2.3`);
  if (rxray !== undefined && validRange(rxray) === null)
    throw broken(`works with rxray \`${rxray}\`: expected a range as in npm, such as ^${HOST_VERSION}`);
  if (rxray !== undefined && !satisfies(HOST_VERSION, rxray, { includePrerelease: true }))
    throw incompatible(`works with rxray ${rxray}, this is ${HOST_VERSION}`);
  if (plugin.kind === 'stage' && plugin.needs !== undefined && plugin.runsIn !== 'main')
    throw broken("needs services, which only stages on the main thread get: declare `runsIn: 'main'`");
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name))
    throw broken(`is named \`${name}\`: expected a name in kebab-case`);
}
