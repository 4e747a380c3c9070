/**
 * `npm run chaos:parts`: 200 parts of a backfill, of which 100 are killed at random moments and repeated; their joined
 * output must be that of an undisturbed run.
 */
import { parseArgs } from 'node:util';
import { partsTrial } from './parts.js';

const { values: flags } = parseArgs({
  options: {
    films: { type: 'string', default: '4000' },
    parts: { type: 'string', default: '200' },
    kills: { type: 'string', default: '100' },
    jobs: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
  },
});
const [films, parts, kills] = [Number(flags.films), Number(flags.parts), Number(flags.kills)];
const started = performance.now();
const { killed, journalsLost, rows, lost, double, failed, sameFailed, complaints } = await partsTrial({
  ...{ films, parts, kills, jobs: Number(flags.jobs), seed: Number(flags.seed) },
  tell: (line) => {
    console.log(line);
  },
});
const hit = killed.nothing + killed.some + killed.all;
console.log(
  [
    `killed with no row written: ${String(killed.nothing)}, with some: ${String(killed.some)}, with all, before the output had its name: ${String(killed.all)}; journals lost: ${String(journalsLost)}`,
    `${String(failed)} unreadable films, in the dead letters of the parts ${sameFailed ? 'the same' : 'OTHERS'}`,
    `${((performance.now() - started) / 60_000).toFixed(1)} min`,
    ...complaints.map((complaint) => `FAILED: ${complaint}`),
    `${String(films)} films, ${String(parts)} parts, ${String(hit)} killed, ${String(rows)} rows, ${String(lost)} lost, ${String(double)} double`,
  ].join('\n'),
);
if (hit < kills || lost + double > 0 || !sameFailed || complaints.length > 0 || rows === 0)
  process.exitCode = 1;
