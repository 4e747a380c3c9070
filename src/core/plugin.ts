import type { Observable, OperatorFunction } from 'rxjs';
import type { z } from 'zod';
import type { ErrorCode } from './errors.js';
import type { RxrayError } from './errors.js';
import type { Frame } from './frame.js';
import type { Part } from './part.js';

/** The longest timer, in milliseconds: Node makes 1 ms of a longer one. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The plugin contract that this host speaks. A plugin built for another major version is refused. */
export const CONTRACT_VERSION = 1;

/** A logger in the manner of pino: fields first, message second. Never log patient data or file contents. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What the host hands to every plugin when it is created. */
export interface Services {
  /** The id of this entry in the graph. */
  readonly id: string;
  readonly log: Log;
  /** The folder of the YAML file: relative paths in options are relative to it. */
  readonly baseDir: string;
  /** The folder in which the program keeps its own state (journal, dead letter, cache). */
  readonly stateDir: string;
  /** Aborted when the graph is being torn down. */
  readonly signal: AbortSignal;
  /** Resolves a path option against {@link baseDir}. */
  resolve(path: string): string;
}

/** Services of the process that a stage asks for: a name of its choice → the service's class (`Engine`). */
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
  /** Kebab-case; what stands after `use:`. */
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Strict schema of `with:`; every field has a `.describe()`, and a default where one makes sense. */
  readonly options: O;
  readonly examples?: readonly Example[];
  /** The plugin's own version; built-in ones carry rxray's. */
  readonly version?: string;
  /** The range of host versions it works with, as in npm: `^0.1.0`. */
  readonly rxray?: string;
  /**
   * What is wrong or suspicious about these settings at this place of the graph (a missing model
   * bundle, another preprocessing than in training). Asked by `rxray lint` and before a run starts.
   */
  lint?(
    settings: z.output<O>,
    context: LintContext,
  ): readonly LintMessage[] | Promise<readonly LintMessage[]>;
}

export interface LintContext {
  /** The folder of the YAML file. */
  readonly baseDir: string;
  /** The stages before this entry, first to last: of several in `from`, the first counts. Empty for a source. */
  readonly preceding: readonly PrecedingStage[];
  /** The stages of the graph with the columns that they offer; `undefined` where that is not known before a run. */
  columns?(): Promise<readonly { readonly stage: string; readonly columns: readonly Column[] | undefined }[]>;
}

export interface PrecedingStage {
  readonly use: string;
  /** Its settings, parsed. */
  readonly with: unknown;
  /** As its definition says. */
  readonly keepsPixels?: boolean | undefined;
  readonly limits?: readonly string[] | undefined;
}

export interface LintMessage {
  readonly severity: 'error' | 'warning';
  /** Default: CONFIG_REFUSED. */
  readonly code?: ErrorCode;
  /** The path of the option inside `with:`; empty for the entry as a whole. */
  readonly option: readonly string[];
  readonly message: string;
}

// ── sources ───────────────────────────────────────────────────────────────────────────────────────

/** A file that a source offers. It is a path, not pixels: what waits costs nothing. */
export interface Candidate {
  readonly path: string;
  /** The path inside the source, with forward slashes. */
  readonly name: string;
  readonly size: number;
  readonly mtimeMs: number;
  /**
   * Inode and change time, where the source has them. They tell a file from another one of the same size and
   * modification time that has taken its place (unpacked, restored, renamed over it).
   */
  readonly ino?: number | undefined;
  readonly ctimeMs?: number | undefined;
  /**
   * The folder (absolute, without links) in which the file must lie, by whatever links, at the moment at which it is
   * opened: between being offered and being read it may have been replaced. Outside, it fails with FRAME_OUTSIDE.
   */
  readonly within?: string;
  /** Set by the host for a film of the dead letter that is to run once more. */
  readonly replay?: Replay;
  /** Set by the host: the local copy that {@link SourceInstance.fetch} has made, to be read instead of `path`. */
  readonly copy?: Copy;
  /** Why it must not be read (a link out of the folder, say): the host fails it without opening it. */
  readonly error?: RxrayError;
}

export interface Replay {
  /** The id under which it lies in the dead letter. */
  readonly letter: string;
  /** The copy of its bytes there, to be read instead of the file itself. */
  readonly copy?: Copy;
}

