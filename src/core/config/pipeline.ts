import type { ErrorCode, Location } from '../errors.js';
import type { z } from 'zod';
import type { clusterSchema } from './schema.js';
import type { Part, PartOutput } from '../part.js';
import type { Kind, PluginOf } from '../plugin.js';

/** What a film with known bytes has in place of results: `results.duplicate.of` is the name of the other. */
export const DUPLICATE = 'duplicate';

/** A graph as it runs: every plugin loaded, every setting parsed, every name resolved. */
export interface Pipeline {
  /** The absolute path of the YAML file. */
  readonly file: string;
  /** Its folder: relative paths in options are relative to it. */
  readonly baseDir: string;
  /** The folder of the journal, the dead letter and the cache (absolute). */
  readonly stateDir: string;
  /** `name:`, or the file's name without its ending. */
  readonly name: string;
  readonly limits: Limits;
  /** What becomes of a file whose bytes are known under another name: see the schema. */
  readonly duplicates: 'process' | 'skip';
  /** How long frames in flight may take once the run is stopped. */
  readonly shutdownTimeoutMs: number;
  readonly sources: readonly SourceNode[];
  /** Sorted so that a stage comes after everything it takes from. */
  readonly stages: readonly StageNode[];
  readonly sinks: readonly SinkNode[];
  /**
   * SHA-256, in hexadecimal, over what the file says of a frame's fate: id and plugin of every entry,
   * and version, settings, `from` and `when` of stages and sinks. It does not see what lies outside of
   * the file: the weights in a bundle, the code of a plugin whose version stays.
   */
  readonly hash: string;
  /** How `rxray head` reaches workers. */
  readonly cluster?: Cluster;
  /** Set for one slice of a backfill, which has a state folder, and outputs, of its own. */
  readonly part?: Part & { readonly outputs: readonly PartOutput[] };
}

export type Cluster = z.output<typeof clusterSchema>;

/** Bounds on the frames in flight, together. */
export interface Limits {
  readonly frames: number;
  readonly bytes: number;
  /** Free space on the disk of the state folder below which nothing is taken in. */
  readonly minFreeBytes: number;
}

/** How often, and with which waits (ms), something is tried that fails. */
export interface Retry {
  readonly attempts: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

export interface SinkRetry extends Retry {
  /** With `once`: how long an outage may last before the run ends without this sink. */
  readonly giveUpAfterMs: number;
}

/** What becomes of a frame that an entry fails on. */
export type OnError = 'deadLetter' | 'continue' | 'stop';

interface Node<K extends Kind> {
  /** Unique in the graph. */
  readonly id: string;
  /** As written: a built-in name, a file, or a package. */
  readonly use: string;
  readonly plugin: PluginOf<K>;
  /** The module that exports the plugin: what a worker thread loads. */
  readonly url: string;
  /** The contents of `with:`, parsed by the plugin's schema. */
  readonly settings: unknown;
  /** The entry as it stands in the file, before the environment was substituted: holds no secret of it. */
  readonly written: Written;
  /** Where the entry stands in the file. */
  readonly location: Location;
}

export interface Written {
  readonly when?: unknown;
  readonly with?: unknown;
  readonly [key: string]: unknown;
}

export type SourceNode = Node<'source'>;

/** How long a stage may work on one frame unless the graph says otherwise: ten minutes. */
export const STAGE_TIMEOUT_MS = 600_000;

export interface StageNode extends Node<'stage'> {
  /** The ids it takes frames from. Several are joined by frame identity, the first's pixels win. */
  readonly from: readonly string[];
  /** A CEL expression: only frames for which it is true enter, and go on from here. */
  readonly when?: string;
  readonly batch?: Batch;
  readonly concurrency?: number;
  /** How long the stage may work on one frame. Absent: {@link STAGE_TIMEOUT_MS}. */
  readonly timeoutMs?: number;
  /** Absent: no second attempt. */
  readonly retry?: Retry;
  /** Absent: `deadLetter`. */
  readonly onError?: OnError;
}

export interface SinkNode extends Node<'sink'> {
  readonly from: readonly string[];
  /** A CEL expression: frames for which it is false are not delivered here. */
  readonly when?: string;
  readonly retry: SinkRetry;
  /** How long a write may take, in milliseconds. */
  readonly timeoutMs: number;
  /** Absent: `deadLetter`. */
  readonly onError?: OnError;
}

/** Frames are handed on together when there are `size` of them, or after `waitMs` milliseconds. */
export interface Batch {
  readonly size: number;
  readonly waitMs: number;
}

/** Something that is wrong, or looks wrong, with a pipeline file. */
export interface Issue {
  readonly severity: 'error' | 'warning';
  readonly code: ErrorCode;
  readonly message: string;
  readonly location?: Location;
  /** How many characters from {@link location} the caret underlines. Default 1. */
  readonly length?: number;
  /** The id of the entry, once it has one. */
  readonly component?: string;
}
