import type { ErrorCode } from '../errors.js';
import type { Fate, Status } from '../fate.js';
import type { Store } from './store.js';

/** A film's file, as recorded in the journal. */
export interface FilmFile {
  /** The frame id. */
  readonly id: string;
  readonly source: string;
  readonly name: string;
  /** Absolute: two folders may have different films of the same name. */
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  /** Inode and change time; null or missing where the source has none. */
  readonly ino?: number | null | undefined;
  readonly ctimeMs?: number | null | undefined;
  /** Null when the file could not be read. */
  readonly sha256: string | null;
}

/** The result of an attempt at a film. */
export interface Conclusion extends FilmFile {
  /** The film's fate in this attempt. */
  readonly fate: Fate;
  /** Why it failed. */
  readonly message: string | null;
  /** The graph that processed it: {@link Pipeline.hash}. */
  readonly graph: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Whether its verdict is abnormal, for the history. */
  readonly abnormal?: boolean;
}

/** A sink has refused a parked film. */
export interface Refusal extends Pick<Conclusion, 'id' | 'graph' | 'at'> {
  readonly sink: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** What counts as settled. */
export interface Policy {
  /** Films settled before this time (ms since 1970) are processed again. */
  readonly since: number;
  /** Films that failed before this time are processed again. */
  readonly failedSince: number;
}

/** The record of a film that is settled, or waits for sinks. */
export interface JournalRecord {
  readonly status: Exclude<Status, 'admitted'>;
  /** Why it failed; null when it did not. */
  readonly code: ErrorCode | null;
  /** The graph that processed it. */
  readonly graph: string;
  /** The hash of the bytes that were processed; null when the file could not be read. */
  readonly sha256: string | null;
}

/** See {@link Journal.admit}. */
export interface AdmitOptions {
  readonly findDuplicate: boolean;
  readonly alone: boolean;
  readonly harmless: boolean;
}

/** The journal's answer about a film that is about to enter the graph. */
export interface Admittance {
  /** Not null: the film is settled and must not enter. */
  readonly known: JournalRecord | null;
  /** The sinks that have confirmed it, or for which it is parked, from earlier attempts. */
  readonly delivered: readonly string[];
  /** An earlier film with the same bytes that is done or waiting, if one was requested. */
  readonly duplicateOf: { readonly id: string; readonly name: string } | null;
  /** Number of consecutive attempts during which the process ended. */
  readonly interrupted: number;
  /** Ids of earlier, unreadable versions of the file. */
  readonly unread: readonly string[];
}

/** A parked delivery. */
export interface Parked {
  readonly row: number;
  readonly film: FilmFile;
  /** The frame by `v8.serialize`. */
  readonly frame: Uint8Array;
}

/** What the journal's thread does on request: methods of its {@link Store}, `open` and `close`. */
export interface JournalCalls extends Omit<Store, 'dirty' | 'commit' | 'surviving' | 'abandon' | 'close'> {
  /** Returns the new name of a damaged journal. */
  open(): { readonly setAside: string | null };
  close(): void;
}

export type JournalRequest = {
  [M in keyof JournalCalls]: { readonly method: M; readonly args: Parameters<JournalCalls[M]> };
}[keyof JournalCalls];

export type RequestMessage = JournalRequest & { readonly seq: number };
export type ResponseMessage =
  | { readonly seq: number; readonly ok: true; readonly response: unknown; readonly error?: never }
  | {
      readonly seq: number;
      readonly ok: false;
      readonly response?: never;
      readonly error: { readonly code: ErrorCode; readonly message: string };
    };
