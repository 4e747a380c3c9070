import { parseArgs } from 'node:util';
import { natsVersion } from './nats-servers.js';
import { FAULTS, summary, trial, type Fault } from './trial.js';

/** `npm run chaos:cluster`: more films and faults than the test has time for. */
const { values } = parseArgs({
  options: {
    films: { type: 'string', default: '20000' },
    faults: { type: 'string', default: '60' },
    workers: { type: 'string', default: '4' },
    poison: { type: 'string', default: '10' },
    lease: { type: 'string', default: '2000' },
    /** Kinds of faults, with commas between; all by default. */
    kinds: { type: 'string', default: Object.keys(FAULTS).join() },
    sleep: { type: 'string', default: '20' },
  },
});
const kinds = values.kinds.split(',').filter((kind): kind is Fault => kind in FAULTS);
const faults = Array.from(
  { length: Number(values.faults) },
  (_, i) => kinds[i % kinds.length] ?? 'head killed',
);
console.log(`nats-server ${natsVersion() ?? 'is missing'}`);
const report = await trial({
  films: Number(values.films),
  poison: Number(values.poison),
  workers: Number(values.workers),
  leaseMs: Number(values.lease),
  sleepMs: Number(values.sleep),
  faults,
  tell: (line) => {
    console.log(line);
  },
});
console.log(
  `${(report.films / report.seconds).toFixed(0)} films/s, head ${report.headMicroseconds.toFixed(0)} µs CPU a film`,
);
console.log(summary(report));
if (report.lost + report.double + report.wronged > 0) process.exitCode = 1;
