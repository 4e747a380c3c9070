import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { durablySync } from '../durable.js';
import { messageOf, type ErrorCode } from '../errors.js';
import type { Answers, Question, Request, Response } from './protocol.js';
import { Store } from './store.js';

/** How long something may lie uncommitted for which nobody waits. */
const LAZY_MS = 50;

/** SQLITE_BUSY and SQLITE_LOCKED; SQLITE_CORRUPT and SQLITE_NOTADB. */
const LOCKED: ReadonlySet<number> = new Set([5, 6]);
const DAMAGED: ReadonlySet<number> = new Set([11, 26]);

const { path } = workerData as { path: string };
const port = parentPort;
if (port === null) throw new Error('the journal runs in a worker thread');
/** Who holds the journal: for the message of whoever is refused. The lock itself is SQLite's. */
const owner = `${path}.owner`;
let store: Store | undefined;
/** Answers that may leave when what stands before them is on the disk. */
let group: Response[] = [];
let timer: NodeJS.Timeout | undefined;
/**
 * Why a group could not be committed. Nothing is written after that: later groups build on what it has lost, of
 * which nobody may have heard, because the answers of the lazy leave at once.
 */
let broken: Extract<Response, { ok: false }> | undefined;

/** Those that say nothing of the disk: their answers leave at once. */
const LAZY: ReadonlySet<Question['kind']> = new Set(['outcomes', 'parked', 'parkedCounts', 'noted']);
/** Those whose answer must outlive this process, but not a power cut. */
const COUNTS: ReadonlySet<Question['kind']> = new Set(['admit', 'passed']);

port.on('message', (requests: readonly Request[]) => {
  const isCount = ({ question: { kind } }: Request): boolean => COUNTS.has(kind);
  // Inside a transaction that is under way they are answered with that.
  const counts = store?.dirty === true ? [] : requests.filter(isCount);
  const now = counts.length > 0 ? answerCounts(counts) : [];
  for (const request of requests) {
    const { seq, question } = request;
    if (counts.includes(request)) continue;
    const response =
      broken === undefined || question.kind === 'close'
        ? respond(seq, () => answer(question))
        : { ...broken, seq };
    if (!response.ok || LAZY.has(question.kind)) {
      now.push(response);
      continue;
    }
    // Everything that is already in the port's queue joins the same commit.
    if (group.length === 0) setImmediate(commit);
    group.push(response);
  }
  if (now.length === 0) return;
  port.postMessage(now);
  if (store?.dirty === true) timer ??= setTimeout(commit, LAZY_MS);
});

function answerCounts(requests: readonly Request[]): Response[] {
  let answers: Response[] = [];
  if (broken === undefined) {
    const committed = respond(0, () => {
      store?.surviving(() => {
        answers = requests.map(({ seq, question }) => respond(seq, () => answer(question)));
      });
      return null;
    });
    if (committed.ok) return answers;
    broken = committed;
  }
  const refusal = broken;
  return requests.map(({ seq }) => ({ ...refusal, seq }));
}

function answer(question: Question): Answers[keyof Answers] {
  if (question.kind === 'open') return open();
  if (store === undefined) throw new Error('it is not open');
  switch (question.kind) {
    case 'outcomes':
      return store.outcomes(question.source, question.files, question.policy, question.at);
    case 'admit':
      return store.admit(question.film, question.policy, question, question.at);
    case 'passed':
      store.passed(question.id);
      return null;
    case 'park':
      store.park(question.id, question.sink, question.frame, question.at);
      return null;
    case 'confirm':
      return store.confirm(question.id, question.sink, question.at);
    case 'record':
      return store.record(question.conclusion);
    case 'refuse':
      store.refuse(question.refusal);
      return null;
    case 'parked':
      return store.parked(question.sink, question.after, question.limit);
    case 'parkedCounts':
      return store.parkedCounts();
    case 'note':
      store.note(question.key, question.value);
      return null;
    case 'noted':
      return store.noted(question.key);
    case 'obsolete':
      return store.obsolete(question.ids);
    case 'close':
      commit();
      store.close();
      store = undefined;
      rmSync(owner, { force: true });
      return null;
  }
}

function open(): Answers['open'] {
  let setAside: string | null = null;
  try {
    store = new Store(path);
  } catch (thrown) {
    if (!isDamage(thrown)) throw thrown;
    setAside = putAside();
    store = new Store(path);
  }
  writeFileSync(
    owner,
    JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }),
  );
  return { setAside };
}

function commit(): void {
  clearTimeout(timer);
  timer = undefined;
  const answers = group;
  group = [];
  if (store?.dirty !== true) {
    if (answers.length > 0) port?.postMessage(answers);
    return;
  }
  const committed = respond(0, () => {
    durablySync('journal.commit', () => store?.commit());
    return null;
  });
  if (!committed.ok) broken = committed;
  if (answers.length === 0) return;
  port?.postMessage(committed.ok ? answers : answers.map(({ seq }) => ({ ...committed, seq })));
}

function respond(seq: number, act: () => Answers[keyof Answers]): Response {
  try {
    return { seq, ok: true, answer: act() };
  } catch (thrown) {
    return { seq, ok: false, error: plainError(thrown) };
  }
}

function plainError(thrown: unknown): { code: ErrorCode; message: string } {
  const message = messageOf(thrown);
  if (LOCKED.has(sqliteCode(thrown))) {
    return {
      code: 'STATE_LOCKED',
      message: `${path} is in use by another rxray process${holder()}: end it, or give this graph a \`state:\` folder of its own`,
    };
  }
  if (isDamage(thrown) && store !== undefined) {
    // Begun anew by the next start; going on with it would mean to trust its other pages.
    store.abandon();
    store = undefined;
    return {
      code: 'STATE_DAMAGED',
      message: `the journal was damaged: it is kept as ${putAside()}, and the next start begins a new one`,
    };
  }
  return { code: 'STATE_UNWRITABLE', message: `the journal ${path} cannot be used: ${message}` };
}

function holder(): string {
  try {
    const { pid, host, since } = JSON.parse(readFileSync(owner, 'utf8')) as Record<string, unknown>;
    return ` (pid ${String(pid)} on ${String(host)}, since ${String(since)})`;
  } catch {
    return '';
  }
}

function isDamage(thrown: unknown): boolean {
  return DAMAGED.has(sqliteCode(thrown));
}

/** The primary result code (https://sqlite.org/rescode.html); 0 for other errors. */
function sqliteCode(thrown: unknown): number {
  const { rawCode } = thrown as { rawCode?: number };
  return (rawCode ?? 0) & 0xff;
}

function putAside(): string {
  const setAside = `${path}.damaged-${new Date().toISOString().replaceAll(':', '')}`;
  renameSync(path, setAside);
  for (const part of ['-wal', '-shm']) {
    if (existsSync(path + part)) renameSync(path + part, setAside + part);
  }
  return setAside;
}
