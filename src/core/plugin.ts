import type { Observable, OperatorFunction } from 'rxjs';
import type { z } from 'zod';
import type { ErrorCode, RxrayError } from './errors.js';
import type { Frame } from './frame.js';
import type { Part } from './part.js';

/** The longest timer, in milliseconds: Node treats a longer one as 1 ms. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The version of the plugin contract. Plugins for another version are refused. */
export const CONTRACT_VERSION = 1;

/** A logger like pino: fields first, message second. Never log patient data or file contents. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What the host passes to every plugin when it is created. */
export interface Services {
  /** The id of this entry in the graph. */
  readonly id: string;
  readonly log: Log;
  /** The folder of the YAML file: relative paths in options are relative to it. */
  readonly baseDir: string;
  /** The state folder (journal, dead letter, cache). */
  readonly stateDir: string;
  /** Aborted when the graph is closed. */
  readonly signal: AbortSignal;
  /** Resolves a path option against {@link baseDir}. */
  resolve(path: string): string;
}

/** Services of the process that a stage needs: a name of its choice → the service's class (`Engine`). */
export type Needs = Readonly<Record<string, abstract new (...args: never[]) => unknown>>;

/** What `create` gets for its {@link Needs}: an instance under each name. */
export type Provided<N extends Needs> = string extends keyof N
  ? unknown
  : { readonly [K in keyof N]: InstanceType<N[K]> };

/** An example for the docs, the linter's tests and `rxray plugins NAME`. */
export interface Example {
  readonly title: string;
  /** The contents of `with:`. */
  readonly with: Record<string, unknown>;
}

type Options = z.ZodObject;

interface Definition<O extends Options> {
  /** Kebab-case; the value of `use:`. */
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Strict schema of `with:`; every field has a `.describe()`, and a default where one makes sense. */
  readonly options: O;
  readonly examples?: readonly Example[];
  /** The plugin's own version; built-in plugins have none. */
  readonly version?: string;
  /** The range of host versions it works with, as in npm: `^0.1.0`. */
  readonly rxray?: string;
  /**
   * Errors and warnings about these settings at this place in the graph (a missing model bundle, other preprocessing
   * than in training). Called by `rxray lint` and before a run starts.
   */
  lint?(
    settings: z.output<O>,
    context: LintContext,
  ): readonly LintMessage[] | Promise<readonly LintMessage[]>;
}

export interface LintContext {
  /** The folder of the YAML file. */
  readonly baseDir: string;
  /** The stages before this entry, in order; of several in `from`, those of the first. Empty for a source. */
  readonly preceding: readonly PrecedingStage[];
  /** The stages of the graph with their columns; `undefined` where they are not known before a run. */
  columns?(): Promise<readonly { readonly stage: string; readonly columns: readonly Column[] | undefined }[]>;
}

export interface PrecedingStage {
  /** In a graph, every stage has one. */
  readonly id?: string;
  readonly use: string;
  /** Its settings, parsed. */
  readonly with: unknown;
  /** From its definition. */
  readonly keepsPixels?: boolean | undefined;
  readonly limits?: readonly string[] | undefined;
}

export interface LintMessage {
  readonly severity: 'error' | 'warning';
  /** Default: CONFIG_REFUSED for an error, CONFIG_ADVICE for a warning. */
  readonly code?: ErrorCode;
  /** The id of a preceding stage, if the message is about that one. Default: the plugin's own entry. */
  readonly stage?: string | undefined;
  /** The path of the option inside `with:`; empty for the entry as a whole. */
  readonly option: readonly string[];
  readonly message: string;
}

// ── sources ───────────────────────────────────────────────────────────────────────────────────────

/** A file that a source offers: a path without pixels, so that waiting files cost no memory. */
export interface Candidate {
  readonly path: string;
  /** The path inside the source, with forward slashes. */
  readonly name: string;
  readonly size: number;
  readonly mtimeMs: number;
  /**
   * Inode and change time, if the source has them. They distinguish a file from another one of the same size and
   * modification time at the same path (unpacked, restored, renamed over it).
   */
  readonly ino?: number | undefined;
  readonly ctimeMs?: number | undefined;
  /**
   * The folder (absolute, without links) that must contain the file when it is opened, with links resolved; otherwise
   * it fails with FRAME_OUTSIDE. A file may be replaced between being offered and being read.
   */
  readonly within?: string;
  /** The group that it belongs to, if its source offers films in groups: the frame gets it as `meta.group`. */
  readonly group?: FilmGroup;
  /** Set by the host for a replayed film of the dead letter. */
  readonly replay?: Replay;
  /** Set by the host: the local copy made by {@link SourceInstance.fetch}, which is read instead of `path`. */
  readonly copy?: Copy;
  /** Why it must not be read (for example a link out of the folder): the host fails it without opening it. */
  readonly error?: RxrayError;
}

