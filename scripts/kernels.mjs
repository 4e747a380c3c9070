// Compiles the kernels (src/imaging/wasm, AssemblyScript) to dist/imaging/kernels.wasm, when anything of them has
// changed since. `npm run build` does, and so does a test run, so that a single test needs no build.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'src', 'imaging', 'wasm');
const output = join(root, 'dist', 'imaging', 'kernels.wasm');
const flags = ['-O3', '--enable', 'simd', '--runtime', 'stub', '--noAssert', '--use', 'abort='];

/** Returns whether the compiler succeeded, or was not needed. */
export function buildKernels() {
  const inputs = [...readdirSync(sources).map((name) => join(sources, name)), fileURLToPath(import.meta.url)];
  const built = statSync(output, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (inputs.every((path) => statSync(path).mtimeMs < built)) return true;
  mkdirSync(dirname(output), { recursive: true });
  // Under a name of its own until it is complete: others may be reading, or compiling, at the same time.
  const part = `${output}.${process.pid}`;
  const compiler = join(root, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
  const command = [compiler, 'src/imaging/wasm/index.ts', ...flags, '--outFile', part];
  const { status } = spawnSync(process.execPath, command, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status === 0) renameSync(part, output);
  else rmSync(part, { force: true });
  return status === 0;
}
