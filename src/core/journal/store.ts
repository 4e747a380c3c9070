import { existsSync, renameSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'libsql';
import { durablySync } from '../durable.js';
import { messageOf, type ErrorCode } from '../errors.js';
import type { Outcome } from '../plugin.js';

/** One line of the journal: what became of a frame. */
export interface Entry {
  readonly id: string;
  readonly source: string;
  readonly name: string;
  /** Absolute: two folders may hold other films under the same names. */
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  /** Null when the file could not be read. */
  readonly sha256: string | null;
  readonly outcome: Outcome;
  /** Why it failed: code and message. */
  readonly reason: string | null;
  /** The graph that did it: {@link Pipeline.hash}. */
  readonly graph: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** What one asks of the journal's thread. */
export type Question =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'outcomes';
      readonly source: string;
      readonly files: readonly Fingerprint[];
      readonly since: number;
    }
  | {
      readonly kind: 'recognise';
      readonly id: string;
      readonly path: string;
      readonly mtimeMs: number;
      readonly since: number;
    }
  | { readonly kind: 'record'; readonly entry: Entry }
  | { readonly kind: 'close' };

export interface Fingerprint {
  readonly path: string;
  readonly name: string;
  readonly size: number;
  readonly mtimeMs: number;
}

/** What comes back, by the kind of question. */
interface Answers {
  /** The new name of a damaged journal. */
  open: { setAside: string | null };
  outcomes: (Outcome | null)[];
  recognise: Outcome | null;
  record: null;
  close: null;
}
export type Answer<Q extends Question> = Answers[Q['kind']];

export interface Request {
  readonly seq: number;
  readonly question: Question;
}
export type Response =
  | {
      readonly seq: number;
      readonly ok: true;
      readonly answer: Answers[keyof Answers];
      readonly error?: never;
    }
  | {
      readonly seq: number;
      readonly ok: false;
      readonly answer?: never;
      readonly error: { readonly code: ErrorCode; readonly message: string };
    };

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS films (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtimeMs REAL NOT NULL,
    sha256 TEXT, outcome TEXT NOT NULL, reason TEXT, graph TEXT NOT NULL, at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 1
  ) STRICT;
  CREATE INDEX IF NOT EXISTS by_name ON films (source, name);
`;

class Store {
  readonly #db: Database.Database;

  constructor(path: string) {
    this.#db = new Database(path);
    this.#db.exec('PRAGMA locking_mode = EXCLUSIVE');
    this.#db.exec('PRAGMA journal_mode = WAL');
    this.#db.exec('PRAGMA synchronous = FULL');
    this.#db.exec(SCHEMA);
    // Takes the exclusive lock now, so that a second process is refused at its start.
    this.#db.exec('BEGIN IMMEDIATE; COMMIT');
  }

  outcomes(source: string, files: readonly Fingerprint[], since: number): (Outcome | null)[] {
    const find = this.#db.prepare(
      `SELECT outcome FROM films WHERE source = ? AND name = ? AND path = ? AND size = ? AND mtimeMs = ? AND at >= ?
       AND (reason IS NULL OR reason NOT LIKE 'FRAME_UNREADABLE:%')`,
    );
    return files.map(({ path, name, size, mtimeMs }) =>
      outcomeIn(find.get(source, name, path, size, mtimeMs, since)),
    );
  }

  recognise(id: string, path: string, mtimeMs: number, since: number): Outcome | null {
    return outcomeIn(
      this.#db
        .prepare('UPDATE films SET path = ?, mtimeMs = ? WHERE id = ? AND at >= ? RETURNING outcome')
        .get(path, mtimeMs, id, since),
    );
  }

  record(entries: readonly Entry[]): void {
    const write = this.#db.prepare(
      `INSERT INTO films (id, source, name, path, size, mtimeMs, sha256, outcome, reason, graph, at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET path = excluded.path, size = excluded.size, mtimeMs = excluded.mtimeMs, outcome = excluded.outcome,
         reason = excluded.reason, graph = excluded.graph, at = excluded.at, attempts = attempts + 1`,
    );
    this.#db.transaction(() => {
      for (const e of entries) {
        write.run(
          e.id,
          e.source,
          e.name,
          e.path,
          e.size,
          e.mtimeMs,
          e.sha256,
          e.outcome,
          e.reason,
          e.graph,
          e.at,
        );
      }
    })();
  }

  close(): void {
    this.#db.close();
  }
}

function outcomeIn(row: unknown): Outcome | null {
  return (row as { outcome: Outcome } | undefined)?.outcome ?? null;
}

const { path } = workerData as { path: string };
const port = parentPort;
if (port === null) throw new Error('the journal store runs in a worker thread');
let store: Store | undefined;
let group: { seq: number; entry: Entry }[] = [];

port.on('message', ({ seq, question }: Request) => {
  if (question.kind === 'record') {
    // Everything that is already in the port's queue joins the same commit.
    if (group.length === 0) setImmediate(commit);
    group.push({ seq, entry: question.entry });
    return;
  }
  commit();
  reply(seq, () => answer(question));
});

function answer(question: Exclude<Question, { kind: 'record' }>): Answers[keyof Answers] {
  if (question.kind === 'open') return open();
  if (store === undefined) throw new Error('the journal is not open');
  switch (question.kind) {
    case 'outcomes':
      return store.outcomes(question.source, question.files, question.since);
    case 'recognise':
      return store.recognise(question.id, question.path, question.mtimeMs, question.since);
    case 'close':
      store.close();
      return null;
  }
}

function open(): Answers['open'] {
  try {
    store = new Store(path);
    return { setAside: null };
  } catch (thrown) {
    if (!/malformed|not a database|corrupt/i.test(messageOf(thrown))) throw thrown;
    const setAside = `${path}.damaged-${new Date().toISOString().replaceAll(':', '')}`;
    renameSync(path, setAside);
    for (const part of ['-wal', '-shm']) {
      if (existsSync(path + part)) renameSync(path + part, setAside + part);
    }
    store = new Store(path);
    return { setAside };
  }
}

function commit(): void {
  const committed = group;
  group = [];
  if (committed.length === 0) return;
  let result = (): null => null;
  try {
    durablySync('journal.commit', () => store?.record(committed.map(({ entry }) => entry)));
  } catch (thrown) {
    result = () => {
      throw thrown as Error;
    };
  }
  for (const { seq } of committed) reply(seq, result);
}

function reply(seq: number, act: () => Answers[keyof Answers]): void {
  let response: Response;
  try {
    response = { seq, ok: true, answer: act() };
  } catch (thrown) {
    const message = messageOf(thrown);
    const locked = /locked|busy/i.test(message);
    response = {
      seq,
      ok: false,
      error: locked
        ? {
            code: 'STATE_LOCKED',
            message: `${path} is in use by another rxray process: end it, or give this graph a \`state:\` folder of its own`,
          }
        : { code: 'STATE_UNWRITABLE', message: `the journal ${path} cannot be used: ${message}` },
    };
  }
  port?.postMessage(response);
}
