import { deserialize, serialize } from 'node:v8';
import type { Pipeline } from '../core/config/pipeline.js';
import type { Findings, Reference } from '../core/graph/remote.js';
import type { PlainError } from '../core/workers/protocol.js';

/** The version of these messages. Heads and workers that speak another do not hear each other. */
const VERSION = 2;

/** Subjects of one journal: what heads say to all, what workers say to the head, what the head says to one worker. */
export const subjects = {
  beacons: `rxray${String(VERSION)}.*.beacon`,
  beacon: (journal: string) => `rxray${String(VERSION)}.${journal}.beacon`,
  head: (journal: string) => `rxray${String(VERSION)}.${journal}.head`,
  worker: (journal: string, worker: string) => `rxray${String(VERSION)}.${journal}.worker.${worker}`,
} as const;

/** Said by a head, several times in a lease. */
export interface Beacon {
  readonly journal: string;
  /** Counts the starts of heads on this journal: the highest is the one that counts. */
  readonly epoch: number;
  /** Tells heads with one epoch apart. */
  readonly head: string;
  /** The pipeline's name. */
  readonly name: string;
  /** The hash of the graph: {@link Graph}. */
  readonly graph: string;
  readonly leaseMs: number;
}

/** A graph as a worker needs it. */
export interface Graph {
  /** Over everything else that stands here. */
  readonly hash: string;
  /** Settings as parsed; plugins are loaded by the worker. */
  readonly pipeline: Pick<
    Pipeline,
    'file' | 'baseDir' | 'name' | 'limits' | 'duplicates' | 'shutdownTimeoutMs'
  > & {
    /** {@link Pipeline.hash}. */
    readonly hash: string;
    readonly sources: readonly string[];
    readonly stages: readonly StageDescription[];
    readonly sinks: readonly { readonly id: string; readonly from: readonly string[] }[];
  };
  /** The files that stages are made of, by their absolute paths: SHA-256. */
  readonly files: Readonly<Record<string, string>>;
}

export type StageDescription = Omit<Pipeline['stages'][number], 'plugin' | 'url' | 'written' | 'location'> & {
  readonly version: string | undefined;
};

/** A film with the number of the attempt: what comes back for another attempt is dropped. */
export interface Assignment extends Reference {
  readonly attempt: number;
}

export interface Result {
  readonly id: string;
  readonly attempt: number;
  readonly outcome:
    | { readonly kind: 'made'; readonly findings: Findings }
    | { readonly kind: 'failed'; readonly error: PlainError }
    /** The film is not there, for this worker: another one may see it. */
    | { readonly kind: 'unseen' };
}

/** What a worker says of itself, several times in a lease: everything, so that no message must arrive. */
export interface Beat {
  readonly kind: 'beat';
  readonly worker: string;
  readonly epoch: number;
  /** Null while it has none. */
  readonly graph: string | null;
  /** The highest number of an `assign` that it has got. */
  readonly seq: number;
  /** The films that it has, with their attempts: at work, or with a result that the head has not confirmed. */
  readonly holding: readonly (readonly [id: string, attempt: number])[];
  /** How many films it may have. 0: it is about to end. */
  readonly room: number;
  /** Its machine and process, for people. */
  readonly name: string;
  /** Films that it is through with, and for how long it has had films (s), since it started. */
  readonly through: number;
  readonly busySeconds: number;
}

export type ToHead =
  | Beat
  | { readonly kind: 'graph?'; readonly worker: string; readonly epoch: number }
  | {
      readonly kind: 'results';
      readonly worker: string;
      readonly epoch: number;
      readonly graph: string;
      readonly results: readonly Result[];
    }
  /** It will not do these: they are nobody's fault. */
  | {
      readonly kind: 'handBack';
      readonly worker: string;
      readonly epoch: number;
      readonly ids: readonly string[];
    }
  | { readonly kind: 'bye'; readonly worker: string; readonly epoch: number };

export type ToWorker =
  | { readonly kind: 'graph'; readonly epoch: number; readonly graph: Graph }
  | {
      readonly kind: 'assign';
      readonly epoch: number;
      readonly graph: string;
      readonly seq: number;
      readonly films: readonly Assignment[];
    }
  /** The head has these results. */
  | {
      readonly kind: 'confirm';
      readonly epoch: number;
      readonly results: readonly (readonly [id: string, attempt: number])[];
    };

export const encode = (message: Beacon | ToHead | ToWorker): Uint8Array => serialize(message);
export const decode = (bytes: Uint8Array): unknown => deserialize(bytes);
