import { types } from 'node:util';
import { RxrayError, messageOf, type ErrorCode } from '../errors.js';
import type { Frame, Image, Samples } from '../frame.js';
import type { Candidate, Column, Log } from '../plugin.js';
import { countShared } from './shared-memory.js';

/** A task for a worker thread. */
export type Task =
  | { readonly kind: 'read'; readonly candidate: Candidate; readonly maxBytes: number }
  | { readonly kind: 'hash'; readonly candidate: Candidate; readonly maxBytes: number }
  | { readonly kind: 'create'; readonly stage: StageSpec }
  | ProcessTask;

/** Some or all stages of a segment, one behind the other, for one frame. */
export interface ProcessTask {
  readonly kind: 'process';
  readonly segment: PackedSegment;
  /** Numbers of the first stage and of the one after the last. */
  readonly from: number;
  readonly to: number;
  readonly frame: Frame;
}

/** Several tasks for one thread, and the memory for its notes on its progress: see {@link NOTES}. */
export interface TaskBatch {
  readonly tasks: readonly Task[];
  readonly notes: Float64Array;
}

/**
 * Indices in a batch's notes: start of the stage's work (by {@link monotonicMs}; 0: not in a stage), number of the
 * task, number of the stage in its segment; and from the pool: 1 when a stage of the tasks has been disposed of.
 */
export const NOTES = { since: 0, task: 1, stage: 2, disposed: 3 } as const;

/** Milliseconds on a clock that all threads share and that nobody sets: `performance.timeOrigin` is of the wall clock. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** The reply to a task. */
export type Reply = ReadReply | HashReply | CreateReply | ProcessReply;

/** The start data of every worker thread. */
export interface WorkerData {
  /** The name of the broadcast channel of its pool. */
  readonly channel: string;
}

/**
 * A message on that channel. All receive all messages: the pool sends `abort` and `dispose` to its threads, threads
 * send the others to the pool, and each ignores those for the other side.
 */
export type ChannelMessage =
  | { readonly kind: 'abort' | 'dispose' | 'disposed'; readonly key: string }
  | { readonly kind: 'log'; readonly level: keyof Log; readonly fields: object; readonly message: string }
  | { readonly kind: 'ready' };

/** What a worker needs to create a stage. */
export interface StageSpec {
  /** Unique per graph and entry: two graphs in one process never share an instance. */
  readonly key: string;
  readonly id: string;
  readonly url: string;
  readonly settings: unknown;
  readonly baseDir: string;
  readonly stateDir: string;
  /** Time limit for one frame, in milliseconds. Absent: none. */
  readonly timeoutMs?: number;
  /** Whether it keeps no image: the thread uses the memory again. */
  readonly retainsNothing?: boolean;
  /** Whether ending its thread while it works may abort the process. */
  readonly runsNativeCode?: boolean;
  /** A frame for which this CEL condition is false does not reach the stage. */
  readonly when?: string | undefined;
  /** Whether its results are left out of the verdict. */
  readonly shadow?: boolean | undefined;
}

/** The stages of a segment as they are sent with every frame: a thread unpacks them once. */
export interface PackedSegment {
  /** Unique per process. */
  readonly number: number;
  /** An array of {@link StageSpec} by `v8.serialize`, in shared memory. */
  readonly bytes: Uint8Array;
}

/** The bytes of a file, in shared memory, and how long that took; null when the file changed while it was read. */
export type ReadReply = {
  readonly encoded: Uint8Array;
  readonly sha256: string;
  /** Of the file that was opened. */
  readonly ino: number;
  readonly ctimeMs: number;
  readonly ms: number;
} | null;
/** The same without the bytes. */
export type HashReply = Omit<NonNullable<ReadReply>, 'encoded'> | null;
export interface CreateReply {
  readonly columns: readonly Column[];
}
/** The result of a {@link ProcessTask}. */
export interface ProcessReply {
  /** Of the completed stages, in order. */
  readonly reports: readonly StageReport[];
  /** The output of the last of them. Absent: none is complete. */
  readonly output?: StageOutput | undefined;
  /** Why the next stage did not run. Absent: all are complete. */
  readonly stopped?: Stopped<PlainError> | undefined;
}
export interface StageReport {
  /** How long the stage worked, in milliseconds. */
  readonly ms: number;
  /** The memory of the frame that it made, including pixels. */
  readonly bytes: number;
}
/** The stage failed, its `when:` is false, or its `when:` cannot be evaluated. */
export type Stopped<E> =
  | { readonly kind: 'failed'; readonly error: E; readonly ms: number }
  | { readonly kind: 'excluded' }
  | { readonly kind: 'undecided'; readonly error: E };
/** The output of stages for a frame. */
export interface StageOutput {
  /**
   * The new frame without what the pool has already: `id`, `origin`, `encoded`, and `meta` and `results` where they are as
   * before.
   */
  readonly made: Omit<Frame, 'id' | 'origin' | 'encoded' | 'meta' | 'results'> &
    Partial<Pick<Frame, 'meta' | 'results'>>;
  /** Whether it still has the encoded file. */
  readonly sameFile: boolean;
  /** Its pixels are those of the input, which are not sent back. */
  readonly sameImage: boolean;
}

/** Errors lose their class and code between threads, so they are sent as plain data. */
export type TaskResult<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: PlainError };

export interface PlainError {
  readonly code?: ErrorCode;
  readonly message: string;
  readonly component?: string | undefined;
  readonly stack?: string | undefined;
}

export function toPlainError(thrown: unknown): PlainError {
  const stack = thrown instanceof Error ? thrown.stack : undefined;
  return thrown instanceof RxrayError
    ? { code: thrown.code, message: thrown.message, component: thrown.component, stack }
    : { message: messageOf(thrown), stack };
}

export function fromPlainError(plain: PlainError): Error {
  const error =
    plain.code === undefined
      ? new Error(plain.message)
      : new RxrayError(plain.code, plain.message, { component: plain.component });
  if (plain.stack !== undefined) error.stack = plain.stack;
  return error;
}

/** The image with its samples in shared memory, so that threads pass it on without copying. */
export function shareImage(image: Image): Image {
  if (types.isSharedArrayBuffer(image.data.buffer)) return image;
  const bytes = new SharedArrayBuffer(image.data.byteLength);
  countShared(bytes.byteLength);
  const data = viewLike(image.data, bytes);
  data.set(image.data);
  return { ...image, data };
}

function viewLike(samples: Samples, bytes: SharedArrayBuffer): Samples {
  if (samples instanceof Uint8Array) return new Uint8Array(bytes);
  if (samples instanceof Uint16Array) return new Uint16Array(bytes);
  return new Float32Array(bytes);
}
