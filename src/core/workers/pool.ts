import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { BroadcastChannel, type Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { imageBytes, type Frame } from '../frame.js';
import { messageOf, RxrayError } from '../errors.js';
import { tookTooLong } from '../time-limit.js';
import type { Candidate, Column, Log } from '../plugin.js';
import { movingAverage, QUICK_MS, type Segment } from './segment.js';
import { countShared } from './shared-memory.js';
import {
  NOTES,
  fromPlainError,
  monotonicMs,
  type TaskBatch,
  type CreateReply,
  type ChannelMessage,
  type TaskResult,
  type ProcessReply,
  type HashReply,
  type ReadReply,
  type Reply,
  type StageOutput,
  type StageReport,
  type StageSpec,
  type Stopped,
  type Task,
  type WorkerData,
} from './protocol.js';

/** How long worker threads may take to dispose of their stages before they are ended. */
const DISPOSE_TIMEOUT_MS = 2000;
/** How long threads may take to end: one that is inside native code does not. */
const END_MS = 5000;
/** How much longer than its `timeoutMs` a stage in native code may take before its thread is ended. */
const RETURN_MS = 5000;
/** Maximum number of threads in which a file is read or hashed. */
const READ_ATTEMPTS = 3;
/** Reading larger files is never quick. */
const SMALL_BYTES = 32 * 1024;
/** How often time limits of stages are checked. */
const LOOK_MS = 250;
/** Maximum number of tasks in a message. */
const TASKS_PER_MESSAGE = 8;

/** The result of worker threads for a frame. */
export interface Worked {
  /** When the first stage began, on the main thread's `performance.now()`. */
  readonly started: number;
  /** Of the completed stages, in order. */
  readonly reports: readonly StageReport[];
  /** The output of the last of them, with its pixels. */
  readonly frame: Frame;
  /** Why the next stage did not run. Absent: all are complete. */
  readonly stopped?: Stopped<Error> | undefined;
}

/** The stages `from` to `to` (exclusive) of a segment, and the frame for them. */
interface Work {
  readonly segment: Segment;
  readonly frame: Frame;
  readonly from: number;
  readonly to: number;
  /** Whether it shares a message with other tasks. */
  readonly isQuick: boolean;
  /** Whether it is one stage, tried again because its thread broke down. */
  readonly isRetry: boolean;
}

/** A thread broke down, or was ended. */
class Breakdown extends Error {
  constructor(
    override readonly cause: Error,
    /** Why it was ended: the stage took too long, or was disposed of, so that the frame is not needed. */
    readonly why?: 'late' | 'disposed',
    /** The number of the stage that was running. */
    readonly stage?: number,
  ) {
    super(cause.message, { cause });
  }
}

/** A task and the promise of its caller. */
interface Job {
  readonly task: Task;
  /** The stages that it is for. */
  readonly segment: Segment | undefined;
  readonly resolve: (result: TaskResult<Reply>) => void;
  readonly reject: (breakdown: Breakdown) => void;
}

/** The jobs of a thread, its notes on them, and how to end it. */
interface Underway {
  readonly jobs: readonly Job[];
  readonly notes: Float64Array;
  /** Ends the thread on `abort`; an AbortController for every message costs more. */
  readonly end: EventEmitter;
  /** The job whose stage took too long, and its error. */
  late?: { readonly job: Job; readonly breakdown: Breakdown };
  /** Whether the stage was disposed of meanwhile. */
  isDisposed?: boolean;
}

/**
 * The worker threads: they read files and run the CPU stages, so that the main thread stays free. Pixels pass between
 * threads in shared memory, without being copied. A thread processes a whole segment in one task, while the pixels are in its
 * cache, and returns those of its last stage.
 */
export class WorkerPool {
  readonly #piscina: Piscina;
  readonly #channel: BroadcastChannel;
  /** Number of threads that have loaded their program; others have no stages and receive no messages. */
  #ready = 0;
  /** Called when a thread has disposed of a stage. */
  readonly #onDisposed = new Map<string, () => void>();
  /** Quick jobs of this turn. */
  #quick: Job[] = [];
  /** Duration of reading a small file: a moving average in milliseconds; unknown at first. */
  #readMs = Infinity;
  /** Notes of threads that have answered, for the next. */
  readonly #notes: Float64Array[] = [];
  readonly #underway = new Set<Underway>();
  /** Threads that were ended and have not exited: they are inside native code, and each uses a processor. */
  readonly #ending = new Set<Worker>();
  readonly #watch: NodeJS.Timeout;

  constructor(
    private readonly log: Log,
    readonly threads = availableParallelism(),
  ) {
    this.#watch = setInterval(() => {
      this.#endLate();
    }, LOOK_MS);
    this.#watch.unref();
    const channel = `rxray:${randomUUID()}`;
    this.#channel = new BroadcastChannel(channel);
    this.#channel.unref();
    this.#channel.onmessage = (event: unknown): void => {
      const message = (event as { data: ChannelMessage }).data;
      if (message.kind === 'log') log[message.level](message.fields, message.message);
      else if (message.kind === 'ready') this.#ready += 1;
      else if (message.kind === 'disposed') this.#onDisposed.get(message.key)?.();
    };
    this.#piscina = new Piscina({
      filename: new URL('./worker-entry.cjs', import.meta.url).href,
      minThreads: 1,
      maxThreads: threads,
      // Threads have stages to dispose of, so none ends by itself.
      idleTimeout: Infinity,
      // A thread in Atomics.wait would receive no messages on its channel.
      atomics: 'disabled',
      recordTiming: false,
      workerData: { channel } satisfies WorkerData,
    });
    // The thread's task is rejected, which fails its frame; a new thread replaces it.
    this.#piscina.on('error', (error: Error) => {
      this.#ready -= 1;
      log.error({}, `a worker thread broke down: ${error.message}`);
    });
  }

  /** Reads a complete file and hashes it; null if it changed meanwhile or is gone. */
  async read(candidate: Candidate, maxBytes: number): Promise<ReadReply> {
    const isSmall = candidate.size <= SMALL_BYTES;
    const reply = await this.#runHarmless<ReadReply>(
      { kind: 'read', candidate, maxBytes },
      isSmall && this.#readMs < QUICK_MS,
    );
    if (isSmall && reply !== null) this.#readMs = movingAverage(this.#readMs, reply.ms);
    countShared(reply?.encoded.byteLength ?? 0);
    return reply;
  }

  /** Hashes a complete file; null if it changed meanwhile or is gone. Small files share messages. */
  hash(candidate: Candidate, maxBytes: number): Promise<HashReply> {
    return this.#runHarmless<HashReply>({ kind: 'hash', candidate, maxBytes }, candidate.size <= SMALL_BYTES);
  }

  /** Creates the stage in one thread, to check its settings and to get its columns. */
  async create(stage: StageSpec): Promise<readonly Column[]> {
    return (await this.#run<CreateReply>({ kind: 'create', stage })).columns;
  }

  /** The frame as the last stage of the segment makes it. Rejects with the error of the stage that fails. */
  async make(segment: Segment, frame: Frame): Promise<Frame> {
    const { frame: made, stopped } = await this.process(segment, frame);
    if (stopped !== undefined && 'error' in stopped) throw stopped.error;
    return made;
  }

  /** Runs the stages `from` to `to` (exclusive) of the segment, until one fails or excludes the frame. Never rejects. */
  process(segment: Segment, frame: Frame, from = 0, to = segment.stages.length): Promise<Worked> {
    const isQuick = segment.isQuick(from, to);
    return this.#process({ segment, frame, from, to, isQuick, isRetry: false });
  }

  async #process(work: Work): Promise<Worked> {
    const { segment, frame, from, to, isQuick } = work;
    const sent = performance.now();
    let reply: ProcessReply;
    try {
      const task: Task = { kind: 'process', segment: segment.packed, from, to, frame };
      reply = await this.#run<ProcessReply>(task, isQuick, segment);
    } catch (thrown) {
      if (thrown instanceof Breakdown) return this.#withoutThread(work, thrown, sent);
      return failed(frame, thrown as Error, sent);
    }
    const { reports, output, stopped } = reply;
    segment.learn(from, reports);
    if (output?.sameImage === false) countShared(imageBytes(output.made));
    const ms = reports.reduce((sum, report) => sum + report.ms, stopped?.kind === 'failed' ? stopped.ms : 0);
    return {
      started: performance.now() - ms,
      reports,
      frame: output === undefined ? frame : joined(frame, output),
      stopped:
        stopped === undefined || stopped.kind === 'excluded'
          ? stopped
          : { ...stopped, error: fromPlainError(stopped.error) },
    };
  }

  /** The frames between the stages are lost with the thread: runs the stages again, the one in which it ended alone. */
  async #withoutThread(
    work: Work,
    { cause, why, stage = work.from }: Breakdown,
    sent: number,
  ): Promise<Worked> {
    const { segment, frame, from, to, isRetry } = work;
    if (why === 'disposed' || isRetry || (why === 'late' && to - from === 1))
      return failed(frame, cause, sent);
    let worked: Worked = { started: sent, reports: [], frame };
    const parts = [
      { from, to: stage, isRetry: false },
      { from: stage, to: stage + 1, isRetry: true },
      { from: stage + 1, to, isRetry: false },
    ];
    for (const part of parts) {
      if (part.from === part.to) continue;
      const next =
        why === 'late' && part.isRetry
          ? failed(worked.frame, cause, performance.now() - (segment.stages[stage]?.timeoutMs ?? 0))
          : await this.#process({ segment, frame: worked.frame, ...part, isQuick: false });
      const { started } = part.from === from ? next : worked;
      worked = { ...next, started, reports: [...worked.reports, ...next.reports] };
      if (worked.stopped !== undefined) break;
    }
    return worked;
  }

  /** Runs a task that does not break its thread: if it breaks, an earlier film is the cause, and another thread takes over. */
  async #runHarmless<T extends ReadReply | HashReply>(task: Task, quick: boolean): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#run<T>(task, quick);
      } catch (error) {
        // Without a thread that has loaded its program, none may ever do.
        if (!(error instanceof Breakdown) || attempt === READ_ATTEMPTS || this.#ready === 0) throw error;
      }
    }
  }

  async #run<T extends Reply>(task: Task, quick = false, segment?: Segment): Promise<T> {
    const result = await new Promise<TaskResult<Reply>>((resolve, reject) => {
      const job = { task, segment, resolve, reject };
      if (!quick) void this.#send([job]);
      else if (this.#quick.push(job) === 1) setImmediate(() => this.#sendQuick());
    });
    if (!result.ok) throw fromPlainError(result.error);
    return result.value as T;
  }

  #sendQuick(): void {
    const jobs = this.#quick;
    this.#quick = [];
    for (let i = 0; i < jobs.length; i += TASKS_PER_MESSAGE)
      void this.#send(jobs.slice(i, i + TASKS_PER_MESSAGE));
  }

  async #send(jobs: readonly Job[]): Promise<void> {
    let results: readonly TaskResult<Reply>[];
    const notes =
      this.#notes.pop() ?? new Float64Array(new SharedArrayBuffer(4 * Float64Array.BYTES_PER_ELEMENT));
    const underway: Underway = { jobs, notes, end: new EventEmitter() };
    this.#underway.add(underway);
    try {
      const batch: TaskBatch = { tasks: jobs.map(({ task }) => task), notes };
      results = (await this.#piscina.run(batch, {
        signal: underway.end,
      })) as readonly TaskResult<Reply>[];
    } catch (thrown) {
      const { late, isDisposed = false } = underway;
      const broken = thrown instanceof Error ? thrown : new Error(messageOf(thrown));
      for (const job of jobs) {
        if (job === late?.job) job.reject(late.breakdown);
        // Find the job in which the thread broke down.
        else if (!isDisposed && (late !== undefined || jobs.length > 1)) void this.#send([job]);
        else job.reject(new Breakdown(broken, isDisposed ? 'disposed' : undefined, stageOf(notes)));
      }
      return;
    } finally {
      this.#underway.delete(underway);
    }
    this.#notes.push(notes.fill(0));
    jobs.forEach(({ resolve, reject }, i) => {
      const result = results[i];
      if (result === undefined) reject(new Breakdown(new Error('a worker thread gave no answer')));
      else resolve(result);
    });
  }

  /** Ends threads in which a stage exceeds its time limit; others replace them. */
  #endLate(): void {
    for (const underway of this.#underway) {
      const since = underway.notes[NOTES.since] ?? 0;
      const { job, stage } = presentOf(underway);
      if (since === 0 || job === undefined || stage?.timeoutMs === undefined) continue;
      if (monotonicMs() - since <= stage.timeoutMs + (stage.runsNativeCode === true ? RETURN_MS : 0))
        continue;
      this.log.error(
        { stage: stage.id },
        `the stage took longer than ${String(stage.timeoutMs)} ms: its worker thread is ended, and another takes its place`,
      );
      underway.late = { job, breakdown: this.#lateness(stage, underway.notes) };
      this.#end(underway);
    }
  }

  #end({ end, notes }: Underway): void {
    // A batch that has not started needs no thread to be ended.
    if ((notes[NOTES.since] ?? 0) > 0) this.#ready -= 1;
    const before = this.#piscina.threads;
    end.emit('abort');
    const left = new Set(this.#piscina.threads);
    for (const thread of before) if (!left.has(thread)) this.#awaitEnd(thread);
  }

  #awaitEnd(thread: Worker): void {
    if (this.#ending.size === 0) process.once('exit', killProcess);
    this.#ending.add(thread);
    thread.once('exit', () => {
      this.#ending.delete(thread);
      if (this.#ending.size === 0) process.off('exit', killProcess);
    });
  }

  /** The film fails; but when threads that cannot be ended have taken all processors, the run ends. */
  #lateness({ id, timeoutMs = 0 }: StageSpec, notes: Float64Array): Breakdown {
    const stuck = this.#ending.size;
    if (stuck < this.threads) return new Breakdown(tookTooLong(id, timeoutMs), 'late', stageOf(notes));
    const threads = stuck === 1 ? 'one thread' : `${String(stuck)} threads`;
    const message = `the stage has not answered for ${String(timeoutMs)} ms (\`timeoutMs\`), and ${threads} before cannot be ended`;
    const error = new RxrayError('RUN_STOPPED', message, { component: id });
    return new Breakdown(error, 'late', stageOf(notes));
  }

  /** Aborts the signal of the stage in all threads. */
  abort(key: string): void {
    this.#channel.postMessage({ kind: 'abort', key } satisfies ChannelMessage);
  }

  /** Disposes of the stage in all threads; a thread that is still at work in it is ended then. */
  async disposeStage(key: string): Promise<void> {
    const isFor = ({ segment }: Job): boolean => segment?.stages.some((stage) => stage.key === key) === true;
    const concerned = [...this.#underway].filter(({ jobs }) => jobs.some(isFor));
    for (const underway of concerned) {
      // Tasks of other segments may share the message.
      if (!underway.jobs.every(isFor)) continue;
      underway.isDisposed = true;
      underway.notes[NOTES.disposed] = 1;
    }
    await this.#disposeInThreads(key);
    // A thread that is in no stage, but perhaps loads a model, stops by its note.
    await this.#answered(concerned, RETURN_MS, ({ notes }) => (notes[NOTES.since] ?? 0) === 0);
    const native = concerned.filter((underway) => presentOf(underway).stage?.runsNativeCode === true);
    await this.#answered(native, RETURN_MS);
    for (const underway of concerned) {
      if (!this.#underway.has(underway) || presentOf(underway).stage?.key !== key) continue;
      underway.isDisposed = true;
      this.#end(underway);
    }
  }

  /** Waits for the answers of threads, of those that `isFor`, at most `ms` milliseconds. */
  async #answered(
    all: Iterable<Underway>,
    ms: number,
    isFor: (underway: Underway) => boolean = () => true,
  ): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end && [...all].some((each) => this.#underway.has(each) && isFor(each)))
      await delay(10);
  }

  #disposeInThreads(key: string): Promise<void> {
    let left = this.#ready;
    if (left === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#onDisposed.delete(key);
        resolve();
      };
      const timer = setTimeout(done, DISPOSE_TIMEOUT_MS);
      this.#onDisposed.set(key, () => {
        left -= 1;
        if (left === 0) done();
      });
      this.#channel.postMessage({ kind: 'dispose', key } satisfies ChannelMessage);
    });
  }

  /** Ends the threads, also during work. */
  async dispose(): Promise<void> {
    clearInterval(this.#watch);
    this.#channel.close();
    for (const { notes } of this.#underway) notes[NOTES.disposed] = 1;
    await this.#answered(this.#underway, DISPOSE_TIMEOUT_MS);
    for (const thread of this.#piscina.threads) this.#awaitEnd(thread);
    // Also of those that were ended before: at the exit of the process they would be killed with it.
    const ended = Promise.all([...this.#ending].map((thread) => once(thread, 'exit')));
    await Promise.race([
      Promise.all([this.#piscina.destroy(), ended]),
      delay(END_MS, undefined, { ref: false }),
    ]);
    // Piscina refers to threads that it ends.
    for (const thread of this.#ending) thread.unref();
  }
}

/** Node waits for its threads when it exits: one that is inside native code would keep the process from ending. */
function killProcess(): void {
  process.kill(process.pid, 'SIGKILL');
}

/** The present job and stage of the thread, by its notes. */
function presentOf({ jobs, notes }: Underway): { job?: Job; stage?: StageSpec | undefined } {
  const job = jobs[notes[NOTES.task] ?? 0];
  return job === undefined ? {} : { job, stage: job.segment?.stages[notes[NOTES.stage] ?? 0] };
}

/** The number of the stage that the thread is in, by its notes. */
function stageOf(notes: Float64Array): number | undefined {
  return (notes[NOTES.since] ?? 0) > 0 ? notes[NOTES.stage] : undefined;
}

/** The result for a frame with which the first stage has failed. */
function failed(frame: Frame, error: Error, started: number): Worked {
  return {
    started,
    reports: [],
    frame,
    stopped: { kind: 'failed', error, ms: performance.now() - started },
  };
}

/** The frame that stages made of the given one. */
function joined(given: Frame, { made, sameFile, sameImage }: StageOutput): Frame {
  const { id, origin, meta, results } = given;
  return {
    ...{ id, origin, meta, results },
    ...made,
    ...(sameFile && given.encoded !== undefined && { encoded: given.encoded }),
    ...(sameImage && given.image !== undefined && { image: given.image }),
  };
}
