import { copyFile, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = join(ROOT, 'src');

/** What is started, or loaded by its path. */
const ENTRIES = ['cli/main', 'index', 'core/workers/worker', 'core/journal/*', 'plugins/*', 'sinks/*'];
/** Taken from the build: no ES modules. */
const COPIED = ['imaging/kernels.wasm', 'core/workers/worker-entry.cjs'];
/** Native code, or found by the paths of their own files. */
const EXTERNAL = [
  '@nats-io/*',
  'libsql',
  'sharp',
  'opencv-wasm',
  'onnxruntime-node',
  '@tensorflow/*',
  'pino',
  'piscina',
  'jiti',
];

/** A change to one file of the sources. */
export interface Patch {
  /** Its path below `src/`. */
  readonly file: string;
  /** Text that stands there exactly once, … */
  readonly find: string;
  /** … and what takes its place. */
  readonly replace: string;
}

export interface Program {
  /** Its main file: `node MAIN run …`. */
  readonly main: string;
  remove(): Promise<void>;
}

/**
 * The program, built from `src/` in a folder of its own, with its modules in few files: a start costs half
 * the time, so that twice as many kills fit into an hour. Throws when a patch does not apply.
 */
export async function buildProgram(patches: readonly Patch[] = []): Promise<Program> {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-program-'));
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await copyFile(join(ROOT, 'package.json'), join(folder, 'package.json'));
  const left = new Set(patches);
  const sources: Plugin = {
    name: 'sources',
    setup: ({ onLoad }) => {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const name = relative(SOURCES, path);
        let text = await readFile(path, 'utf8');
        for (const patch of left) {
          if (name !== patch.file || text.split(patch.find).length !== 2) continue;
          text = text.replace(patch.find, () => patch.replace);
          left.delete(patch);
        }
        // A module that looks for files beside itself finds them where it would be if it stood alone.
        const url = pathToFileURL(join(folder, 'dist', name.replace(/\.ts$/, '.js'))).href;
        return { contents: text.replaceAll('import.meta.url', JSON.stringify(url)), loader: 'ts' };
      });
    },
  };
  await build({
    entryPoints: ENTRIES.map((entry) => join(SOURCES, `${entry}.ts`)),
    outbase: SOURCES,
    outdir: join(folder, 'dist'),
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    tsconfig: join(ROOT, 'tsconfig.json'),
    external: EXTERNAL,
    logLevel: 'error',
    plugins: [sources],
    banner: {
      js: "import { createRequire as $createRequire } from 'node:module'; const require = $createRequire(import.meta.url);",
    },
  });
  for (const file of COPIED) {
    await mkdir(dirname(join(folder, 'dist', file)), { recursive: true });
    await copyFile(join(ROOT, 'dist', file), join(folder, 'dist', file));
  }
  for (const { file, find } of left) {
    throw new Error(`src/${file} has changed: expected to find there once, to replace it: ${find}`);
  }
  return {
    main: join(folder, 'dist/cli/main.js'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