/** Films that a source offers together, such as those of a study. Each of them is a film of its own. */
export interface FilmGroup {
  /** What its films have in common: `study`, `series`. */
  readonly by: string;
  /** The same for all its films and after a restart, and another one for each group. No patient data. */
  readonly id: string;
  /** How many files it has. */
  readonly films: number;
  /** False if it has fewer films than the source expected. */
  readonly complete: boolean;
}

export interface Replay {
  /** Its id in the dead letter. */
  readonly entry: string;
  /** Its copy there, which is read instead of the file itself. */
  readonly copy?: Copy;
}

/** A file that is a copy of a film. */
export type Copy = Pick<Candidate, 'path' | 'size' | 'mtimeMs'>;

/** Downloads films to local files. */
export interface Fetcher {
  /** See {@link SourceInstance.fetch}. */
  fetch(candidate: Candidate, maxBytes: number): Promise<Copy | undefined>;
  dispose?(): Promise<void> | void;
}

/** How processing a frame ended. */
export type Outcome = 'done' | 'failed';

export interface SourceInstance {
  /**
   * All files, as they become available; a file may be offered more than once (the journal skips what is settled). With
   * `once`, completes after one full scan; otherwise never, unless no more files can come.
   */
  readonly candidates$: Observable<Candidate>;
  /**
   * The file of this name inside the source, as it would be offered now; undefined if it is gone. For replays of films
   * without a copy in the dead letter.
   */
  look?(name: string): Promise<Candidate | undefined>;
  /**
   * For films that are not local files: downloads the film to a local file, when it is the film's turn. The host reads
   * that file and deletes it when the film has settled; undefined for a local film. Films larger than `maxBytes` fail
   * with FRAME_TOO_LARGE.
   */
  fetch?(candidate: Candidate, maxBytes: number): Promise<Copy | undefined>;
  /**
   * Called when a frame is done or has failed and the journal has recorded it: keep, move or delete the file. `sha256`
   * is the hash of the processed bytes (empty if they could not be read). The path may hold another film by now: a file
   * with other bytes must not be moved or deleted.
   */
  settle?(candidate: Candidate, outcome: Outcome, sha256: string): Promise<void>;
  /**
   * Called when an offered file was gone, or had changed, before it was read: the source offers it again when it is
   * complete.
   */
  lost?(candidate: Candidate): void;
  dispose?(): Promise<void> | void;
}

export interface SourceServices extends Services {
  /** True when the run ends after all present files have been processed. */
  readonly once: boolean;
  /** The slice of a backfill to offer. Absent: all films. */
  readonly part?: Part | undefined;
  /** Those of the candidates that the journal has not settled with the same size, mtime, inode and ctime. */
  unsettled(candidates: readonly Candidate[]): Promise<Candidate[]>;
  /**
   * Reports a file or folder, by its name inside the source, that may hold films and cannot be read: the user sees it,
   * and with `once` the exit code is 1. Call it once for each.
   */
  unread(name: string, reason: string): void;
  /** Counts files that are known to be no images and are left alone: the run says how many. */
  leftAlone(files: number): void;
  /**
   * Reports that the source cannot offer films at present, with the reason, or that it can again (null): `/readyz` and
   * the page show it.
   */
  outage(reason: string | null): void;
}

export interface SourceDefinition<O extends Options = Options> extends Definition<O> {
  /**
   * Whether a file at this path (absolute) would be taken as a film. No sink may write there: its output would be
   * processed in an endless loop.
   */
  takes?(settings: z.output<O>, path: string, baseDir: string): boolean | Promise<boolean>;
  /** Whether it can offer slices of its films, each film in exactly one slice: see {@link SourceServices.part}. */
  readonly splits?: boolean;
  /** Whether making it, and asking it for its films with `once`, changes nothing: `rxray lint --dry-run` does so. */
  readonly onlyLooks?: boolean;
  /**
   * For films that are not local files: what downloads them on another machine, where the source itself does not exist.
   * A film that cannot be fetched fails with FRAME_UNREADABLE; any other error means that this machine cannot fetch it now,
   * and another one may.
   */
  fetcher?(settings: z.output<O>, services: Services): Fetcher | Promise<Fetcher>;
  /** The options that `rxray run --input PATH` (absolute) replaces. Default: `{ path }`. */
  input?(path: string): object | Promise<object>;
  create(settings: z.output<O>, services: SourceServices): SourceInstance | Promise<SourceInstance>;
}

