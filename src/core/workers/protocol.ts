import { types } from 'node:util';
import { RxrayError, messageOf, type ErrorCode } from '../errors.js';
import type { Frame, Image, Samples } from '../frame.js';
import type { Candidate, Column, Log } from '../plugin.js';
import { countShared } from './shared-memory.js';

/** A task for a worker thread. */
export type Task =
  | { readonly kind: 'read'; readonly candidate: Candidate; readonly maxBytes: number }
  | { readonly kind: 'create'; readonly stage: StageSpec }
  | { readonly kind: 'process'; readonly stage: PackedSpec; readonly frame: Frame };

/** Several tasks for one thread, and the memory for its notes on its progress: see {@link NOTES}. */
export interface TaskBatch {
  readonly tasks: readonly Task[];
  readonly notes: Float64Array;
}

/**
 * Indices in a batch's notes: start of the stage's work (milliseconds since 1970; 0: not in a stage), number of the
 * task, number of the stage within the task.
 */
export const NOTES = { since: 0, task: 1, stage: 2 } as const;

/** The reply to a task. */
export type Reply = ReadReply | CreateReply | ProcessReply;

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
  /** Whether neither it nor any stage in `next` holds on to an image: the thread uses its memory again. */
  readonly retainsNothing?: boolean;
  /** The only consumer of the stage's output, if it also runs in a thread: the thread continues with it at once. */
  readonly next?: StageSpec | undefined;
}

/** A {@link StageSpec} as it goes along with every frame: a thread unpacks it once. */
export interface PackedSpec {
  /** Unique per pool. */
  readonly number: number;
  /** By `v8.serialize`, in shared memory. */
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
export interface CreateReply {
  readonly columns: readonly Column[];
}
/** The results of the requested stage and of the stages after it, up to the first failure. Not empty. */
export type ProcessReply = readonly Step[];
export interface Step {
  readonly result: TaskResult<StageOutput>;
  /** How long the thread worked, in milliseconds. */
  readonly ms: number;
}
/** What the stage made of its frame. */
export interface StageOutput {
  /**
   * The new frame without what the pool has already: `id`, `origin`, `encoded`, and `meta` and `results` where they are as
   * before. Without its pixels, where the next stage has had them and is through.
   */
  readonly made: Omit<Frame, 'id' | 'origin' | 'encoded' | 'meta' | 'results'> &
    Partial<Pick<Frame, 'meta' | 'results'>>;
  /** It has the encoded file still. */
  readonly sameFile: boolean;
  /** Its pixels are those of the input, which are not sent back. */
  readonly sameImage: boolean;
  /** Its memory, including pixels. */
  readonly bytes: number;
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
