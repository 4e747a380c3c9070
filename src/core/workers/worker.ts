import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
  type Stats,
} from 'node:fs';
import { resolve, sep } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { deserialize } from 'node:v8';
import { BroadcastChannel } from 'node:worker_threads';
import { workerData } from 'piscina';
import { RxrayError, messageOf } from '../errors.js';
import { compileCondition } from '../expression.js';
import { isCode } from '../files.js';
import { asShadow, checkMade, frameBytes, type Frame } from '../frame.js';
import { reusingImageMemory } from '../image-memory.js';
import type { Candidate, FrameStage, Log, Services } from '../plugin.js';
import { checkInstance } from '../plugin-instance.js';
import { loadPluginModule } from '../plugins/load.js';
import { countShared } from './shared-memory.js';
import {
  NOTES,
  monotonicMs,
  shareImage,
  toPlainError,
  type TaskBatch,
  type PackedSegment,
  type StageOutput,
  type StageReport,
  type Stopped,
  type ChannelMessage,
  type TaskResult,
  type PlainError,
  type ProcessReply,
  type ProcessTask,
  type HashReply,
  type ReadReply,
  type Reply,
  type StageSpec,
  type Task,
  type WorkerData,
} from './protocol.js';

// Standard output is for results: what stages print goes to standard error.
globalThis.process.stdout.write = globalThis.process.stderr.write.bind(globalThis.process.stderr);

/** Number of attempts, and waits, for a free file handle. */
const OPEN_ATTEMPTS = 100;
const OPEN_WAIT_MS = 100;

/** Logs and disposal use a channel of the pool; tasks use piscina. */
const channel = new BroadcastChannel((workerData as WorkerData).channel);
channel.unref();
channel.onmessage = (event: unknown): void => {
  const message = (event as { data: ChannelMessage }).data;
  if (message.kind === 'abort') instances.get(message.key)?.disposal.abort();
  else if (message.kind === 'dispose') void dispose(message.key);
};

interface Instance {
  readonly stage: Promise<FrameStage>;
  readonly disposal: AbortController;
}

const instances = new Map<string, Instance>();

/** The main function of a worker thread: tasks in, their results out. Never rejects. */
export default async function handle({ tasks, notes }: TaskBatch): Promise<TaskResult<Reply>[]> {
  const results: TaskResult<Reply>[] = [];
  for (const [index, task] of tasks.entries()) {
    notes[NOTES.task] = index;
    results.push(await perform(task, notes));
  }
  return results;
}

async function perform(task: Task, notes: Float64Array): Promise<TaskResult<Reply>> {
  try {
    switch (task.kind) {
      case 'read':
        return { ok: true, value: await read(task.candidate, task.maxBytes) };
      case 'hash':
        return { ok: true, value: await hash(task.candidate, task.maxBytes) };
      case 'create':
        return { ok: true, value: { columns: (await instanceOf(task.stage)).columns ?? [] } };
      case 'process':
        return { ok: true, value: await process(task, notes) };
    }
  } catch (thrown) {
    return { ok: false, error: toPlainError(thrown) };
  }
}

async function read(candidate: Candidate, maxBytes: number): Promise<ReadReply> {
  const allocate = (size: number): Uint8Array => {
    countShared(size);
    return new Uint8Array(new SharedArrayBuffer(size));
  };
  return readInto(allocate, candidate, maxBytes);
}

/** Memory that is used again, for files that only have to be hashed. */
let scratch = new Uint8Array();
const SCRATCH_BYTES = 1024 ** 2;

async function hash(candidate: Candidate, maxBytes: number): Promise<HashReply> {
  const reply = await readInto(
    (size) => {
      const bytes = Math.min(size, SCRATCH_BYTES);
      if (scratch.length < bytes) scratch = new Uint8Array(bytes);
      return scratch.subarray(0, bytes);
    },
    candidate,
    maxBytes,
  );
  if (reply === null) return null;
  const { encoded: _bytes, ...rest } = reply;
  return rest;
}

/**
 * Reads the file into the memory, from its beginning again when that is full, and hashes it. A thread has one task at a
 * time, so it may block: synchronous calls take a tenth of the time of promises.
 */