// ── stages ────────────────────────────────────────────────────────────────────────────────────────

/** A column for tabular sinks: the value at `path` inside the stage's result. */
export interface Column {
  readonly name: string;
  readonly path: readonly string[];
  /** Written only if the user names it. */
  readonly onRequest?: boolean;
}

interface StageCommon {
  /** The default columns of tabular sinks for this stage, named `<stage id>.<name>`. */
  readonly columns?: readonly Column[];
  dispose?(): Promise<void> | void;
}

/** One frame in, one frame out. Throwing fails this frame alone. */
export interface FrameStage extends StageCommon {
  process(frame: Frame): Frame | Promise<Frame>;
}

/**
 * Several frames in, as many out, in the same order. All have images of one size, channel count and sample type. If it
 * throws, the host halves the batch until only the faulty frame fails.
 */
export interface BatchStage extends StageCommon {
  processBatch(frames: readonly Frame[]): Promise<readonly Frame[]>;
  /** The device that executes it: while it is free, no batch waits for more frames. */
  readonly device?: Device;
}

/** A device that executes batches. */
export interface Device {
  /** Whether it has nothing to do. */
  readonly idle: boolean;
  /** How many batches it executes at the same time. Default: 1. */
  readonly lanes?: number;
  /** Whether it would execute another batch at once. Default: whether it is idle. */
  readonly free?: boolean;
  /** Emits each time it becomes free. */
  readonly idle$: Observable<unknown>;
  /**
   * Gives up its present work. The host calls it when a stage is late while the device is at work: that work may never
   * end and cannot be ended, so the run ends (RUN_STOPPED). Absent: the film fails alone.
   */
  giveUp?(reason: string): void;
}

/**
 * An RxJS operator: must emit every frame exactly once, with its id, in any order. If it errors, the host subscribes
 * again and processes the frames inside one by one, so that only the faulty one fails.
 */
export interface OperatorStage extends StageCommon {
  readonly operator: OperatorFunction<Frame, Frame>;
}

export type StageInstance = FrameStage | BatchStage | OperatorStage;

export interface StageDefinition<O extends Options = Options, N extends Needs = Needs> extends Definition<O> {
  /**
   * True for a stage that only adds results and never changes the image. The linter then does not count it as
   * preprocessing when it compares a graph with a model's training. Default false.
   */
  readonly keepsPixels?: boolean;
  /**
   * True for a stage that fails on a frame without an image. The linter then refuses a graph in which no stage before it
   * can have decoded the film. Default false.
   */
  readonly needsPixels?: boolean;
  /**
   * True for a stage that, once it has returned, keeps neither its input image nor its output image,
   * and puts neither into its results: a worker thread then uses their memory again. Default false.
   */
  readonly retainsNothing?: boolean;
  /**
   * True for a stage in worker threads whose native code must not be interrupted: ONNX Runtime aborts the process if
   * its thread is ended during a run. Beyond `timeoutMs`, it has five more seconds to return, and its result counts. Default false.
   */
  readonly runsNativeCode?: boolean;
  /** Options that can only refuse an image, never change it (`maxPixels`). They may differ from training. */
  readonly limits?: readonly (keyof z.output<O> & string)[];
  /**
   * `worker` (the default): created in each worker thread; only frame stages. `main`: for stages that mostly wait (for
   * the engine, the network).
   */
  readonly runsIn?: 'worker' | 'main';
  /** Services of the process for `create`, such as `{ engine: Engine }`. Requires `runsIn: 'main'`. */
  readonly needs?: N;
  /**
   * The columns of the instance, found without creating it (from a bundle's labels): `lint` checks the columns named by
   * sinks against them. Absent: not known before the stage is created.
   */
  columns?(
    settings: z.output<O>,
    services: { resolve(path: string): string },
  ): readonly Column[] | Promise<readonly Column[]>;
  /**
   * For a stage that decodes files with several images, each of which becomes a film of its own: a function that counts
   * the images in a local file, 1 where the file is one film. The host splits files before they enter the graph; the
   * number of an image is in the name of its film. Undefined for settings that take one image per file.
   */
  imageCounter?(settings: z.output<O>): ((path: string) => Promise<number>) | undefined;
  create(settings: z.output<O>, services: Services & Provided<N>): StageInstance | Promise<StageInstance>;
}

// ── sinks ─────────────────────────────────────────────────────────────────────────────────────────

