// Compiles src/ into dist/, the kernels into dist/imaging/kernels.wasm and the page into dist/page, each when anything
// of it changed since the last build; otherwise it only looks at file times.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildKernels } from './kernels.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'dist', '.built.json');
const PAGE = join('src', 'page');
const KERNELS = join('src', 'imaging', 'wasm');
const { resolve } = createRequire(import.meta.url);

const sources = readdirSync(join(root, 'src'), { recursive: true }).map((name) => join('src', name));
const now = Object.fromEntries(
  [...sources, 'tsconfig.json', 'package.json'].sort().flatMap((name) => {
    const { mtimeMs, size, isFile } = describe(join(root, name));
    return isFile ? [[name, `${mtimeMs} ${size}`]] : [];
  }),
);
let before = existsSync(stamp) ? JSON.parse(readFileSync(stamp, 'utf8')) : {};

if (changed(() => true)) {
  if (process.stderr.isTTY) process.stderr.write('building; after this only when something has changed\n');
  // tsc never removes the output of a source that is gone.
  if (Object.keys(before).some((name) => !(name in now))) {
    rmSync(join(root, 'dist'), { recursive: true });
    before = {};
  }
  rmSync(stamp, { force: true });
  if (changed((name) => !name.startsWith(PAGE) && !name.startsWith(KERNELS)))
    run(resolve('typescript/bin/tsc'), '-p', 'tsconfig.json');
  if (changed((name) => name.startsWith(PAGE))) {
    run(
      join(root, 'node_modules/vite/bin/vite.js'),
      'build',
      '--config',
      join(PAGE, 'vite.config.ts'),
      '--logLevel',
      'warn',
    );
  }
  chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755);
  writeFileSync(stamp, JSON.stringify(now));
}

if (!buildKernels()) process.exit(2);

function changed(concerns) {
  const concerned = (files) => JSON.stringify(Object.entries(files).filter(([name]) => concerns(name)));
  return concerned(now) !== concerned(before);
}

function run(...command) {
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(2);
}

function describe(path) {
  const stat = statSync(path);
  return { mtimeMs: stat.mtimeMs, size: stat.size, isFile: stat.isFile() };
}
