// `npm test` after the build: the files that bear company three at a time, then those that watch what happens between
// processes, which have the machine for themselves. Both parts run, whatever becomes of the first.
import { spawnSync } from 'node:child_process';

const parts = ['test:parallel', 'test:serial'];
const codes = parts.map(
  (part) => spawnSync(`npm run --silent ${part}`, { shell: true, stdio: 'inherit' }).status ?? 1,
);
process.exit(Math.max(...codes));