export interface SinkInstance {
  /**
   * Delivers frames, and resolves when they are stored durably: only then are they confirmed. One call at a time. Must
   * be idempotent by frame id: after a crash the same frame is delivered again.
   *
   * The error decides what the host does: {@link Unavailable} is an outage, during which frames wait and are retried
   * without limit; an `RxrayError` `FRAME_…` refuses the frame permanently, `OUTPUT_…` ends the run; any other error is
   * retried according to `retry:`, and then refuses the frame. After a rejection, except by an outage, the frames of a
   * group are delivered one by one. A sink therefore makes one attempt per call, and leaves retries to the host.
   */
  write(frames: readonly Frame[]): Promise<void>;
  /** Flushes and closes. */
  dispose?(): Promise<void> | void;
}

export interface SinkServices extends Services {
  /** True when the user has requested done films to be processed again: new results supersede old ones. */
  readonly again: boolean;
  /** The columns of the stages, in graph order: the default of tabular sinks. */
  readonly columns: readonly { readonly stage: string; readonly column: Column }[];
  /** The stages of the graph, in graph order, with their parsed settings. */
  readonly stages: readonly { readonly id: string; readonly use: string; readonly with: unknown }[];
  /**
   * Compiles an expression (CEL) over `file`, `id`, `origin`, `meta`, `results` and `verdict`; throws with the position
   * of a syntax error.
   */
  expression(text: string): (frame: Frame) => unknown;
}

export interface SinkDefinition<O extends Options = Options> extends Definition<O> {
  /** How many frames one `write` may take. Default 1. */
  readonly maxBatch?: number;
  /**
   * Whether it needs images: `frame.image`, and those in results (residual maps). Default false: it gets frames without
   * images. With images, parked frames in the journal are large. A function if it depends on the settings.
   */
  readonly pixels?: boolean | ((settings: z.output<O>) => boolean);
  /**
   * For a cluster, whose head gets no pixels: what the sink needs of a frame's pixels. Workers make it, and the sink gets
   * it by {@link renderedOf}. Without, or if `rendering` returns undefined, a head refuses the sink if it needs pixels.
   */
  readonly render?: (frame: Frame, options: never) => Promise<Uint8Array>;
  /** The options of `render`: plain data, sent to the workers, so without secrets. */
  rendering?(settings: z.output<O>): object | undefined;
  /**
   * A transactional outbox, for a receiver that sees every attempt (a web server): the frame is in the journal before
   * the first attempt, so that a repetition after a crash has the same content. Default false, which is enough if the
   * first delivery of an id counts.
   */
  readonly outbox?: boolean;
  /** Whether it ignores case in column names: the ids of stages must then differ in more than case. */
  readonly ignoresCase?: boolean;
  /**
   * The option with the path of its one output file. In a part of a backfill, the sink writes to the state folder, and
   * the host moves the file when the part is complete.
   */
  readonly output?: keyof z.output<O> & string;
  /** Files that it may write, one of each kind, absolute or relative to the pipeline file. */
  writes?(settings: z.output<O>): readonly string[];
  /** Whether several sinks of this plugin may write one file, such as tables of one database. Default false. */
  readonly sharesFile?: boolean;
  create(settings: z.output<O>, services: SinkServices): SinkInstance | Promise<SinkInstance>;
}

// ── definers ──────────────────────────────────────────────────────────────────────────────────────

export type Kind = 'source' | 'stage' | 'sink';
export type Plugin =
  | ({ readonly kind: 'source'; readonly contract: number } & SourceDefinition)
  | ({ readonly kind: 'stage'; readonly contract: number } & StageDefinition)
  | ({ readonly kind: 'sink'; readonly contract: number } & SinkDefinition);
export type PluginOf<K extends Kind> = Extract<Plugin, { kind: K }>;

/** Declares a source. Export it as the module's default. */
export function defineSource<O extends Options>(definition: SourceDefinition<O>): PluginOf<'source'> {
  return { kind: 'source', contract: CONTRACT_VERSION, ...definition } as unknown as PluginOf<'source'>;
}

/** Declares a stage. Export it as the module's default. */
export function defineStage<O extends Options, const N extends Needs = Needs>(
  definition: StageDefinition<O, N>,
): PluginOf<'stage'> {
  return { kind: 'stage', contract: CONTRACT_VERSION, ...definition } as unknown as PluginOf<'stage'>;
}

/** Declares a sink. Export it as the module's default. */
export function defineSink<O extends Options>(definition: SinkDefinition<O>): PluginOf<'sink'> {
  return { kind: 'sink', contract: CONTRACT_VERSION, ...definition } as unknown as PluginOf<'sink'>;
}
