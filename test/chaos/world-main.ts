/**
 * Treats the files of a running graph badly, and accounts for every film:
 *
 *     npm run chaos:world                           for ten minutes
 *     npm run chaos:world -- --minutes 2 --seed 7
 *
 * The last line is `N films, N lost, N double, N deeds`. Ends with 1 when a film was lost or is there twice.
 */
import { parseArgs } from 'node:util';
import { world } from './world.js';

const { values: flags } = parseArgs({
  options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string', default: '0' } },
});
const end = performance.now() + Number(flags.minutes) * 60_000;
const deeds = new Map<string, number>();
let [films, lost, double] = [0, 0, 0];
for (let seed = Number(flags.seed); performance.now() < end; seed++) {
  const account = await world(seed, 30);
  films += account.films;
  lost += account.lost.length;
  double += account.double.length;
  for (const [name, count] of Object.entries(account.deeds)) deeds.set(name, (deeds.get(name) ?? 0) + count);
  for (const fault of account.lost) console.log(`lost    ${fault}`);
  for (const fault of account.double) console.log(`double  ${fault}`);
  console.log(`seed ${seed}: ${films} films, ${lost} lost, ${double} double`);
}
for (const [name, count] of deeds) console.log(`  ${String(count).padStart(5)}  ${name}`);
const total = [...deeds.values()].reduce((sum, count) => sum + count, 0);
console.log(`${films} films, ${lost} lost, ${double} double, ${total} deeds`);
if (lost + double > 0) process.exitCode = 1;