async function readInto(
  memory: (size: number) => Uint8Array,
  offered: Candidate,
  maxBytes: number,
): Promise<ReadReply> {
  const started = performance.now();
  const copy = offered.copy ?? offered.replay?.copy;
  const candidate: Candidate = copy === undefined ? offered : { name: offered.name, ...copy };
  if (candidate.size > maxBytes) {
    throw new RxrayError(
      'FRAME_TOO_LARGE',
      `the file has ${String(candidate.size)} bytes, more than limits.bytes allows in flight (${String(maxBytes)})`,
    );
  }
  let file;
  try {
    file = await openPatiently(candidate.path);
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return null;
    throw new RxrayError('FRAME_UNREADABLE', `the file cannot be opened: ${messageOf(cause)}`, { cause });
  }
  try {
    const opened = fstatSync(file);
    if (!isWhatItWas(opened, candidate)) return null;
    const encoded = memory(candidate.size);
    const hashed = createHash('sha256');
    let [position, filled] = [0, 0];
    while (position < candidate.size) {
      if (filled === encoded.length) filled = 0;
      const most = Math.min(encoded.length - filled, candidate.size - position);
      const bytesRead = readSync(file, encoded, filled, most, position);
      if (bytesRead === 0) return null;
      hashed.update(encoded.subarray(filled, filled + bytesRead));
      filled += bytesRead;
      position += bytesRead;
    }
    const { size, mtimeMs, ino, ctimeMs } = fstatSync(file);
    if (size !== candidate.size || mtimeMs !== candidate.mtimeMs || ctimeMs !== opened.ctimeMs) return null;
    const sha256 = hashed.digest('hex');
    return { encoded, sha256, ino, ctimeMs, ms: performance.now() - started };
  } catch (cause) {
    if (cause instanceof RxrayError) throw cause;
    if (isCode(cause, 'ENOENT')) return null;
    throw new RxrayError('FRAME_UNREADABLE', `the file cannot be read: ${messageOf(cause)}`, { cause });
  } finally {
    closeSync(file);
  }
}

/** With too many open files, waits: it is not the film's fault. */
async function openPatiently(path: string): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    try {
      // Without O_NONBLOCK a pipe in place of the file would block the thread.
      return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (!['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'].includes(code) || attempt === OPEN_ATTEMPTS) throw error;
      await setTimeout(OPEN_WAIT_MS);
    }
  }
}

/**
 * Whether the open file is a regular file inside the candidate's folder: it, or a folder on its path, may have been
 * replaced by a link. Throws FRAME_OUTSIDE.
 */
function isWhatItWas(opened: Stats, { path, within }: Candidate): boolean {
  if (!opened.isFile()) return false;
  if (within === undefined) return true;
  const target = realpathSync.native(path);
  if (!target.startsWith(within + sep)) {
    throw new RxrayError('FRAME_OUTSIDE', 'the file is a symbolic link that leads out of the folder');
  }
  const there = statSync(target);
  return there.ino === opened.ino && there.dev === opened.dev;
}

/** The result is in shared memory, or is the caller's own. */
function process({ segment, from, to, frame }: ProcessTask, notes: Float64Array): Promise<ProcessReply> {
  const steps = unpacked(segment).slice(from, to);
  const work = (): Promise<ProcessReply> => throughSteps(steps, from, frame, notes);
  return steps.every(({ spec }) => spec.retainsNothing === true) ? reusingImageMemory(work) : work();
}

/** Processes the frame with one stage after the other, until one fails or does not get it. `first`: the number of the first. */
async function throughSteps(
  steps: readonly Step[],
  first: number,
  frame: Frame,
  notes: Float64Array,
): Promise<ProcessReply> {
  const reports: StageReport[] = [];
  let made = frame;
  let stopped: Stopped<PlainError> | undefined;
  for (const { spec, isFor } of steps) {
    stopped = heldBack(isFor, made);
    if (stopped !== undefined) break;
    let started = performance.now();
    try {
      // It would be created again, and the thread ended during that.
      if (notes[NOTES.disposed] === 1) throw new Error('the stage has been disposed of');
      const stage = await instanceOf(spec);
      started = performance.now();
      notes[NOTES.stage] = first + reports.length;
      notes[NOTES.since] = monotonicMs();
      const out = checkMade(await stage.process(made), made);
      made = spec.shadow === true ? asShadow(out, spec.id) : out;
      reports.push({ ms: performance.now() - started, bytes: frameBytes(made) });
    } catch (thrown) {
      stopped = { kind: 'failed', error: toPlainError(thrown), ms: performance.now() - started };
      break;
    } finally {
      notes[NOTES.since] = 0;
    }
  }
  return { reports, stopped, output: reports.length === 0 ? undefined : outputOf(made, frame) };
}

