import type { ErrorCode } from '../errors.js';
import type { Outcome } from '../plugin.js';

/** A file as the journal knows it. */
export interface Film {
  /** The frame id. */
  readonly id: string;
  readonly source: string;
  readonly name: string;
  /** Absolute: two folders may hold other films under the same names. */
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  /** Inode and change time; null or missing where the source has none. */
  readonly ino?: number | null | undefined;
  readonly ctimeMs?: number | null | undefined;
  /** Null when the file could not be read. */
  readonly sha256: string | null;
}

/** What became of a film: `waiting` when all that is missing lies in the journal, ready for its sinks. */
export type Standing = Outcome | 'waiting';

/** The end of a film's way through the graph. */
export interface Entry extends Film {
  readonly outcome: Outcome;
  /** The sinks that have it, and those that will not take it: nothing is parked for them any more. */
  readonly confirmed: readonly string[];
  readonly refused: readonly string[];
  /** Why it failed: code and message. */
  readonly reason: string | null;
  /** The graph that did it: {@link Pipeline.hash}. */
  readonly graph: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** What counts as settled. */
export interface Policy {
  /** What was settled before this (ms since 1970) is done anew. */
  readonly since: number;
  /** What failed before this is tried again. */
  readonly failedSince: number;
}

export interface Known {
  readonly outcome: Standing;
  /** The graph that did it. */
  readonly graph: string;
  /** The hash of the bytes that were processed; null when the file could not be read. */
  readonly sha256: string | null;
}

/** What the journal knows of a film that is about to enter the graph. */
export interface Admittance {
  /** Not null: it is settled and must not enter. */
  readonly known: Known | null;
  /** The sinks that have it, or whose delivery lies in the journal: an earlier process got so far. */
  readonly delivered: readonly string[];
  /** An earlier film with the same bytes, where one was asked for. */
  readonly duplicateOf: { readonly id: string; readonly name: string } | null;
  /** How often it has been begun, if the process ended the last time before the film was through; else 0. */
  readonly interrupted: number;
}

/** A delivery that waits for its sink. */
export interface Parked {
  readonly row: number;
  readonly film: Film;
  /** The frame by `v8.serialize`. */
  readonly frame: Uint8Array;
}

/** What one asks of the journal's thread. */
export type Question =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'outcomes';
      readonly source: string;
      readonly files: readonly Omit<Film, 'id' | 'source' | 'sha256'>[];
      readonly policy: Policy;
      readonly at: number;
    }
  | {
      readonly kind: 'admit';
      readonly film: Film;
      readonly policy: Policy;
      readonly findDuplicate: boolean;
      readonly at: number;
    }
  | {
      readonly kind: 'park';
      readonly id: string;
      readonly sink: string;
      readonly frame: Uint8Array;
      readonly at: number;
    }
  | { readonly kind: 'confirm'; readonly id: string; readonly sink: string; readonly at: number }
  | { readonly kind: 'record' | 'refuse'; readonly entry: Entry }
  | { readonly kind: 'parked'; readonly sink: string; readonly after: number; readonly limit: number }
  | { readonly kind: 'parkedCounts' }
  | { readonly kind: 'note'; readonly key: string; readonly value: string | null }
  | { readonly kind: 'noted'; readonly key: string }
  | { readonly kind: 'doneAmong'; readonly ids: readonly string[] }
  | { readonly kind: 'close' };

/** What comes back, by the kind of question. */
export interface Answers {
  /** The new name of a damaged journal. */
  open: { setAside: string | null };
  outcomes: (Known | null)[];
  admit: Admittance;
  park: null;
  /** The film, when this was all that it still waited for. */
  confirm: Film | null;
  record: Standing;
  refuse: null;
  parked: Parked[];
  parkedCounts: Record<string, number>;
  note: null;
  noted: string | null;
  doneAmong: string[];
  close: null;
}
export type Answer<Q extends Question> = Answers[Q['kind']];

export interface Request {
  readonly seq: number;
  readonly question: Question;
}
export type Response =
  | {
      readonly seq: number;
      readonly ok: true;
      readonly answer: Answers[keyof Answers];
      readonly error?: never;
    }
  | {
      readonly seq: number;
      readonly ok: false;
      readonly answer?: never;
      readonly error: { readonly code: ErrorCode; readonly message: string };
    };
