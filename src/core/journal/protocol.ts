import type { ErrorCode } from '../errors.js';
import type { Fate, Status } from '../fate.js';
import type { Interval } from '../history.js';

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

/** A request to the journal's thread. */
export type JournalRequest =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'lookUp';
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
  | {
      readonly kind: 'confirm';
      readonly id: string;
      readonly sink: string;
      readonly abnormal: boolean;
      readonly at: number;
    }
  | { readonly kind: 'passed'; readonly id: string }
  | { readonly kind: 'record'; readonly conclusion: Conclusion }
  | { readonly kind: 'refuse'; readonly refusal: Refusal }
  | { readonly kind: 'parked'; readonly sink: string; readonly after: number; readonly limit: number }
  | { readonly kind: 'parkedCounts' }
  | { readonly kind: 'history'; readonly since: number; readonly minutes: number }
  | { readonly kind: 'note'; readonly key: string; readonly value: string | null }
  | { readonly kind: 'noted'; readonly key: string }
  | { readonly kind: 'obsolete'; readonly ids: readonly string[] }
  | { readonly kind: 'close' };

/** The responses, by the kind of request. */
export interface JournalResponses {
  /** The new name of a damaged journal. */
  open: { setAside: string | null };
  lookUp: (JournalRecord | null)[];
  admit: Admittance;
  park: null;
  /** The film, if this was its last delivery. */
  confirm: FilmFile | null;
  passed: null;
  record: Status;
  refuse: null;
  parked: Parked[];
  parkedCounts: Record<string, number>;
  history: Interval[];
  note: null;
  noted: string | null;
  obsolete: string[];
  close: null;
}
export type JournalResponse<Q extends JournalRequest> = JournalResponses[Q['kind']];

export interface RequestMessage {
  readonly seq: number;
  readonly request: JournalRequest;
}
export type ResponseMessage =
  | {
      readonly seq: number;
      readonly ok: true;
      readonly response: JournalResponses[keyof JournalResponses];
      readonly error?: never;
    }
  | {
      readonly seq: number;
      readonly ok: false;
      readonly response?: never;
      readonly error: { readonly code: ErrorCode; readonly message: string };
    };
