import type { Suspicion } from './chaos.js';
import type { Patch } from './program.js';

/** A program with a fault that the harness must find: what it does wrong, and how. */
interface Mutant {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly suspicion: Suspicion;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'what nobody was told of is not cut off when a file is opened again',
    patches: [
      {
        file: 'sinks/committed-file.ts',
        find: 'let length = commit?.length ?? size;',
        replace: 'let length = size;',
      },
      {
        file: 'sinks/committed-file.ts',
        find: 'if (commit !== undefined && (size < length || commit.crc !== read.crc)) {',
        replace: 'if (size < 0) {',
      },
    ],
    // The file of this trial holds no ids, by which the rows would be recognised all the same.
    suspicion: { trial: 1, moment: 'csv.append after' },
  },
  {
    name: 'a film is done before its sinks have confirmed it',
    patches: [
      {
        file: 'core/outlets/apart.ts',
        find: 'await write(items);',
        replace: 'void write(items).catch(() => undefined);',
      },
    ],
    suspicion: { trial: 0, moment: 'journal.confirm after' },
  },
  {
    name: 'the id of a film is another after each start',
    patches: [
      {
        file: 'core/frame.ts',
        find: '`${source}\\0${name}\\0${sha256}`',
        replace: '`${source}\\0${name}\\0${sha256}\\0${process.pid}`',
      },
    ],
    suspicion: { trial: 0, moment: 'csv.commit after' },
  },
  {
    name: 'a request that was broken off is repeated with another content',
    patches: [{ file: 'sinks/webhook.ts', find: '  outbox: true,', replace: '  outbox: false,' }],
    suspicion: { trial: 0, moment: 'webhook.post after' },
  },
];
