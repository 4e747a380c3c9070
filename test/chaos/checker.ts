import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import Database from 'libsql';
import type { Expectation } from './films.js';
import type { Received } from './receiver.js';

/** What only the harness records, as `truth.json` in the folder of a trial. */
export interface Truth {
  readonly films: readonly Expectation[];
  readonly received: readonly Received[];
  /** The sinks of the graph beside the webhook, which all graphs have. */
  readonly sinks: readonly (keyof typeof READERS)[];
  /** What happens to a film in the inbox when it is done. */
  readonly onDone: 'keep' | 'move' | 'delete';
}

export interface Verdict {
  readonly files: number;
  /** Names of the files that something is missing of, each with what. */
  readonly lost: readonly string[];
  /** Names of the files that something is there twice of, each with what. */
  readonly double: readonly string[];
}

interface Letter {
  readonly id: string;
  readonly file: string;
  readonly code: string;
  readonly stage: string | null;
  readonly message: string;
  /** SHA-256 of the copy; null where there is none. */
  readonly copy: string | null;
}

/**
 * Accounts for every film of a finished trial by the files on the disk and the requests that the receiver got. Uses
 * only the format of the program's outputs; imports nothing of it.
 */
export async function check(folder: string): Promise<Verdict> {
  const truth = JSON.parse(await readFile(join(folder, 'truth.json'), 'utf8')) as Truth;
  const outputs = new Map(
    await Promise.all(
      truth.sinks.map(
        async (sink) => [sink, groupBy(await READERS[sink](join(folder, 'out')), (row) => row.file)] as const,
      ),
    ),
  );
  const letters = groupBy(await lettersOf(join(folder, '.rxray/deadletter')), (letter) => letter.file);
  const requests = groupBy(truth.received, (request) => request.file);
  const bodies = groupBy(truth.received, (request) => request.id);
  const left = await filesBelow(join(folder, 'inbox'));
  const moved = await filesBelow(join(folder, 'done'));

  const lost: string[] = [];
  const double: string[] = [];
  for (const { name, fate, sha256 } of truth.films) {
    const mine = {
      rows: [...outputs].map(([sink, rows]) => ({ sink, rows: rows.get(name) ?? [] })),
      letters: letters.get(name) ?? [],
      requests: requests.get(name) ?? [],
    };
    const confirmed = mine.requests.filter(({ status }) => status >= 200 && status < 300);
    const missing = (what: string): unknown => lost.push(`${name} (${fate}): ${what}`);
    const twice = (what: string): unknown => double.push(`${name} (${fate}): ${what}`);

    for (const { sink, rows } of mine.rows) {
      if (rows.length > 1) twice(`${rows.length} times in ${sink}`);
      if (rows.length > 0 && fate === 'unreadable') twice(`in ${sink}, and cannot even be read`);
      if (rows.length === 0 && fate !== 'unreadable') missing(`not in ${sink}`);
    }
    if (mine.letters.length > 1) twice(`${mine.letters.length} times in the dead letter`);
    const known = [...mine.rows.flatMap(({ rows }) => rows), ...mine.letters, ...mine.requests];
    const ids = new Set(known.map(({ id }) => id));
    ids.delete('');
    if (ids.size > 1) twice(`known as ${[...ids].join(' and ')}`);
    for (const id of ids) {
      const different = new Set((bodies.get(id) ?? []).map(({ body }) => body));
      if (different.size > 1) twice(`${different.size} different bodies with the webhook-id ${id}`);
    }

    const [letter] = mine.letters;
    if (fate === 'delivered' && confirmed.length === 0) missing('the receiver never confirmed it');
    if (fate === 'delivered' && letter !== undefined) {
      missing(`in the dead letter, and nothing is wrong with it: ${letter.code} ${letter.message}`);
    }
    if (fate !== 'delivered') {
      if (letter === undefined) missing('not in the dead letter');
      else if (letter.copy !== sha256) missing('the copy in the dead letter is another film');
      const stage = fate === 'refused' ? 'webhook' : 'decode';
      if (letter !== undefined && letter.stage !== stage) {
        missing(
          `in the dead letter because of ${letter.stage ?? 'nothing'}, expected ${stage}: ${letter.message}`,
        );
      }
    }

    const stays = truth.onDone === 'keep' || fate !== 'delivered';
    if (stays !== (left.get(name) === sha256)) missing(stays ? 'gone from the inbox' : 'still in the inbox');
    const archived = [...moved].filter(([file]) => file.replace(/(-\d{4})-\d+(?=\.png$)/, '$1') === name);
    const expected = truth.onDone === 'move' && fate === 'delivered' ? 1 : 0;
    if (archived.length < expected) missing('not where done films are moved to');
    if (archived.length > expected) twice(`${archived.length} times where done films are moved to`);
  }

  const known = new Set(truth.films.map(({ name }) => name));
  for (const name of new Set(
    [...outputs.values(), letters, requests].flatMap((found) => [...found.keys()]),
  )) {
    if (!known.has(name)) double.push(`${name}: there is no such film`);
  }
  return { files: truth.films.length, lost, double };
}

interface Row {
  readonly file: string;
  /** Empty where the output does not tell. */
  readonly id: string;
}

/** What each sink has in the folder `out`. */
const READERS = {
  /** The rows of all CSV files: whole lines, as wide as their header. */
  csv: (folder: string) =>
    rowsOf(folder, '.csv', (text) =>
      parse<{ file: string; id?: string }>(text, { columns: true, bom: true, record_delimiter: '\r\n' }),
    ),
  jsonl: (folder: string) =>
    rowsOf(folder, '.jsonl', (text) =>
      text
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Row),
    ),
  folder: (folder: string) => rowsOf(join(folder, 'films'), '.json', (text) => [JSON.parse(text) as Row]),
  sqlite: async (folder: string) => {
    const database = new Database(join(folder, 'films.db'));
    const rows = database.prepare('SELECT file, id FROM films').all() as Row[];
    database.close();
    return rows;
  },
} satisfies Record<string, (folder: string) => Promise<Row[]>>;

async function rowsOf(
  folder: string,
  ending: string,
  read: (text: string) => readonly { file: string; id?: string }[],
): Promise<Row[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(ending) && !name.startsWith('.'));
  const files = names.map(async (name) => read(await readFile(join(folder, name), 'utf8')));
  return (await Promise.all(files)).flat().map(({ file, id = '' }) => ({ file, id }));
}

async function lettersOf(folder: string): Promise<Letter[]> {
  const ids = (await readdir(folder).catch(() => [])).filter((name) => !name.startsWith('.'));
  return Promise.all(
    ids.map(async (id) => {
      const reason = JSON.parse(await readFile(join(folder, id, 'reason.json'), 'utf8')) as Letter;
      const copy = (await readdir(join(folder, id))).find((name) => name !== 'reason.json');
      return { ...reason, copy: copy === undefined ? null : await hash(join(folder, id, copy)) };
    }),
  );
}

async function filesBelow(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('.'));
  return new Map(
    await Promise.all(
      files.map(async ({ parentPath, name }) => {
        const path = join(parentPath, name);
        return [path.slice(folder.length + 1), await hash(path)] as const;
      }),
    ),
  );
}

async function hash(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item)) ?? [];
    group.push(item);
    groups.set(key(item), group);
  }
  return groups;
}
