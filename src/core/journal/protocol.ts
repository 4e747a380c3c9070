import type { ErrorCode } from '../errors.js';
import type { Fate, Status } from '../fate.js';

/** A film's file, as the journal has it. */
export interface FilmFile {
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

/** The end of a film's way through the graph. */
export interface Conclusion extends FilmFile {
  /** What this attempt has found out. */
  readonly fate: Fate;
  /** Why it failed. */
  readonly message: string | null;
  /** The graph that did it: {@link Pipeline.hash}. */
  readonly graph: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** A sink will not take what was parked for it. */
export interface Refusal extends Pick<Conclusion, 'id' | 'graph' | 'at'> {
  readonly sink: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** What counts as settled. */
export interface Policy {
  /** What was settled before this (ms since 1970) is done anew. */
  readonly since: number;
  /** What failed before this is tried again. */
  readonly failedSince: number;
}

/** What the journal has of a film that is settled, or waits for its sinks. */
export interface JournalRecord {
  readonly status: Exclude<Status, 'admitted'>;
  /** Why it failed; null when it did not. */
  readonly code: ErrorCode | null;
  /** The graph that did it. */
  readonly graph: string;
  /** The hash of the bytes that were processed; null when the file could not be read. */
  readonly sha256: string | null;
}

/** What the journal has of a film that is about to enter the graph. */
export interface Admittance {
  /** Not null: it is settled and must not enter. */
  readonly known: JournalRecord | null;
  /** The sinks that have it, or whose delivery the journal keeps: an earlier process got so far. */
  readonly delivered: readonly string[];
  /** An earlier film with the same bytes that has come through, where one was asked for. */
  readonly duplicateOf: { readonly id: string; readonly name: string } | null;
  /** How many attempts have ended with the process, one after the other. */
  readonly interrupted: number;
  /** The ids under which earlier versions of the file, which could not be read, have failed. */
  readonly unread: readonly string[];
}

/** A delivery that waits for its sink. */
export interface Parked {
  readonly row: number;
  readonly film: FilmFile;
  /** The frame by `v8.serialize`. */
  readonly frame: Uint8Array;
}

/** What one asks of the journal's thread. */
export type Question =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'outcomes';
      readonly source: string;
      readonly files: readonly Omit<FilmFile, 'id' | 'source' | 'sha256'>[];
      readonly policy: Policy;
      readonly at: number;
    }
  | {
      readonly kind: 'admit';
      readonly film: FilmFile;
      readonly policy: Policy;
      readonly findDuplicate: boolean;
      readonly alone: boolean;
      readonly harmless: boolean;
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
  | { readonly kind: 'passed'; readonly id: string }
  | { readonly kind: 'record'; readonly conclusion: Conclusion }
  | { readonly kind: 'refuse'; readonly refusal: Refusal }
  | { readonly kind: 'parked'; readonly sink: string; readonly after: number; readonly limit: number }
  | { readonly kind: 'parkedCounts' }
  | { readonly kind: 'note'; readonly key: string; readonly value: string | null }
  | { readonly kind: 'noted'; readonly key: string }
  | { readonly kind: 'obsolete'; readonly ids: readonly string[] }
  | { readonly kind: 'close' };

/** What comes back, by the kind of question. */
export interface Answers {
  /** The new name of a damaged journal. */
  open: { setAside: string | null };
  outcomes: (JournalRecord | null)[];
  admit: Admittance;
  park: null;
  /** The film, when this was all that it still waited for. */
  confirm: FilmFile | null;
  passed: null;
  record: Status;
  refuse: null;
  parked: Parked[];
  parkedCounts: Record<string, number>;
  note: null;
  noted: string | null;
  obsolete: string[];
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