function heldBack(isFor: Step['isFor'], frame: Frame): Stopped<PlainError> | undefined {
  try {
    return isFor(frame) ? undefined : { kind: 'excluded' };
  } catch (thrown) {
    return { kind: 'undecided', error: toPlainError(thrown) };
  }
}

/** The differences of a frame from the `given` one, which the pool has. */
function outputOf(made: Frame, given: Frame): StageOutput {
  const { id: _id, origin: _origin, encoded, image, meta, results, ...rest } = made;
  const sameImage = image !== undefined && image === given.image;
  return {
    made: {
      ...rest,
      ...(meta !== given.meta && { meta }),
      ...(results !== given.results && { results }),
      ...(image !== undefined && !sameImage && { image: shareImage(image) }),
    },
    sameFile: encoded !== undefined,
    sameImage,
  };
}

/** A stage of a segment, and its `when:`. */
interface Step {
  readonly spec: StageSpec;
  readonly isFor: (frame: Frame) => boolean;
}

/** By {@link PackedSegment.number}. */
const segments = new Map<number, readonly Step[]>();

function unpacked({ number, bytes }: PackedSegment): readonly Step[] {
  let steps = segments.get(number);
  if (steps === undefined) {
    steps = (deserialize(Buffer.from(bytes)) as StageSpec[]).map((spec) => ({
      spec,
      isFor: spec.when === undefined ? () => true : compileCondition(spec.when),
    }));
    segments.set(number, steps);
  }
  return steps;
}

function instanceOf(spec: StageSpec): Promise<FrameStage> {
  let instance = instances.get(spec.key);
  if (instance === undefined) {
    const disposal = new AbortController();
    instance = { stage: create(spec, disposal.signal), disposal };
    instances.set(spec.key, instance);
    instance.stage.catch(() => instances.delete(spec.key));
  }
  return instance.stage;
}

async function create(spec: StageSpec, signal: AbortSignal): Promise<FrameStage> {
  const plugin = await loadPluginModule(spec.url);
  if (plugin.kind !== 'stage') throw new Error(`${spec.url} exports a ${plugin.kind}, not a stage`);
  const stage = checkInstance(
    'stage',
    plugin.name,
    await plugin.create(spec.settings as never, workerServices(spec, signal)),
  );
  if (!('process' in stage)) {
    throw new RxrayError(
      'CONFIG_PLUGIN_BROKEN',
      `the stage "${plugin.name}" handles batches or streams, which run on the main thread: declare \`runsIn: 'main'\``,
    );
  }
  return stage;
}

function workerServices(spec: StageSpec, signal: AbortSignal): Services {
  return {
    id: spec.id,
    log: workerLog(spec.id),
    baseDir: spec.baseDir,
    stateDir: spec.stateDir,
    signal,
    resolve: (path) => resolve(spec.baseDir, path),
  };
}

/** Worker threads log through the main thread, which owns the log's destination. */
function workerLog(stage: string): Log {
  const post =
    (level: keyof Log) =>
    (fields: object, message: string): void => {
      channel.postMessage({
        kind: 'log',
        level,
        fields: { stage, ...fields },
        message,
      } satisfies ChannelMessage);
    };
  return { debug: post('debug'), info: post('info'), warn: post('warn'), error: post('error') };
}

async function dispose(key: string): Promise<void> {
  const instance = instances.get(key);
  instances.delete(key);
  for (const [number, steps] of segments) {
    if (steps.some(({ spec }) => spec.key === key)) segments.delete(number);
  }
  instance?.disposal.abort();
  await instance?.stage.then((stage) => stage.dispose?.()).catch(() => undefined);
  channel.postMessage({ kind: 'disposed', key } satisfies ChannelMessage);
}

channel.postMessage({ kind: 'ready' } satisfies ChannelMessage);
