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
/** What takes a thread no longer than a message does, as a rule, shares one with others. */
const QUICK_MS = 0.1;
/** Reading larger files is never quick. */
const SMALL_BYTES = 32 * 1024;
/** Stands for the reading of small files where the pace of work is learnt. */
const READING = {};
/** How often it is looked at which stages have been at work for too long. */
const LOOK_MS = 250;
/** Tasks in a message at most. */
const TASKS_PER_MESSAGE = 8;

/** When a thread worked for a stage, and how long, in milliseconds. */
export interface Work {
  /** On the main thread's `performance.now()`. */
  readonly started: number;
  readonly ms: number;
  /** What the frame held then: an image that nobody else wants stays in the thread. */
  readonly bytes: number;
  /** What is held for the stages behind it, which have been done already. */
  readonly aheadBytes: number;
}

/** What a thread has done with a frame, and since when. */
interface Done {
  readonly started: number;
  readonly steps: readonly Step[];
  /** The stage that the second step is of. */
  readonly next: StageSpec | undefined;
}

/** The same beyond what it was asked for. */
interface Ahead extends Done {
  /** The stage that is next. */
  readonly key: string;
}

/** A task, and who waits for its result. */
interface Job {
  readonly task: Task;
  /** Which stage it is for. */
  readonly stage: StageSpec | undefined;
  readonly resolve: (result: TaskResult<Reply>) => void;
  readonly reject: (broken: unknown) => void;
}

/** Jobs that a thread has, what it notes about them, and how to end it. */
interface Underway {
  readonly jobs: readonly Job[];
  readonly notes: Float64Array;
  /** Ends the thread on `abort`; an AbortController for every message costs more. */
  readonly end: EventEmitter;
  /** The job whose stage took too long. */
  late?: Job;
  /** Whether the stage was disposed of meanwhile: nobody waits for its frames any more. */
  disposed?: boolean;
}

/**
 * The worker threads: they read files and run the CPU stages, so that the main thread stays free.
 * Pixels pass between threads in shared memory, without being copied. A thread that has done a stage goes on with the
 * next at once, while the pixels are in its cache; whoever asks for that finds it done. Only the last of them hands its pixels over.
 */
export class WorkerPool {
  readonly threads: number;
  readonly #piscina: Piscina;
  readonly #channel: BroadcastChannel;
  /** Threads that have loaded their program; one that is still loading has no stages and hears nothing. */
  #ready = 0;
  /** What is to be done when a thread has disposed of a stage. */
  readonly #onDisposed = new Map<string, () => void>();
  /** Quick jobs of this turn. */
  #quick: Job[] = [];
  /** How long a thread takes to read a small file, and for a frame, by the stage: moving averages in milliseconds. */
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
      // A thread has stages to dispose of: none ends by itself.
      idleTimeout: Infinity,
      // A thread that sleeps in Atomics.wait would hear nothing on its channel.
      atomics: 'disabled',
      recordTiming: false,
      workerData: { channel } satisfies WorkerData,
    });
    // The task that the thread had in hand is rejected, and costs its frame; a new thread takes its place.
    this.#piscina.on('error', (error: Error) => {
      this.#ready -= 1;
      log.error({}, `a worker thread broke down: ${error.message}`);
    });
  }

  /** Reads a settled file whole and hashes it; null when it changed meanwhile or is gone. */
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

  /** Makes the stage in one thread, to find out whether it can be made at all, and what columns it offers. */
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

  /** What a thread did to make the frame, if one has. */
  workOf(frame: Frame): Work | undefined {
    return this.#works.get(frame);
  }

  /** Once only: who asks again wants it done again. */
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
      // Which stage was it that the thread broke down in?
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
      // Which of them was it that the thread broke down in?
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

  /** Ends the threads in which a stage has been at work for longer than it may: others take their place. */
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
    // What no thread has begun yet ends none.
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

  /** Ends the threads, whatever they are at. */
  async dispose(): Promise<void> {
    clearInterval(this.#watch);
    this.#channel.close();
    await this.#piscina.destroy();
  }
}

/** What the thread is at, by its notes. */
function presentOf({ jobs, notes }: Underway): { job?: Job; stage?: StageSpec | undefined } {
  const job = jobs[notes[NOTES.task] ?? 0];
  return job === undefined ? {} : { job, stage: stageOf(job, notes) };
}

/** The stage that the thread is at, by its notes. */
function stageOf(job: Job, notes: Float64Array): StageSpec | undefined {
  let { stage } = job;
  for (let i = notes[NOTES.stage] ?? 0; i > 0; i -= 1) stage = stage?.next;
  return stage;
}

function lateness(job: Job, notes: Float64Array): RxrayError {
  const { id = '', timeoutMs = 0 } = stageOf(job, notes) ?? {};
  return tookTooLong(id, timeoutMs);
}
