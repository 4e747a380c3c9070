import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom } from 'rxjs';
import type { Pipeline } from '../core/config/pipeline.js';
import { isCode } from '../core/files.js';
import { Journal } from '../core/journal/journal.js';
import type { Log } from '../core/plugin.js';
import { printable } from '../core/printable.js';

/** A film in a source, and what a run would do with it: `done` and `failed` ones are left alone. */
export interface Listed {
  readonly source: string;
  readonly file: string;
  readonly bytes: number;
  readonly status: 'new' | 'done' | 'failed';
}

/** What a run with `--once` would find. */
export interface DryRun {
  readonly films: readonly Listed[];
  /** What could not be taken, and why. */
  readonly unread: readonly { readonly file: string; readonly reason: string }[];
  /** Files that are known to be no images. */
  readonly leftAlone: number;
  /** Sources that cannot list their films without a run. */
  readonly notAsked: readonly string[];
}

const nothing = (): void => undefined;
const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** Lists the films of the sources and looks them up in a copy of the journal. Changes nothing. Throws CONFIG_CREATE. */
export async function dryRun(pipeline: Pipeline): Promise<DryRun> {
  const stateDir = await mkdtemp(join(tmpdir(), 'rxray-dry-run-'));
  const films: Listed[] = [];
  const unread: { file: string; reason: string }[] = [];
  let leftAlone = 0;
  const asked = pipeline.sources.filter(({ plugin }) => plugin.onlyLooks === true);
  const abort = new AbortController();
  let journal: Journal | undefined;
  try {
    await copyJournal(pipeline.stateDir, stateDir);
    journal = await Journal.open(stateDir, silent);
    const records = journal;
    for (const { id, plugin, settings } of asked) {
      const source = await plugin.create(settings as never, {
        ...{ id, log: silent, baseDir: pipeline.baseDir, stateDir, once: true, signal: abort.signal },
        resolve: (path) => resolve(pipeline.baseDir, path),
        unsettled: async (candidates) => {
          const known = await records.lookUp(id, candidates, { since: 0, failedSince: 0 });
          candidates.forEach(({ name, size, error }, i) => {
            if (error !== undefined) unread.push({ file: name, reason: error.message });
            else films.push({ source: id, file: name, bytes: size, status: statusOf(known[i]) });
          });
          return [];
        },
        unread: (file, reason) => void unread.push({ file, reason }),
        leftAlone: (files) => (leftAlone += files),
        outage: nothing,
      });
      await lastValueFrom(source.candidates$, { defaultValue: undefined });
      await source.dispose?.();
    }
  } finally {
    abort.abort();
    await journal?.close();
    await rm(stateDir, { recursive: true });
  }
  const notAsked = pipeline.sources.filter((node) => !asked.includes(node)).map(({ id }) => id);
  return { films, unread, leftAlone, notAsked };
}

/** The films of a dry run, a line each, and how many there are. */
export function dryRunText({ films, unread, leftAlone, notAsked }: DryRun): string {
  const taken = films.filter(({ status }) => status === 'new');
  const count = (status: Listed['status']): number => films.filter((film) => film.status === status).length;
  const parts = [
    `a run would take ${taken.length} ${taken.length === 1 ? 'film' : 'films'}`,
    ...(count('done') > 0 ? [`${count('done')} done already`] : []),
    ...(count('failed') > 0 ? [`${count('failed')} failed before`] : []),
    ...(unread.length > 0 ? [`${unread.length} that cannot be taken`] : []),
    ...(leftAlone > 0 ? [`${leftAlone} left alone because they are not images`] : []),
  ];
  return [
    ...taken.map(({ file }) => `  ${printable(file)}`),
    ...unread.map(({ file, reason }) => `✗ ${printable(file)}  ${printable(reason)}`),
    ...notAsked.map((id) => `the films of the source ${id} are only known in a run`),
    parts.join(', '),
  ].join('\n');
}

function statusOf(record: { readonly status: string } | null | undefined): Listed['status'] {
  if (record == null) return 'new';
  return record.status === 'failed' ? 'failed' : 'done';
}

/** A run may hold the journal itself: its files are copied. */
async function copyJournal(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of ['journal.db', 'journal.db-wal']) {
    await copyFile(join(from, name), join(to, name)).catch((error: unknown) => {
      if (!isCode(error, 'ENOENT')) throw error;
    });
  }
}
