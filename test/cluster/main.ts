/**
 * `npm run chaos:cluster`: rounds of films and faults, until there are enough of both or the time is over; then a sink
 * that is down for a minute, and programs that are broken on purpose. The last line has the counts of the rounds.
 */
import { parseArgs } from 'node:util';
import { buildProgram } from '../chaos/program.js';
import { Random } from '../chaos/random.js';
import { natsVersion } from './nats-servers.js';
import { MUTANTS } from './mutants.js';
import { FAULTS, faultsOf, summary, trial, type Fault, type Plan, type Report } from './trial.js';

const { values } = parseArgs({
  options: {
    films: { type: 'string', default: '200000' },
    /** Films of a round: a head that is started again reads its list from the beginning. */
    round: { type: 'string', default: '20000' },
    /** Faults of a round. */
    faults: { type: 'string', default: '52' },
    /** No round begins that may take longer. */
    minutes: { type: 'string', default: '30' },
    workers: { type: 'string', default: '4' },
    /** Of a round. */
    poison: { type: 'string', default: '1' },
    lease: { type: 'string', default: '2000' },
    /** Seconds without a film after which a round is given up. */
    patience: { type: 'string', default: '60' },
    sleep: { type: 'string', default: '80' },
    /** Kinds of faults, with semicolons between, since their names have commas; all by default. */
    kinds: { type: 'string', default: Object.keys(FAULTS).join(';') },
    seed: { type: 'string', default: '1' },
    /** Seconds for which a sink is down; 0: never. */
    outage: { type: 'string', default: '60' },
    mutants: { type: 'boolean', default: true },
  },
  allowNegative: true,
});

// What is left of the machines goes with the process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const started = performance.now();
const minutes = (): number => (performance.now() - started) / 60_000;
const tell = (line: string): void => {
  console.log(line);
};
const say = (line: string): void => {
  console.log(`\n[${minutes().toFixed(1)} min] ${line}`);
};
const complaints: string[] = [];
const random = new Random(Number(values.seed));
const kinds = values.kinds.split(';').map((kind) => {
  if (!(kind in FAULTS)) throw new Error(`unknown kind of fault: ${kind}`);
  return kind as Fault;
});

const plan: Omit<Plan, 'films' | 'faults'> = {
  poison: Number(values.poison),
  workers: Number(values.workers),
  leaseMs: Number(values.lease),
  sleepMs: Number(values.sleep),
  patienceSeconds: Number(values.patience),
  tell,
};

say(`nats-server ${natsVersion() ?? 'is missing'}`);
const program = await buildProgram();
const moments = new Set<string>();
const diedAt = new Set<string>();
/** By kind of fault, in seconds. */
const stalls = new Map<string, number[]>();
let longestStall = 0;
let total = { films: 0, lost: 0, double: 0, wronged: 0, mixed: 0, faults: 0, inFlight: 0, seconds: 0 };
let cpu = 0;
let longest = 0;
try {
  // What a head does when nothing happens but one poisoned film.
  const calm = await trial({ ...plan, films: 500, poison: 1, faults: [], main: program.main });
  for (const moment of calm.moments) moments.add(moment);
  say(`the head has ${String(moments.size)} durable moments: ${[...moments].sort().join(', ')}`);
  while (total.films < Number(values.films) && minutes() + longest < Number(values.minutes)) {
    const begun = minutes();
    const report = await trial({
      ...plan,
      films: Number(values.round),
      faults: faultsOf(Number(values.faults), random, kinds),
      moments: [...moments].filter((moment) => !diedAt.has(moment)),
      main: program.main,
    });
    add(report);
    longest = Math.max(longest, minutes() - begun);
    say(`${summary(report)}, ${String(report.wronged)} wronged, ${String(report.mixed)} mixed`);
  }
  await outage();
  if (values.mutants) await mutants();
} finally {
  await program.remove();
}

