import { types } from 'node:util';
import { RxrayError, messageOf, type ErrorCode } from '../errors.js';
import type { Frame, Image, Samples } from '../frame.js';
import type { Candidate, Column, Log } from '../plugin.js';
import { countShared } from './shared-memory.js';

/** What the pool asks of a worker thread. */
export type Task =
  | { readonly kind: 'read'; readonly candidate: Candidate; readonly maxBytes: number }
  | { readonly kind: 'create'; readonly stage: StageSpec }
  | { readonly kind: 'process'; readonly stage: PackedSpec; readonly frame: Frame };

/** Several tasks for one thread, and where it notes what it is at: see {@link NOTES}. */
export interface TaskBatch {
  readonly tasks: readonly Task[];
  readonly notes: Float64Array;
}

/** Places in a batch's notes: since when (milliseconds since 1970; 0: not at a stage), at which task, at how manieth stage of it. */
export const NOTES = { since: 0, task: 1, stage: 2 } as const;

/** What it is answered. */
export type Reply = ReadReply | CreateReply | ProcessReply;

/** What every worker thread is started with. */
export interface WorkerData {
  /** The name of the broadcast channel of its pool. */
  readonly channel: string;
}

/**
 * What is said over that channel. Everybody on it hears everything: the pool says `abort` and
 * `dispose` to its threads, the rest is theirs to the pool, and each must pass over what is not meant for it.
 */
export type ChannelMessage =
  | { readonly kind: 'abort' | 'dispose' | 'disposed'; readonly key: string }
  | { readonly kind: 'log'; readonly level: keyof Log; readonly fields: object; readonly message: string }
  | { readonly kind: 'ready' };

/** What a worker needs to make a stage of its own. */
export interface StageSpec {
  /** Unique per graph and entry: two graphs in one process never share an instance. */
  readonly key: string;
  readonly id: string;
  readonly url: string;
  readonly settings: unknown;
  readonly baseDir: string;
  readonly stateDir: string;
  /** How long it may work on one frame. Absent: as long as it likes. */
  readonly timeoutMs?: number;
  /** Whether neither it nor any stage in `next` holds on to an image: the thread uses its memory again. */
  readonly retainsNothing?: boolean;
  /** The only taker of what the stage makes, if that runs in a thread, too: the thread goes on with it at once. */
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
/**
 * What became of the frame in the stage that was asked for, and in those behind it, as far as it came. Not empty.
 */
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
  /** Its pixels are those that the thread was given, which are not sent back. */
  readonly sameImage: boolean;
  /** What it held, pixels included. */
  readonly bytes: number;
}

/** Errors lose their class and code on the way between threads, so they travel as plain data. */
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

/** The image with its samples in shared memory, so that threads hand it on without copying. */
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
