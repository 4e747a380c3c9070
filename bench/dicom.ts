/**
 * `npm run bench:dicom`: `decode` against pydicom with its compiled plugins, one thread each, by turns in one run, for a film of
 * 1024 × 1024 with a window in each transfer syntax. rxray's time includes rendering (LUTs, window, 8 or 16 bit); pydicom's is
 * given without it (stored values only) and with it (the same work).
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
const TURNS = 7;

const folder = mkdtempSync(join(tmpdir(), 'rxray-bench-dicom-'));
try {
  execFileSync(python, [peer, 'make', folder], { stdio: ['ignore', 'ignore', 'inherit'] });
  const child = spawn(python, [peer, 'serve'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const answers = createInterface(child.stdout);
  const median = (times: readonly number[]): number =>
    [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
  console.log(
    '| transfer syntax | rxray (ms) | pydicom, decoded (ms) | ÷ rxray | pydicom, rendered (ms) | ÷ rxray |\n|---|---|---|---|---|---|',
  );
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.film'))) {
    const path = join(folder, name);
    const [own, decoded, rendered]: [number[], number[], number[]] = [[], [], []];
    let reason = '';
    for (let turn = 0; turn <= TURNS; turn++) {
      const started = performance.now();
      await decode(readFileSync(path), { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 });
      const ms = performance.now() - started;
      child.stdin.write(`${path}\n`);
      const [answer] = (await once(answers, 'line')) as [string];
      // The first turn loads what is needed.
      if (turn === 0) continue;
      own.push(ms);
      if (answer.startsWith('cannot')) {
        reason = answer;
        continue;
      }
      const [first = NaN, second = NaN] = answer.split(' ').map(Number);
      decoded.push(first);
      rendered.push(second);
    }
    const ours = median(own);
    const compared = (times: readonly number[]): string =>
      `${median(times).toFixed(1)} | ${(median(times) / ours).toFixed(2)}`;
    const others = reason === '' ? `${compared(decoded)} | ${compared(rendered)}` : `${reason} | – | – | –`;
    console.log(`| ${name.replace('.film', '')} | ${ours.toFixed(1)} | ${others} |`);
  }
  child.stdin.end();
} finally {
  rmSync(folder, { recursive: true });
}
