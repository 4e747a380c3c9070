import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import type { TransformOptions } from 'jiti';
import { messageOf, RxrayError } from '../errors.js';
import type { Plugin } from '../plugin.js';
import { rxjs } from '../rxjs.js';

/** The folder of the program's own modules (`src/` or `dist/`). */
const HOME = new URL('../../', import.meta.url).href;
const EXTENSION = extname(fileURLToPath(import.meta.url));

/**
 * The plugin that the module at `url` exports as its default. Main thread and worker threads load plugins in the same
 * way.
 *
 * A user's module (TypeScript or JavaScript, in any folder) may import `rxray`, `zod` and `rxjs` without installing
 * them: it gets those of this program.
 *
 * Throws CONFIG_PLUGIN_BROKEN when the module cannot be loaded or exports no plugin.
 */
export async function loadPluginModule(url: string): Promise<Plugin> {
  let exported: unknown;
  try {
    const module = (url.startsWith(HOME) ? await import(url) : await importForeign(url)) as {
      default?: unknown;
    };
    exported = module.default;
  } catch (cause) {
    throw new RxrayError('CONFIG_PLUGIN_BROKEN', `${shown(url)} cannot be loaded: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (isPlugin(exported)) return exported;
  throw new RxrayError(
    'CONFIG_PLUGIN_BROKEN',
    `${shown(url)} exports no plugin: expected \`export default defineStage({ … })\` (or defineSource, defineSink), got ${kindOf(exported)}`,
  );
}

/**
 * Imports a user's module, TypeScript or JavaScript, with this program's own `rxray`, `zod`, `rxjs` and the modules in
 * `others`.
 */
export async function importForeign(url: string, others: Record<string, unknown> = {}): Promise<unknown> {
  const [rxray, zod, { createJiti }] = await Promise.all([
    import(new URL(`index${EXTENSION}`, HOME).href) as Promise<unknown>,
    import('zod'),
    import('jiti'),
  ]);
  const compiler = createJiti(import.meta.url, { fsCache: false });
  const jiti = createJiti(import.meta.url, {
    fsCache: false,
    interopDefault: false,
    transform: (options) => ({ code: compiledOnce(options, () => compiler.transform(options)) }),
    virtualModules: {
      rxray,
      zod,
      get rxjs() {
        return rxjs();
      },
      ...others,
    },
  });
  return jiti.import(fileURLToPath(url));
}

/**
 * The main thread loads a plugin before its worker threads start, and they get what it has compiled: otherwise each would
 * load Babel, which takes longer than all else that a thread does before its first film.
 */
function compiledOnce(options: TransformOptions, compile: () => string): string {
  const key = `rxray:compiled:${createHash('sha256').update(JSON.stringify(options)).digest('hex')}`;
  const known = getEnvironmentData(key);
  if (typeof known === 'string') return known;
  const code = compile();
  setEnvironmentData(key, code);
  return code;
}

/** The path of a file URL; other URLs unchanged. */
function shown(url: string): string {
  return url.startsWith('file:') ? fileURLToPath(url) : url;
}

function isPlugin(value: unknown): value is Plugin {
  if (typeof value !== 'object' || value === null) return false;
  const plugin = value as Partial<Record<keyof Plugin, unknown>>;
  return (
    typeof plugin.kind === 'string' &&
    typeof plugin.contract === 'number' &&
    typeof plugin.name === 'string' &&
    typeof plugin.create === 'function' &&
    typeof (plugin.options as { safeParse?: unknown } | undefined)?.safeParse === 'function'
  );
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'no default export';
  if (value === null || typeof value !== 'object')
    return `a default export of type ${value === null ? 'null' : typeof value}`;
  return `an object with ${Object.keys(value).slice(0, 5).join(', ') || 'no keys'}`;
}
