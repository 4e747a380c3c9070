import { deserialize, serialize } from 'node:v8';
import type { Pipeline } from '../core/config/pipeline.js';
import type { Frame } from '../core/frame.js';
import type { Findings, Reference } from '../core/flow/elsewhere.js';
import type { PlainError } from '../core/workers/protocol.js';
import type { HeadAddress } from './film-server.js';
import type { StageCounts } from './worker-meters.js';

/** The version of these messages. Heads and workers of different versions use different subjects. */
const VERSION = 6;

/** The subjects of one journal: heads to all, workers to the head, the head to one worker. */
export const subjects = {
  beacons: `rxray${String(VERSION)}.*.beacon`,
  beacon: (journal: string) => `rxray${String(VERSION)}.${journal}.beacon`,
  head: (journal: string) => `rxray${String(VERSION)}.${journal}.head`,
  worker: (journal: string, worker: string) => `rxray${String(VERSION)}.${journal}.worker.${worker}`,
} as const;

/** Sent by a head, several times per lease. */
export interface Beacon {
  readonly journal: string;
  /** Number of starts of heads on this journal: the head with the highest one is valid. */
  readonly epoch: number;
  /** Distinguishes heads with the same epoch. */
  readonly head: string;
  /** The pipeline's name. */
  readonly name: string;
  /** The hash of the graph: {@link Graph}. */
  readonly graph: string;
  readonly leaseMs: number;
}

/** The part of a graph that a worker needs. */
export interface Graph {
  /** Over all other fields. */
  readonly hash: string;
  /** Settings as parsed; plugins are loaded by the worker. */
  readonly pipeline: Pick<
    Pipeline,
    'file' | 'baseDir' | 'name' | 'threads' | 'limits' | 'duplicates' | 'shutdownTimeoutMs'
  > & {
    /** {@link Pipeline.hash}. */
    readonly hash: string;
    readonly sources: readonly SourceDescription[];
    readonly stages: readonly StageDescription[];
    readonly sinks: readonly SinkDescription[];
  };
  /** SHA-256 of the files of stages, by absolute path. */
  readonly files: Readonly<Record<string, string>>;
}

export type StageDescription = Omit<Pipeline['stages'][number], 'plugin' | 'url' | 'written' | 'location'> & {
  readonly version: string | undefined;
};

export interface SinkDescription {
  readonly id: string;
  readonly from: readonly string[];
  /** What workers make of the pixels for the sink: the plugin's `render` and its options. */
  readonly rendered?: {
    readonly use: string;
    readonly version: string | undefined;
    readonly settings: object;
    /** Films that the sink does not get are not rendered. */
    readonly when: string | undefined;
  };
}

export interface SourceDescription {
  readonly id: string;
  /** The plugin whose films workers fetch, and its settings. Absent: they are files. */
  readonly fetched?: { readonly use: string; readonly settings: unknown };
}

/** A film with its attempt number: results of other attempts are dropped. */
export interface Assignment extends Reference {
  /** Unique among the films of a head, from its start to its end. */
  readonly id: string;
  readonly attempt: number;
}

export interface Result {
  readonly id: string;
  readonly attempt: number;
  readonly outcome:
    | { readonly kind: 'made'; readonly sha256: string; readonly findings: Findings }
    /** Without a hash: the film cannot be read. */
    | { readonly kind: 'failed'; readonly sha256?: string; readonly error: PlainError }
    /** This worker does not find the film, or (with a reason) cannot fetch it; another one may. */
    | { readonly kind: 'unseen'; readonly reason?: string };
}

/** A worker's complete state, sent several times per lease, so that lost messages do no harm. */
export interface Beat {
  readonly kind: 'beat';
  readonly worker: string;
  readonly epoch: number;
  /** Null while it has none. */
  readonly graph: string | null;
  /** The highest number of a received `assign`. */
  readonly seq: number;
  /** Its films and their attempts: in progress, or with a result that the head has not confirmed. */
  readonly holding: readonly (readonly [id: string, attempt: number])[];
  /** Maximum number of films. 0: it is about to end. */
  readonly room: number;
  /** Its machine and process, for people. */
  readonly name: string;
  /** Finished films, and the time with films in progress (s), since it started. */
  readonly through: number;
  readonly busySeconds: number;
  /** Of its stages, since it started. */
  readonly stages: StageCounts;
}

export interface Results {
  readonly kind: 'results';
  readonly worker: string;
  readonly epoch: number;
  readonly graph: string;
  readonly results: readonly Result[];
}

export type ToHead =
  | Beat
  | { readonly kind: 'graph?'; readonly worker: string; readonly epoch: number }
  /** By HTTPS if they were rendered for sinks: the response confirms them. */
  | Results
  /** Films that it returns without suspicion. */
  | {
      readonly kind: 'handBack';
      readonly worker: string;
      readonly epoch: number;
      readonly ids: readonly string[];
    }
  /** A frame that has come out of a stage: with its image if that fits into a message, without its file. */
  | {
      readonly kind: 'tapped';
      readonly worker: string;
      readonly epoch: number;
      readonly stage: string;
      readonly frame: Frame;
    }
  | { readonly kind: 'bye'; readonly worker: string; readonly epoch: number };

export type ToWorker =
  | {
      readonly kind: 'graph';
      readonly epoch: number;
      readonly graph: Graph;
      /** Where the head serves films; absent if workers read them under the head's paths. */
      readonly films?: HeadAddress | undefined;
      /** Where the head takes results that were rendered for sinks. */
      readonly results?: HeadAddress | undefined;
    }
  | {
      readonly kind: 'assign';
      readonly epoch: number;
      readonly graph: string;
      readonly seq: number;
      readonly films: readonly Assignment[];
      /** The film may end the worker, which says that the film has arrived before it begins. */
      readonly isAlone: boolean;
    }
  /** Asks for frames that come out of these stages, until the next beat but one. */
  | { readonly kind: 'tap'; readonly epoch: number; readonly stages: readonly string[] }
  /** The head confirms these results. */
  | {
      readonly kind: 'confirm';
      readonly epoch: number;
      readonly results: readonly (readonly [id: string, attempt: number])[];
    };

export const encode = (message: Beacon | ToHead | ToWorker): Uint8Array => serialize(message);
export const decode = (bytes: Uint8Array): unknown => deserialize(bytes);
