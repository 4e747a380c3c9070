import type { Patch } from '../chaos/program.js';
import type { Fault, Plan, Report } from './trial.js';

/** A program with a fault that the trial must find. */
interface Mutant {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly faults: readonly Fault[];
  /** The head is killed at these. */
  readonly moments: readonly string[];
  /** What its trial needs. */
  readonly plan?: Partial<Plan>;
  readonly isFound: (report: Report) => boolean;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'a film is done before its sink and the journal have synced',
    patches: [
      {
        file: 'core/outlets/apart.ts',
        find: 'await write(items);',
        replace: 'void write(items).catch(() => undefined);',
      },
    ],
    faults: ['head killed', 'head killed', 'head killed', 'head killed'],
    moments: ['jsonl.append before', 'jsonl.commit before'],
    isFound: ({ lost }) => lost > 0,
  },
  {
    name: 'a late result is accepted',
    // Films are known by their names, which a new graph does not change.
    patches: [
      {
        file: 'cluster/dispatcher.ts',
        find: 'const id = this.#films.toString(16);',
        replace: 'const id = film.candidate.name;',
      },
      {
        file: 'cluster/dispatcher.ts',
        find: 'const isLate = task?.worker?.id !== worker || task.attempt !== attempt || graph !== this.#graph;',
        replace: 'const isLate = task === undefined || worker + graph + String(attempt) === "";',
      },
    ],
    faults: Array<Fault>(2).fill('graph changed while a worker is stopped'),
    moments: [],
    // The worker is stopped for 10 s. Others have its films after 2 s, and are still at work when its results come.
    plan: { films: 320, sleepMs: 9500, leaseMs: 2000, patienceSeconds: 40 },
    isFound: ({ mixed }) => mixed > 0,
  },
  {
    name: 'a lease never ends',
    patches: [
      {
        file: 'cluster/dispatcher.ts',
        find: '.filter(({ heardAt }) => this.#now() - heardAt > leaseMs);',
        replace: '.filter(({ heardAt }) => this.#now() - heardAt > 1e6 * leaseMs);',
      },
    ],
    faults: ['worker killed', 'worker killed'],
    moments: [],
    isFound: ({ lost }) => lost > 0,
  },
];