/** A file with a film's bytes, elsewhere than the film itself. */
export type Copy = Pick<Candidate, 'path' | 'size' | 'mtimeMs'>;

/** What became of a frame. */
export type Outcome = 'done' | 'failed';

export interface SourceInstance {
  /**
   * Everything there is to take, as it becomes available; may offer the same file again (the journal
   * decides). Completes only when nothing will ever come again: with `once`, after one full scan.
   */
  readonly candidates$: Observable<Candidate>;
  /**
   * Looks at one file anew, by its name inside the source: as it would be offered now; nothing when it is gone. For
   * replays of films of which the dead letter has no copy.
   */
  look?(name: string): Promise<Candidate | undefined>;
  /**
   * For films that are not local files: brings the bytes to a file of this machine when it is the film's turn. The host
   * reads that file and deletes it once the film has settled; undefined for a local film. `maxBytes`: larger films fail with FRAME_TOO_LARGE.
   */
  fetch?(candidate: Candidate, maxBytes: number): Promise<Copy | undefined>;
  /**
   * Called when a frame is done or has failed and the journal says so: keep, move or delete the file. `sha256` is the
   * hash of the bytes that were processed (empty if they could not be read): what is at the path by now may be another
   * film, and nothing may be moved or deleted that has other bytes.
   */
  settle?(candidate: Candidate, outcome: Outcome, sha256: string): Promise<void>;
  /**
   * Called when a file that was offered was gone, or had changed, before it was read: the source offers it again when
   * it is there and complete.
   */
  lost?(candidate: Candidate): void;
  dispose?(): Promise<void> | void;
}

export interface SourceServices extends Services {
  /** True when the run ends as soon as everything that is there has been processed. */
  readonly once: boolean;
  /** The slice of a backfill that is to be offered. Absent: everything. */
  readonly part?: Part | undefined;
  /** Of these, the ones that the journal has not settled yet in the same size, mtime, inode and ctime. */
  unsettled(candidates: readonly Candidate[]): Promise<Candidate[]>;
  /**
   * Tells of a file or folder, by its name inside the source, that may hold films and cannot be taken: the user sees it,
   * and with `once` the run ends with code 1. To be called once for each.
   */
  unread(name: string, reason: string): void;
  /** The source cannot offer any films now, for this reason, or can again (null): `/readyz` and the page show it. */
  outage(reason: string | null): void;
}

export interface SourceDefinition<O extends Options = Options> extends Definition<O> {
  /**
   * Whether a file at this place (absolute) would be taken as a film: no sink may write there, or its results would be
   * films, and their results, without end.
   */
  takes?(settings: z.output<O>, path: string, baseDir: string): boolean | Promise<boolean>;
  /** Whether it can offer a slice of its films, each film in exactly one: see {@link SourceServices.part}. */
  readonly splits?: boolean;
  create(settings: z.output<O>, services: SourceServices): SourceInstance | Promise<SourceInstance>;
}

// ── stages ────────────────────────────────────────────────────────────────────────────────────────

/** A column that a stage offers to tabular sinks: read `path` inside the stage's result. */
export interface Column {
  readonly name: string;
  readonly path: readonly string[];
  /** Written only where the user names it. */
  readonly onRequest?: boolean;
}

interface StageCommon {
  /** What tabular sinks write of this stage by default, as `<stage id>.<name>`. */
  readonly columns?: readonly Column[];
  dispose?(): Promise<void> | void;
}

/** One frame in, one frame out. Throwing fails this frame alone. */
export interface FrameStage extends StageCommon {
  process(frame: Frame): Frame | Promise<Frame>;
}

/**
 * Several frames in, as many out, in the same order. All have images of one size, channel count and
 * sample type. When it throws, the host halves the batch until only the guilty frame fails.
 */
export interface BatchStage extends StageCommon {
  processBatch(frames: readonly Frame[]): Promise<readonly Frame[]>;
  /** The device that does the work: while it is idle, no batch waits for more frames. */
  readonly device?: Device;
}

/** Whatever executes batches. */
export interface Device {
  readonly idle: boolean;
  /** Emits each time it becomes idle. */
  readonly idle$: Observable<unknown>;
}

/**
 * A whole RxJS operator: must emit every frame exactly once, recognisable by its id, in any order.
 * When it errors, the host subscribes it anew and runs the frames that were inside one by one, so
 * that only the guilty one fails.
 */
