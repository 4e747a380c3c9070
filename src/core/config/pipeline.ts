import type { ErrorCode, Location } from '../errors.js';
import type { z } from 'zod';
import type { clusterSchema } from './schema.js';
import type { Part, PartOutput } from '../part.js';
import type { Kind, PluginOf } from '../plugin.js';

/** The key of a duplicate film's results: `results.duplicate.of` is the name of the film with the same bytes. */
export const DUPLICATE = 'duplicate';

/** A resolved graph: plugins loaded, settings parsed, names resolved. */
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
  /** What happens to a file whose bytes are known under another name: see the schema. */
  readonly duplicates: 'process' | 'skip';
  /** How long frames in flight may take to finish on shutdown. */
  readonly shutdownTimeoutMs: number;
  /** How many threads stages, and models, may use. Absent: as many as there are cores. */
  readonly threads?: number;
  /** The run ends when so many films have failed in it. Absent: it goes on. */
  readonly maxErrors?: number;
  readonly sources: readonly SourceNode[];
  /** In topological order. */
  readonly stages: readonly StageNode[];
  readonly sinks: readonly SinkNode[];
  /**
   * SHA-256, in hexadecimal, over everything in the file that affects results: id and plugin of every entry, and
   * version, settings, `from` and `when` of stages and sinks. It does not cover what is outside the file: the weights
   * in a bundle, the code of a plugin with the same version.
   */
  readonly hash: string;
  /** How `rxray head` reaches workers. */
  readonly cluster?: Cluster;
  /** Set for one slice of a backfill, which has its own state folder and outputs. */
  readonly part?: Part & { readonly outputs: readonly PartOutput[] };
}

export type Cluster = z.output<typeof clusterSchema>;

/** Whether a sink needs the pixels of its frames. */
export function needsPixels({
  plugin: { pixels = false },
  settings,
}: Pick<SinkNode, 'plugin' | 'settings'>): boolean {
  return typeof pixels === 'function' ? pixels(settings as never) : pixels;
}

/** What workers of a cluster make of a frame's pixels for a sink: the options of its `render`; undefined: nothing. */
export function renderingOf({ plugin: { render, rendering }, settings }: SinkNode): object | undefined {
  return render && rendering?.(settings as never);
}

/** Limits for all frames in flight together. */
export interface Limits {
  readonly frames: number;
  readonly bytes: number;
  /** No file is admitted while the disk of the state folder has less free space. */
  readonly minFreeBytes: number;
}

/** Number of attempts, and waits between them in milliseconds. */
export interface Retry {
  readonly attempts: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

export interface SinkRetry extends Retry {
  /** With `once`: how long an outage may last until the run ends without this sink. */
  readonly giveUpAfterMs: number;
}

/** What happens to a frame that a stage or sink fails on. */
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
  /** The entry as written, before environment variables were substituted: contains no secrets from them. */
  readonly written: Written;
  /** The position of the entry in the file. */
  readonly location: Location;
}

export interface Written {
  readonly when?: unknown;
  readonly with?: unknown;
  readonly [key: string]: unknown;
}

export type SourceNode = Node<'source'>;

/** The default of a stage's `timeoutMs`: ten minutes. */
export const STAGE_TIMEOUT_MS = 600_000;

export interface StageNode extends Node<'stage'> {
  /** The ids it takes frames from. Several are joined by frame identity, with the pixels of the first. */
  readonly from: readonly string[];
  /** A CEL expression: only frames for which it is true enter this stage and those behind it. */
  readonly when?: string;
  readonly batch?: Batch;
  readonly concurrency?: number;
  /** Time limit for one frame, in milliseconds. Absent: {@link STAGE_TIMEOUT_MS}. */
  readonly timeoutMs?: number;
  /** Absent: no retry. */
  readonly retry?: Retry;
  /** Absent: `deadLetter`. */
  readonly onError?: OnError;
  /** Its results are no part of the verdict, and a failure in it fails no film. */
  readonly shadow?: true;
}

export interface SinkNode extends Node<'sink'> {
  readonly from: readonly string[];
  /** A CEL expression: frames for which it is false are not delivered here. */
  readonly when?: string;
  readonly retry: SinkRetry;
  /** Time limit for a write, in milliseconds. */
  readonly timeoutMs: number;
  /** Absent: `deadLetter`. */
  readonly onError?: OnError;
}

/** A batch is processed when it has `size` frames, or after `waitMs` milliseconds. */
export interface Batch {
  readonly size: number;
  readonly waitMs: number;
}

/** An error or a warning about a pipeline file. */
export interface Issue {
  readonly severity: 'error' | 'warning';
  readonly code: ErrorCode;
  readonly message: string;
  readonly location?: Location;
  /** How many characters from {@link location} the caret underlines. Default 1. */
  readonly length?: number;
  /** The id of the entry, if it has one. */
  readonly component?: string | undefined;
}
