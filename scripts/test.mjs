// `npm test` after the build: most test files, three at a time; then those that kill or watch other processes, one by
// one. The second part also runs when the first has failed.
import { spawnSync } from 'node:child_process';

const parts = ['test:parallel', 'test:serial'];
const codes = parts.map(
  (part) => spawnSync(`npm run --silent ${part}`, { shell: true, stdio: 'inherit' }).status ?? 1,
);
process.exit(Math.max(...codes));