say('seconds without a film after each kind of fault:\n  times  median  longest');
for (const [fault, seconds] of [...stalls].sort(([, a], [, b]) => Math.max(...b) - Math.max(...a))) {
  const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? 0;
  console.log(
    [
      String(seconds.length).padStart(7),
      median.toFixed(1).padStart(8),
      `${Math.max(...seconds)
        .toFixed(1)
        .padStart(9)}  ${fault}`,
    ].join(''),
  );
}
const missed = [...moments].filter((moment) => !diedAt.has(moment));
console.log(
  [
    '',
    `${String(total.inFlight)} of ${String(total.faults)} faults while workers had films`,
    `head killed at ${String(diedAt.size)} of ${String(moments.size)} durable moments${missed.length === 0 ? '' : `, not at: ${missed.join(', ')}`}`,
    `${String(plan.poison * (total.films / Number(values.round)))} poisoned films, ${String(total.wronged)} wronged, ${String(total.mixed)} of two graphs`,
    `${(total.films / Math.max(1, total.seconds)).toFixed(0)} films/s, head ${(cpu / Math.max(1, total.films)).toFixed(0)} µs CPU a film`,
  ].join('\n'),
);
if (total.wronged > 0) complaints.push('films were wronged');
if (total.mixed > 0) complaints.push('films have a result of another graph');
if (total.lost + total.double > 0) complaints.push('films are lost, or double');
if (total.faults > 0 && total.inFlight < 0.8 * total.faults) complaints.push('too few faults in flight');
for (const complaint of complaints) console.log(`FAILED: ${complaint}`);
console.log(summary({ ...total, stallSeconds: longestStall }));
if (complaints.length > 0) process.exitCode = 1;

function add(report: Report): void {
  for (const key of Object.keys(total) as (keyof typeof total)[])
    total = { ...total, [key]: total[key] + report[key] };
  cpu += report.headMicroseconds * report.films;
  for (const moment of report.moments) moments.add(moment);
  for (const moment of report.diedAt) diedAt.add(moment);
  longestStall = Math.max(longestStall, report.stallSeconds);
  for (const { fault, seconds } of report.stalls) {
    const kind = fault.replace(/ at .*/, ' at a durable moment');
    stalls.set(kind, [...(stalls.get(kind) ?? []), seconds]);
  }
}

/** The head's memory must not grow while a sink is down and films wait for it in the journal. */
async function outage(): Promise<void> {
  const seconds = Number(values.outage);
  if (seconds === 0) return;
  // More than workers can do in that time.
  const films = Math.ceil((seconds + 10) * plan.workers * 16 * (1000 / plan.sleepMs) * 0.5);
  const report = await trial({
    ...plan,
    films: Math.min(films, Number(values.round) * 2),
    poison: 0,
    faults: [],
    outage: { afterSeconds: 5, seconds },
    main: program.main,
  });
  const [first = 0, last = 0] = report.outageMiB ?? [];
  say(
    `a sink was down for ${String(seconds)} s: the head had ${first.toFixed(0)} MiB in the first quarter, ${last.toFixed(0)} in the last; ${summary(report)}`,
  );
  if (report.lost + report.double > 0) complaints.push('films are lost, or double, after an outage');
  if (last > 1.2 * first) complaints.push('the memory of the head grew during an outage');
}

/** The rounds must be able to fail. */
async function mutants(): Promise<void> {
  for (const { name, patches, faults, moments: at, plan: own, isFound } of MUTANTS) {
    const mutant = await buildProgram(patches);
    try {
      const report = await trial({
        ...plan,
        ...{ films: 3000, poison: 0, faults, moments: at, main: mutant.main, patienceSeconds: 15 },
        ...own,
      });
      const found = isFound(report);
      say(`broken on purpose: ${name}: ${found ? 'found out' : 'NOT FOUND'} (${summary(report)})`);
      if (!found) complaints.push(`not found: ${name}`);
    } finally {
      await mutant.remove();
    }
  }
}