export interface OperatorStage extends StageCommon {
  readonly operator: OperatorFunction<Frame, Frame>;
}

export type StageInstance = FrameStage | BatchStage | OperatorStage;

export interface StageDefinition<O extends Options = Options, N extends Needs = Needs> extends Definition<O> {
  /**
   * True for a stage that only adds results and never changes the image. The linter then does not count it as
   * preprocessing when it compares a graph with the training of a model behind it. Default false.
   */
  readonly keepsPixels?: boolean;
  /** Options that can only refuse an image, never change it (`maxPixels`): they may differ from training. */
  readonly limits?: readonly (keyof z.output<O> & string)[];
  /**
   * `worker` (the default): created in each worker thread, off the main thread; only frame stages.
   * `main`: for stages that mostly wait for something else (the engine, the network).
   */
  readonly runsIn?: 'worker' | 'main';
  /** Services of the process to hand to `create`, such as `{ engine: Engine }`. Needs `runsIn: 'main'`. */
  readonly needs?: N;
  /**
   * The columns that the instance will offer, found without making it (from a bundle's labels): `lint` checks what sinks
   * name against them. Absent: not known before the stage is made.
   */
  columns?(
    settings: z.output<O>,
    services: { resolve(path: string): string },
  ): readonly Column[] | Promise<readonly Column[]>;
  create(settings: z.output<O>, services: Services & Provided<N>): StageInstance | Promise<StageInstance>;
}

// ── sinks ─────────────────────────────────────────────────────────────────────────────────────────

export interface SinkInstance {
  /**
   * Takes frames and resolves when they are durably delivered: only then are they confirmed. One call at a
   * time. Must be idempotent by frame id: a replay after a crash delivers the same frame again.
   *
   * What it rejects with decides what the host does: {@link Unavailable} is an outage, in which frames wait
   * and are tried again for as long as it takes; an `RxrayError` `FRAME_…` refuses the frame for good,
   * `OUTPUT_…` ends the run; any other error is tried again as `retry:` says, and then refuses the frame. A
   * group is delivered one by one after a rejection, unless it was an outage. A sink therefore makes one
   * attempt, and leaves waiting, counting and giving up to the host.
   */
  write(frames: readonly Frame[]): Promise<void>;
  /** Flushes and closes. */
  dispose?(): Promise<void> | void;
}

export interface SinkServices extends Services {
  /** True when the user asked to process anew what was done before: what this run finds out supersedes it. */
  readonly again: boolean;
  /** The columns of the stages in the graph, in graph order: what tabular sinks write by default. */
  readonly columns: readonly { readonly stage: string; readonly column: Column }[];
  /** The stages of the graph, in graph order, with their parsed settings. */
  readonly stages: readonly { readonly id: string; readonly use: string; readonly with: unknown }[];
  /** Compiles an expression (CEL) over `file`, `id`, `origin`, `meta`, `results` and `verdict`; throws with its position when it does not parse. */
  expression(text: string): (frame: Frame) => unknown;
}

export interface SinkDefinition<O extends Options = Options> extends Definition<O> {
  /** How many frames one `write` may take. Default 1. */
  readonly maxBatch?: number;
  /**
   * Whether it needs images: `frame.image`, and those in results (residual maps). Default false: it gets
   * frames without. What has to wait for it in the journal holds the images then, and is large. A function where it
   * depends on the settings.
   */
  readonly pixels?: boolean | ((settings: z.output<O>) => boolean);
  /**
   * For a receiver that sees every attempt (a web server): the frame is in the journal before the first one,
   * so that a repetition after a crash has the same content, and not what the graph finds out by then (a
   * transactional outbox). Default false: enough where the first delivery of an id is the one that counts.
   */
  readonly outbox?: boolean;
  /** Whether two columns whose names differ in case only are one to it: the ids of stages must differ in more then. */
  readonly ignoresCase?: boolean;
  /**
   * The option with the path of the one file that it writes. In a part of a backfill the host has the sink write it in
   * the state folder, and gives it its name when the part is complete.
   */
  readonly output?: keyof z.output<O> & string;
  /** Files that it may write, one of each kind, relative to the pipeline file or absolute. */
  writes?(settings: z.output<O>): readonly string[];
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
