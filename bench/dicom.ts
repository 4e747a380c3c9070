/**
 * `npm run bench:dicom`: `decode` against pydicom with its compiled plugins, one thread each, by turns in one run, for a film of
 * 1024 × 1024 with a window in each transfer syntax. rxray's time includes rendering (LUTs, window, 8 or 16 bit); pydicom's is
 * given without it (stored values only) and with it (the same work). Times are medians, elapsed and of the CPU in all threads;
 * ratios are of the CPU's, which other processes disturb less.
 * `RXRAY_PYTHON` names a Python with pydicom 3 and its plugins (see `bench/peers/dicom.py`).
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { decode } from './built.js';

const python = process.env['RXRAY_PYTHON'] ?? 'python3';
const peer = fileURLToPath(new URL('./peers/dicom.py', import.meta.url));
const TURNS = 9;
/** Turns before those that are measured: they load what is needed, and V8 compiles the codecs twice. */
const WARM_UP = 4;

interface Time {
  readonly ms: number;
  readonly cpu: number;
}

const folder = mkdtempSync(join(tmpdir(), 'rxray-bench-dicom-'));
try {
  execFileSync(python, [peer, 'make', folder], { stdio: ['ignore', 'ignore', 'inherit'] });
  const child = spawn(python, [peer, 'serve'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const answers = createInterface(child.stdout);
  const median = (times: readonly number[]): number =>
    [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
  const medians = (times: readonly Time[]): Time => ({
    ms: median(times.map(({ ms }) => ms)),
    cpu: median(times.map(({ cpu }) => cpu)),
  });
  const shown = ({ ms, cpu }: Time): string => `${ms.toFixed(1)} / ${cpu.toFixed(1)}`;
  console.log(
    '| transfer syntax | rxray (ms / CPU) | pydicom, decoded (ms / CPU) | ÷ rxray | pydicom, rendered (ms / CPU) | ÷ rxray |\n|---|---|---|---|---|---|',
  );
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.film'))) {
    const path = join(folder, name);
    const [own, decoded, rendered]: [Time[], Time[], Time[]] = [[], [], []];
    let reason = '';
    for (let turn = 0; turn < WARM_UP + TURNS; turn++) {
      const [started, before] = [performance.now(), process.cpuUsage()];
      await decode(readFileSync(path), { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 });
      const { user, system } = process.cpuUsage(before);
      const time = { ms: performance.now() - started, cpu: (user + system) / 1000 };
      child.stdin.write(`${path}\n`);
      const [answer] = (await once(answers, 'line')) as [string];
      if (turn < WARM_UP) continue;
      own.push(time);
      if (answer.startsWith('cannot')) {
        reason = answer;
        continue;
      }
      const [ms = NaN, cpu = NaN, allMs = NaN, allCpu = NaN] = answer.split(' ').map(Number);
      decoded.push({ ms, cpu });
      rendered.push({ ms: allMs, cpu: allCpu });
    }
    const ours = medians(own);
    const compared = (times: readonly Time[]): string =>
      `${shown(medians(times))} | ${(medians(times).cpu / ours.cpu).toFixed(2)}`;
    const others = reason === '' ? `${compared(decoded)} | ${compared(rendered)}` : `${reason} | – | – | –`;
    console.log(`| ${name.replace('.film', '')} | ${shown(ours)} | ${others} |`);
  }
  child.stdin.end();
} finally {
  rmSync(folder, { recursive: true });
}
