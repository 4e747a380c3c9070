/**
 * Kills a running pipeline again and again, and accounts for every film:
 *
 *     npm run chaos                                   1,000 kills over 10,000 films, about 25 minutes
 *     npm run chaos -- --kills 50 --films 500 --hits 1
 *
 * The last line is `N files, N lost, N double, N kills`. Ends with 1 when a film was lost or is there
 * twice, or when there was no time for as much as was asked for.
 */
import { parseArgs } from 'node:util';
import { chaos, lastLine } from './chaos.js';
import { buildProgram } from './program.js';

const { values: flags } = parseArgs({
  options: {
    kills: { type: 'string', default: '1000' },
    films: { type: 'string', default: '10000' },
    hits: { type: 'string', default: '20' },
    minutes: { type: 'string', default: '40' },
    abreast: { type: 'string', default: '2' },
  },
});
const wanted = { kills: Number(flags.kills), films: Number(flags.films), hits: Number(flags.hits) };

const program = await buildProgram();
const start = performance.now();
const tally = await chaos({
  ...wanted,
  program: program.main,
  seconds: Number(flags.minutes) * 60,
  filmsPerTrial: 400,
  abreast: Number(flags.abreast),
  onTrial: (now) => {
    const minutes = (performance.now() - start) / 60_000;
    console.log(`${minutes.toFixed(1)} min: ${lastLine(now)}, ${(now.kills / minutes).toFixed(0)} kills/min`);
  },
});
await program.remove();

console.log('\nkills at each moment of a durable step:');
for (const [moment, hits] of [...tally.hits].sort()) console.log(`  ${String(hits).padStart(5)}  ${moment}`);
console.log(
  `kills while films were in flight: ${tally.inFlight} of ${tally.kills}; at steps of the opening, when none can be: ${tally.opening}`,
);
for (const fault of tally.lost) console.log(`lost    ${fault}`);
for (const fault of tally.double) console.log(`double  ${fault}`);

const short = [
  tally.kills < wanted.kills && `expected ${wanted.kills} kills`,
  tally.files < wanted.films && `expected ${wanted.films} films`,
  Math.min(...tally.hits.values()) < wanted.hits && `expected ${wanted.hits} kills at every moment`,
  tally.inFlight < 0.9 * (tally.kills - tally.opening) && 'expected films in flight at nine kills in ten',
].filter((line) => line !== false);
for (const line of short) console.log(line);
console.log(lastLine(tally));
if (tally.lost.length + tally.double.length + short.length > 0) process.exitCode = 1;
