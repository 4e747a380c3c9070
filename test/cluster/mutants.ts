import type { Patch } from '../chaos/program.js';
import type { Fault, Report } from './trial.js';

/** A program with a fault that the trial must find. */
interface Mutant {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly faults: readonly Fault[];
  /** The head is killed at these. */
  readonly moments: readonly string[];
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
    patches: [
      {
        file: 'cluster/dispatcher.ts',
        find: 'const isLate = task?.worker?.id !== worker || task.attempt !== attempt || graph !== this.#graph;',
        replace: 'const isLate = task === undefined || worker + graph + String(attempt) === "";',
      },
    ],
    faults: Array<Fault>(4).fill('graph changed while a worker is stopped'),
    moments: [],
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
