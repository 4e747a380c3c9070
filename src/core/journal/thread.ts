import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { durablySync } from '../durable.js';
import { messageOf, type ErrorCode } from '../errors.js';
import type { JournalCalls, JournalRequest, RequestMessage, ResponseMessage } from './protocol.js';
import { Store } from './store.js';

/** Maximum time until writes without a waiting caller are committed. */
const LAZY_MS = 50;

/** SQLITE_BUSY and SQLITE_LOCKED; SQLITE_CORRUPT and SQLITE_NOTADB. */
const LOCKED: ReadonlySet<number> = new Set([5, 6]);
const DAMAGED: ReadonlySet<number> = new Set([11, 26]);

const { path } = workerData as { path: string };
const port = parentPort;
if (port === null) throw new Error('the journal runs in a worker thread');
/** Names the process that holds the journal, for error messages of other processes. The lock itself is SQLite's. */
const owner = `${path}.owner`;
let store: Store | undefined;
/** Responses that are sent after the next commit. */
let group: ResponseMessage[] = [];
let timer: NodeJS.Timeout | undefined;
/**
 * Why a group could not be committed. Nothing is written after that: later writes may depend on lost ones whose
 * responses were already sent.
 */
let broken: Extract<ResponseMessage, { ok: false }> | undefined;

const READS: ReadonlySet<JournalRequest['method']> = new Set([
  'lookUp',
  'parked',
  'parkedCounts',
  'history',
  'noted',
]);
/** Whether the response does not wait for a commit. */
const isLazy = ({ method, args }: JournalRequest): boolean =>
  READS.has(method) || (method === 'admit' && args[2].harmless);
/** Whether the writes must survive a crash of this process, but not a power failure. */
const isCount = ({ method, args }: JournalRequest): boolean =>
  method === 'passed' || (method === 'admit' && !args[2].harmless);

port.on('message', (messages: readonly RequestMessage[]) => {
  // Inside an open transaction they are committed with that.
  const counts = store?.dirty === true ? [] : messages.filter(isCount);
  const now = counts.length > 0 ? respondToCounts(counts) : [];
  for (const message of messages) {
    const { seq, method } = message;
    if (counts.includes(message)) continue;
    const response =
      broken === undefined || method === 'close' ? respond(seq, () => perform(message)) : { ...broken, seq };
    if (!response.ok || isLazy(message)) {
      now.push(response);
      continue;
    }
    // Messages already in the port's queue join the same commit.
    if (group.length === 0) setImmediate(commit);
    group.push(response);
  }
  if (now.length === 0) return;
  port.postMessage(now);
  if (store?.dirty === true) timer ??= setTimeout(commit, LAZY_MS);
});

function respondToCounts(messages: readonly RequestMessage[]): ResponseMessage[] {
  let responses: ResponseMessage[] = [];
  if (broken === undefined) {
    const committed = respond(0, () => {
      store?.surviving(() => {
        responses = messages.map((message) => respond(message.seq, () => perform(message)));
      });
    });
    if (committed.ok) return responses;
    broken = committed;
  }
  const refusal = broken;
  return messages.map(({ seq }) => ({ ...refusal, seq }));
}

function perform({ method, args }: JournalRequest): unknown {
  if (method === 'open') return open();
  if (store === undefined) throw new Error('it is not open');
  if (method === 'close') {
    close(store);
    return undefined;
  }
  return Reflect.apply(store[method] as (...values: unknown[]) => unknown, store, args);
}

function open(): ReturnType<JournalCalls['open']> {
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

function close(opened: Store): void {
  commit();
  opened.close();
  store = undefined;
  rmSync(owner, { force: true });
}

function commit(): void {
  clearTimeout(timer);
  timer = undefined;
  const responses = group;
  group = [];
  if (store?.dirty !== true) {
    if (responses.length > 0) port?.postMessage(responses);
    return;
  }
  const committed = respond(0, () => durablySync('journal.commit', () => store?.commit()));
  if (!committed.ok) broken = committed;
  if (responses.length === 0) return;
  port?.postMessage(committed.ok ? responses : responses.map(({ seq }) => ({ ...committed, seq })));
}

function respond(seq: number, act: () => unknown): ResponseMessage {
  try {
    return { seq, ok: true, response: act() };
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
    // The next start creates a new journal: the other pages of this one cannot be trusted.
    store.abandon();
    store = undefined;
    return {
      code: 'STATE_DAMAGED',
      message: `the journal was damaged: it is kept as ${putAside()}, and the next start creates a new one`,
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
