import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
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
  type Batch,
  type CreateReply,
  type Word,
  type Outcome,
  type ProcessReply,
  type ReadReply,
  type Reply,
  type StageSpec,
  type Step,
  type Task,
  type WorkerData,
} from './wire.js';

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
const PARCEL = 8;

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

/** A task, and who waits for its outcome. */
interface Errand {
  readonly task: Task;
  readonly resolve: (outcome: Outcome<Reply>) => void;
  readonly reject: (broken: unknown) => void;
}

/** Errands that a thread has, what it notes about them, and how to end it. */
interface Underway {
  readonly errands: readonly Errand[];
  readonly notes: Float64Array;
  readonly end: AbortController;
  /** The errand whose stage took too long. */
  late?: Errand;
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
  /** Quick errands of this turn. */
  #quick: Errand[] = [];
  /** How long a thread takes to read a small file, and for a frame, by the stage: moving averages in milliseconds. */
  readonly #pace = new WeakMap<object, number>();
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
      const said = (event as { data: Word }).data;
      if (said.kind === 'log') log[said.level](said.fields, said.message);
      else if (said.kind === 'ready') this.#ready += 1;
      else if (said.kind === 'disposed') this.#onDisposed.get(said.key)?.();
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
    const { outcome, ms } = step;
    if (!outcome.ok) throw fromPlainError(outcome.error);
    const { frame: made, sameImage, bytes } = outcome.value;
    const out = {
      ...made,
      // The thread has another view of the same memory.
      ...(made.encoded !== undefined && frame.encoded !== undefined && { encoded: frame.encoded }),
      ...(sameImage && frame.image !== undefined && { image: frame.image }),
    };
    if (!sameImage) countShared(imageBytes(made));
    const aheadBytes = later.reduce(
      (sum, { outcome: its }) => sum + (its.ok ? imageBytes(its.value.frame) : 0),
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
        { kind: 'process', stage, frame },
        mayBeQuick && this.#isQuick(stage),
      );
    } catch (broken) {
      // Which stage was it that the thread broke down in?
      if (next === undefined || (broken instanceof RxrayError && broken.component === stage.id)) throw broken;
      return this.#work({ ...stage, next: undefined }, frame, false);
    }
    const worked = steps.reduce((sum, { ms }) => sum + ms, 0);
    if (steps.every(({ outcome }) => outcome.ok)) this.#learn(stage, worked);
    return { started: performance.now() - worked, steps, next };
  }

  #isQuick(work: StageSpec | typeof READING): boolean {
    return (this.#pace.get(work) ?? Infinity) < QUICK_MS;
  }

  #learn(work: StageSpec | typeof READING, ms: number): void {
    const pace = this.#pace.get(work) ?? ms;
    this.#pace.set(work, pace + (ms - pace) / 8);
  }

  async #run<T extends Reply>(task: Task, quick = false): Promise<T> {
    const outcome = await new Promise<Outcome<Reply>>((resolve, reject) => {
      const errand = { task, resolve, reject };
      if (!quick) void this.#send([errand]);
      else if (this.#quick.push(errand) === 1) setImmediate(() => this.#sendQuick());
    });
    if (!outcome.ok) throw fromPlainError(outcome.error);
    return outcome.value as T;
  }

  #sendQuick(): void {
    const errands = this.#quick;
    this.#quick = [];
    for (let i = 0; i < errands.length; i += PARCEL) void this.#send(errands.slice(i, i + PARCEL));
  }

  async #send(errands: readonly Errand[]): Promise<void> {
    let outcomes: readonly Outcome<Reply>[];
    const notes = new Float64Array(new SharedArrayBuffer(3 * Float64Array.BYTES_PER_ELEMENT));
    const underway: Underway = { errands, notes, end: new AbortController() };
    this.#underway.add(underway);
    try {
      const batch: Batch = { tasks: errands.map(({ task }) => task), notes };
      outcomes = (await this.#piscina.run(batch, {
        signal: underway.end.signal,
      })) as readonly Outcome<Reply>[];
    } catch (broken) {
      const { late } = underway;
      if (late !== undefined) {
        late.reject(lateness(late, notes));
        for (const errand of errands) if (errand !== late) void this.#send([errand]);
        return;
      }
      // Which of them was it that the thread broke down in?
      if (underway.disposed === true) for (const errand of errands) errand.reject(broken);
      else if (errands.length === 1) errands[0]?.reject(broken);
      else for (const errand of errands) void this.#send([errand]);
      return;
    } finally {
      this.#underway.delete(underway);
    }
    errands.forEach(({ resolve, reject }, i) => {
      const outcome = outcomes[i];
      if (outcome === undefined) reject(new Error('a worker thread gave no answer'));
      else resolve(outcome);
    });
  }

  /** Ends the threads in which a stage has been at work for longer than it may: others take their place. */
  #endLate(): void {
    for (const underway of this.#underway) {
      const since = underway.notes[NOTES.since] ?? 0;
      const { errand, stage } = presentOf(underway);
      if (since === 0 || errand === undefined || stage?.timeoutMs === undefined) continue;
      if (Date.now() - since <= stage.timeoutMs) continue;
      this.log.error(
        { stage: stage.id },
        `the stage took longer than ${String(stage.timeoutMs)} ms: its worker thread is ended, and another takes its place`,
      );
      underway.late = errand;
      this.#end(underway);
    }
  }

  #end({ end, notes }: Underway): void {
    // What no thread has begun yet ends none.
    if ((notes[NOTES.since] ?? 0) > 0) this.#ready -= 1;
    end.abort();
  }

  /** Aborts the signal of the stage in all threads. */
  abort(key: string): void {
    this.#channel.postMessage({ kind: 'abort', key } satisfies Word);
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
      this.#channel.postMessage({ kind: 'dispose', key } satisfies Word);
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
function presentOf({ errands, notes }: Underway): { errand?: Errand; stage?: StageSpec | undefined } {
  const errand = errands[notes[NOTES.task] ?? 0];
  return errand === undefined ? {} : { errand, stage: stageOf(errand, notes) };
}

/** The stage that the thread is at, by its notes. */
function stageOf({ task }: Errand, notes: Float64Array): StageSpec | undefined {
  let stage = task.kind === 'process' ? task.stage : undefined;
  for (let i = notes[NOTES.stage] ?? 0; i > 0; i -= 1) stage = stage?.next;
  return stage;
}

function lateness(errand: Errand, notes: Float64Array): RxrayError {
  const { id = '', timeoutMs = 0 } = stageOf(errand, notes) ?? {};
  return tookTooLong(id, timeoutMs);
}
