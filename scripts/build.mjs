// Compiles src/ into dist/ when anything changed since the last build; otherwise it only looks at file times.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'dist', '.built.json');

const sources = readdirSync(join(root, 'src'), { recursive: true }).map((name) => join('src', name));
const now = Object.fromEntries(
  [...sources, 'tsconfig.json', 'package.json'].sort().flatMap((name) => {
    const { mtimeMs, size, isFile } = describe(join(root, name));
    return isFile ? [[name, `${mtimeMs} ${size}`]] : [];
  }),
);
const before = existsSync(stamp) ? JSON.parse(readFileSync(stamp, 'utf8')) : {};

if (JSON.stringify(now) !== JSON.stringify(before)) {
  // tsc never removes the output of a source that is gone.
  if (Object.keys(before).some((name) => !(name in now))) rmSync(join(root, 'dist'), { recursive: true });
  rmSync(stamp, { force: true });
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.json'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(2);
  chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755);
  writeFileSync(stamp, JSON.stringify(now));
}

function describe(path) {
  const stat = statSync(path);
  return { mtimeMs: stat.mtimeMs, size: stat.size, isFile: stat.isFile() };
}
