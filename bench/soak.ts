/**
 * Days and nights in a quarter of an hour: 100,000 films in waves with pauses between, through one process
 * that is never restarted, while its memory and its open files are watched from outside:
 *
 *     npm run soak
 *     npm run soak -- --films 10000 --waves 10
 *
 * Ends with 1 when a film is not accounted for, or when memory or open files grew after the first quarter.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

const { values: flags } = parseArgs({
  options: {
    films: { type: 'string', default: '100000' },
    waves: { type: 'string', default: '24' },
    pauseMs: { type: 'string', default: '2000' },
  },
});
const [films, waves] = [Number(flags.films), Number(flags.waves)];

const folder = await mkdtemp(join(tmpdir(), 'rxray-soak-'));
const inbox = join(folder, 'inbox');
const arriving = join(folder, 'arriving');
await mkdir(inbox);
await mkdir(arriving);
await writeFile(
  join(folder, 'pipeline.yaml'),
  JSON.stringify({
    version: 1,
    sources: [{ use: 'watch', with: { path: './inbox', settleMs: 50, onDone: 'delete' } }],
    stages: [{ use: 'decode' }, { use: 'clahe' }, { use: 'resize', with: { width: 32, height: 32 } }],
    sinks: [{ use: 'csv', with: { path: './out.csv' } }],
  }),
);

const child = spawn(
  process.execPath,
  [resolve(import.meta.dirname, '../dist/cli/main.js'), 'run', join(folder, 'pipeline.yaml'), '--json'],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
const ended = once(child, 'close');
let settled = 0;
let failed = 0;
createInterface(child.stdout).on('line', (line) => {
  const { event, outcome } = JSON.parse(line) as { event: string; outcome?: string };
  if (event !== 'film') return;
  settled += 1;
  if (outcome !== 'done') failed += 1;
});

interface Look {
  readonly films: number;
  readonly residentMiB: number;
  readonly handles: number;
  readonly threads: number;
}

async function look(): Promise<Look> {
  const status = await readFile(`/proc/${child.pid ?? 0}/status`, 'utf8');
  const numberOf = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    films: settled,
    residentMiB: numberOf('VmRSS') / 1024,
    handles: (await readdir(`/proc/${child.pid ?? 0}/fd`)).length,
    threads: numberOf('Threads'),
  };
}

/** Eight films of 32×32, again and again: names differ, bytes need not. */
const bytes = await Promise.all(
  Array.from({ length: 8 }, (_, seed) =>
    sharp(
      Uint8Array.from({ length: 1024 }, (_, i) => (i * (seed + 3)) & 255),
      { raw: { width: 32, height: 32, channels: 1 } },
    )
      .toColourspace('b-w')
      .png()
      .toBuffer(),
  ),
);

const looks: Look[] = [];
const start = performance.now();
for (let wave = 0, dropped = 0; wave < waves; wave += 1) {
  for (const upTo = Math.round((films * (wave + 1)) / waves); dropped < upTo; dropped += 1) {
    const name = `${String(dropped).padStart(6, '0')}.png`;
    await writeFile(join(arriving, name), bytes[dropped % bytes.length] ?? '');
    await rename(join(arriving, name), join(inbox, name));
  }
  while (settled < dropped && child.exitCode === null) await sleep(200);
  if (child.exitCode !== null) throw new Error(`the program ended by itself (${child.exitCode})`);
  await sleep(Number(flags.pauseMs));
  const now = await look();
  looks.push(now);
  console.log(
    `${((performance.now() - start) / 60_000).toFixed(1).padStart(5)} min  ${String(now.films).padStart(6)} films  ` +
      `${now.residentMiB.toFixed(0)} MiB resident  ${now.handles} open files  ${now.threads} threads`,
  );
}
child.kill('SIGINT');
await ended;

const rows = (await readFile(join(folder, 'out.csv'), 'utf8')).trimEnd().split('\r\n').slice(1);
const names = new Set(rows.map((row) => row.split(',')[0]));
const left = (await readdir(inbox)).length;
await rm(folder, { recursive: true });

const early = looks.slice(Math.floor(looks.length / 4), Math.ceil(looks.length / 2));
const late = looks.slice(Math.floor((looks.length * 3) / 4));
const most = (some: readonly Look[], key: 'residentMiB' | 'handles'): number =>
  Math.max(...some.map((each) => each[key]));
const growth = most(late, 'residentMiB') / most(early, 'residentMiB');
const more = most(late, 'handles') - most(early, 'handles');
console.log(
  `${films} films: ${rows.length} rows, ${names.size} names, ${failed} failed, ${left} left in the inbox; ` +
    `last quarter beside the second: memory × ${growth.toFixed(2)}, open files ${more >= 0 ? '+' : ''}${more}`,
);
const whole = rows.length === films && names.size === films && failed === 0 && left === 0;
if (!whole || growth > 1.15 || more > 2) process.exitCode = 1;
