import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { serialize } from 'node:v8';
import { BroadcastChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { RxrayError } from '../errors.js';
import { imageBytes, type Frame } from '../frame.js';
import { tookTooLong } from '../time-limit.js';
import type { Candidate, Column, Log } from '../plugin.js';
import { countShared } from './shared-memory.js';
import {
  NOTES,
  fromPlainError,
  type TaskBatch,
  type CreateReply,
  type ChannelMessage,
  type TaskResult,
  type PackedSpec,
  type ProcessReply,
  type ReadReply,
  type Reply,
  type StageSpec,
  type Step,
  type Task,
  type WorkerData,
} from './protocol.js';

/** How long worker threads may take to dispose of their stages before they are ended. */
const DISPOSE_TIMEOUT_MS = 2000;
/** Tasks that usually take no longer than sending a message share a message. */
const QUICK_MS = 0.1;
/** Reading larger files is never quick. */
const SMALL_BYTES = 32 * 1024;
/** The key for reading small files in the table of durations. */
const READING = {};
/** How often time limits of stages are checked. */
const LOOK_MS = 250;
/** Maximum number of tasks in a message. */
const TASKS_PER_MESSAGE = 8;

/** When a thread worked for a stage, and how long, in milliseconds. */
export interface Work {
  /** On the main thread's `performance.now()`. */
  readonly started: number;
  readonly ms: number;
  /** The frame's memory in the thread: an image that is not needed elsewhere stays there. */
  readonly bytes: number;
  /** Memory held for stages after it that have been done already. */
  readonly aheadBytes: number;
}

/** The work of a thread for a frame, and its start. */
interface Done {
  readonly started: number;
  readonly steps: readonly Step[];
  /** The stage that the second step is of. */
  readonly next: StageSpec | undefined;
}

/** Work done beyond the requested stage. */
interface Ahead extends Done {
  /** The stage that is next. */
  readonly key: string;
}

/** A task and the promise of its caller. */
interface Job {
  readonly task: Task;
  /** Which stage it is for. */
  readonly stage: StageSpec | undefined;
  readonly resolve: (result: TaskResult<Reply>) => void;
  readonly reject: (broken: unknown) => void;
}

/** The jobs of a thread, its notes on them, and how to end it. */
interface Underway {
  readonly jobs: readonly Job[];
  readonly notes: Float64Array;
  /** Ends the thread on `abort`; an AbortController for every message costs more. */
  readonly end: EventEmitter;
  /** The job whose stage took too long. */
  late?: Job;
  /** Whether the stage was disposed of meanwhile, so that its frames are not needed. */
  disposed?: boolean;
}

/**
 * The worker threads: they read files and run the CPU stages, so that the main thread stays free. Pixels pass between
 * threads in shared memory, without being copied. A thread that has done a stage continues with the next at once, while
 * the pixels are in its cache; a later request for that stage finds it done. Only the last of them returns its pixels.
 */
export class WorkerPool {
  readonly threads: number;
  readonly #piscina: Piscina;
  readonly #channel: BroadcastChannel;
  /** Number of threads that have loaded their program; others have no stages and receive no messages. */
  #ready = 0;
  /** Called when a thread has disposed of a stage. */
  readonly #onDisposed = new Map<string, () => void>();
  /** Quick jobs of this turn. */
  #quick: Job[] = [];
  /** Durations of reading a small file, and of each stage per frame: moving averages in milliseconds. */
  readonly #pace = new WeakMap<object, number>();
  readonly #packed = new WeakMap<StageSpec, PackedSpec>();
  /** Of what has been packed. */
  #count = 0;
  /** Notes of threads that have answered, for the next. */
  readonly #notes: Float64Array[] = [];
  readonly #underway = new Set<Underway>();
  readonly #watch: NodeJS.Timeout;
  readonly #ahead = new WeakMap<Frame, Ahead>();
  readonly #works = new WeakMap<Frame, Work>();

  constructor(
    private readonly log: Log,
    threads = availableParallelism(),
  ) {
    this.threads = threads;
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
      filename: new URL(`./worker${extname(import.meta.url)}`, import.meta.url).href,
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
    const reply = await this.#run<ReadReply>(
      { kind: 'read', candidate, maxBytes },
      isSmall && this.#isQuick(READING),
    );
    if (isSmall && reply !== null) this.#learn(READING, reply.ms);
    countShared(reply?.encoded.byteLength ?? 0);
    return reply;
  }

  /** Creates the stage in one thread, to check its settings and to get its columns. */
  async create(stage: StageSpec): Promise<readonly Column[]> {
    return (await this.#run<CreateReply>({ kind: 'create', stage })).columns;
  }

  async process(stage: StageSpec, frame: Frame): Promise<Frame> {
    const {
      started,
      steps: [step, ...later],
      next,
    } = this.#takeAhead(stage, frame) ?? (await this.#work(stage, frame));
    if (step === undefined) throw new Error('a worker thread gave no answer');
    const { result, ms } = step;
    if (!result.ok) throw fromPlainError(result.error);
    const { made, sameFile, sameImage, bytes } = result.value;
    const { id, origin, meta, results } = frame;
    const out: Frame = {
      ...{ id, origin, meta, results },
      ...made,
      ...(sameFile && frame.encoded !== undefined && { encoded: frame.encoded }),
      ...(sameImage && frame.image !== undefined && { image: frame.image }),
    };
    if (!sameImage) countShared(imageBytes(made));
    const aheadBytes = later.reduce(
      (sum, { result: its }) => sum + (its.ok ? imageBytes(its.value.made) : 0),
      0,
    );
    this.#works.set(out, { started, ms, bytes, aheadBytes });
    if (next !== undefined && later.length > 0) {
      this.#ahead.set(out, { key: next.key, started: started + ms, steps: later, next: next.next });
    }
    return out;
  }

  /** The work of a thread for the frame, if there is any. */
  workOf(frame: Frame): Work | undefined {
    return this.#works.get(frame);
  }

  /** Only once: a second request does the work again. */
  #takeAhead({ key }: StageSpec, frame: Frame): Ahead | undefined {
    const ahead = this.#ahead.get(frame);
    this.#ahead.delete(frame);
    return ahead?.key === key ? ahead : undefined;
  }

  async #work(stage: StageSpec, frame: Frame, mayBeQuick = true): Promise<Done> {
    const { next } = stage;
    let steps: ProcessReply;
    try {
      steps = await this.#run<ProcessReply>(
        { kind: 'process', stage: this.#packedOf(stage), frame },
        mayBeQuick && this.#isQuick(stage),
        stage,
      );
    } catch (broken) {
      // Find the stage in which the thread broke down.
      if (next === undefined || (broken instanceof RxrayError && broken.component === stage.id)) throw broken;
      return this.#work({ ...stage, next: undefined }, frame, false);
    }
    const worked = steps.reduce((sum, { ms }) => sum + ms, 0);
    if (steps.every(({ result }) => result.ok)) this.#learn(stage, worked);
    return { started: performance.now() - worked, steps, next };
  }

  #isQuick(work: StageSpec | typeof READING): boolean {
    return (this.#pace.get(work) ?? Infinity) < QUICK_MS;
  }

  #learn(work: StageSpec | typeof READING, ms: number): void {
    const pace = this.#pace.get(work) ?? ms;
    this.#pace.set(work, pace + (ms - pace) / 8);
  }

  #packedOf(stage: StageSpec): PackedSpec {
    let packed = this.#packed.get(stage);
    if (packed === undefined) {
      const plain = serialize(stage);
      const bytes = new Uint8Array(new SharedArrayBuffer(plain.length));
      bytes.set(plain);
      packed = { number: (this.#count += 1), bytes };
      this.#packed.set(stage, packed);
    }
    return packed;
  }

  async #run<T extends Reply>(task: Task, quick = false, stage?: StageSpec): Promise<T> {
    const result = await new Promise<TaskResult<Reply>>((resolve, reject) => {
      const job = { task, stage, resolve, reject };
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
      this.#notes.pop() ?? new Float64Array(new SharedArrayBuffer(3 * Float64Array.BYTES_PER_ELEMENT));
    const underway: Underway = { jobs, notes, end: new EventEmitter() };
    this.#underway.add(underway);
    try {
      const batch: TaskBatch = { tasks: jobs.map(({ task }) => task), notes };
      results = (await this.#piscina.run(batch, {
        signal: underway.end,
      })) as readonly TaskResult<Reply>[];
    } catch (broken) {
      const { late } = underway;
      if (late !== undefined) {
        late.reject(lateness(late, notes));
        for (const job of jobs) if (job !== late) void this.#send([job]);
        return;
      }
      // Find the job in which the thread broke down.
      if (underway.disposed === true) for (const job of jobs) job.reject(broken);
      else if (jobs.length === 1) jobs[0]?.reject(broken);
      else for (const job of jobs) void this.#send([job]);
      return;
    } finally {
      this.#underway.delete(underway);
    }
    this.#notes.push(notes.fill(0));
    jobs.forEach(({ resolve, reject }, i) => {
      const result = results[i];
      if (result === undefined) reject(new Error('a worker thread gave no answer'));
      else resolve(result);
    });
  }

  /** Ends threads in which a stage exceeds its time limit; others replace them. */
  #endLate(): void {
    for (const underway of this.#underway) {
      const since = underway.notes[NOTES.since] ?? 0;
      const { job, stage } = presentOf(underway);
      if (since === 0 || job === undefined || stage?.timeoutMs === undefined) continue;
      if (Date.now() - since <= stage.timeoutMs) continue;
      this.log.error(
        { stage: stage.id },
        `the stage took longer than ${String(stage.timeoutMs)} ms: its worker thread is ended, and another takes its place`,
      );
      underway.late = job;
      this.#end(underway);
    }
  }

  #end({ end, notes }: Underway): void {
    // A batch that has not started needs no thread to be ended.
    if ((notes[NOTES.since] ?? 0) > 0) this.#ready -= 1;
    end.emit('abort');
  }

  /** Aborts the signal of the stage in all threads. */
  abort(key: string): void {
    this.#channel.postMessage({ kind: 'abort', key } satisfies ChannelMessage);
  }

  /** Disposes of the stage in all threads; a thread that is still at work in it is ended then. */
  async disposeStage(key: string): Promise<void> {
    await this.#disposeInThreads(key);
    for (const underway of this.#underway) {
      if (presentOf(underway).stage?.key !== key) continue;
      underway.disposed = true;
      this.#end(underway);
    }
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
    await this.#piscina.destroy();
  }
}

/** The present job and stage of the thread, by its notes. */
function presentOf({ jobs, notes }: Underway): { job?: Job; stage?: StageSpec | undefined } {
  const job = jobs[notes[NOTES.task] ?? 0];
  return job === undefined ? {} : { job, stage: stageOf(job, notes) };
}

/** The present stage of the thread, by its notes. */
function stageOf(job: Job, notes: Float64Array): StageSpec | undefined {
  let { stage } = job;
  for (let i = notes[NOTES.stage] ?? 0; i > 0; i -= 1) stage = stage?.next;
  return stage;
}

function lateness(job: Job, notes: Float64Array): RxrayError {
  const { id = '', timeoutMs = 0 } = stageOf(job, notes) ?? {};
  return tookTooLong(id, timeoutMs);
}
