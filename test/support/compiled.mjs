// Every process of a test run begins here. The tests are TypeScript, which tsx compiles as they are imported; the program
// is compiled beforehand, to .compiled/, so that its worker threads and child processes start as fast as those of dist/.
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { register } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const root = fileURLToPath(new URL('../../', import.meta.url));
const source = join(root, 'src');
const compiled = join(root, '.compiled');

// Threads and children of the compiled program import nothing that is not compiled.
if (isMainThread && process.argv[1]?.startsWith(compiled) !== true) {
  const { buildKernels } = await import('../../scripts/kernels.mjs');
  if (!buildKernels()) process.exit(2);
  await compile();
  const tsx = await import('tsx/esm/api');
  tsx.register();
  register('./compiled-hooks.mjs', import.meta.url);
  // mocha would require() its files, which those hooks do not see.
  Object.defineProperty(process.features, 'require_module', { value: false });
}

/** Compiles what has changed: the compiled file has the time of its source. */
async function compile() {
  const stale = readdirSync(source, { recursive: true }).filter(
    (name) => /[.]c?ts$/.test(name) && !/^(page|imaging.wasm)\b/.test(name) && !isCurrent(name),
  );
  if (stale.length === 0) return;
  const { build } = await import('esbuild');
  const compile = (extension, format) =>
    build({
      entryPoints: stale.filter((name) => name.endsWith(extension)).map((name) => join(source, name)),
      outbase: source,
      outdir: compiled,
      outExtension: { '.js': extension.replace('ts', 'js') },
      write: false,
      format,
      target: 'node20',
      sourcemap: true,
      sourcesContent: false,
    });
  const built = await Promise.all([compile('.ts', 'esm'), compile('.cts', 'cjs')]);
  // Maps come before their files. Under a name of its own until it is complete: others may read, or compile, meanwhile.
  for (const { path, contents } of built.flatMap(({ outputFiles }) => outputFiles)) {
    mkdirSync(dirname(path), { recursive: true });
    const part = `${path}.${process.pid}`;
    writeFileSync(part, contents);
    if (path.endsWith('js')) {
      const time = new Date(timeOf(join(source, path.slice(compiled.length).replace(/js$/, 'ts'))));
      utimesSync(part, time, time);
    }
    renameSync(part, path);
  }
  const kernels = join(compiled, 'imaging', 'kernels.wasm');
  if (lstatSync(kernels, { throwIfNoEntry: false }) === undefined)
    symlinkSync('../../dist/imaging/kernels.wasm', kernels);
}

function isCurrent(name) {
  return timeOf(join(compiled, name.replace(/ts$/, 'js'))) === timeOf(join(source, name));
}

/** Milliseconds, without the fraction, which not every file system keeps. */
function timeOf(path) {
  const time = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return time === undefined ? undefined : Math.floor(time + 1e-3);
}
