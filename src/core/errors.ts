/** The consequences of errors of one kind, and how a command and the HTTP interface report them. */
interface Kind {
  /** The heading in `docs/errors.md`. */
  readonly title: string;
  /** What happens to the film, the run or the command. */
  readonly consequence: string;
  /**
   * The exit code of a command that ends with it: 0 no failure, 1 some films failed, 2 usage or configuration, 3 fatal.
   */
  readonly exit: 0 | 1 | 2 | 3;
  /** The HTTP status of a request that fails with it. */
  readonly status: 404 | 422 | 500 | 503;
}

export const ERROR_KINDS = {
  config: {
    title: 'Configuration',
    consequence: 'All problems are collected and shown with line and caret before anything starts.',
    exit: 2,
    status: 422,
  },
  frame: {
    title: 'Frames',
    consequence: 'The film goes to the dead letter with its reason, and the run continues.',
    exit: 1,
    status: 422,
  },
  skip: {
    title: 'Skipped files',
    consequence:
      'The file stays in its place and reaches no sink. It is counted and named as skipped, not as a failure.',
    exit: 0,
    status: 422,
  },
  outage: {
    title: 'Outages',
    consequence: 'No film fails: films wait in the journal, and the sink is retried.',
    exit: 1,
    status: 503,
  },
  deadLetter: {
    title: 'Dead letter',
    consequence: 'The command or request is refused.',
    exit: 2,
    status: 404,
  },
  model: {
    title: 'Models',
    consequence:
      'Before the start: nothing starts. On a frame: the film goes to the dead letter, exit code 1.',
    exit: 2,
    status: 422,
  },
  training: { title: 'Training', consequence: 'The training does not start.', exit: 2, status: 422 },
  import: { title: 'Imported models', consequence: 'Nothing is imported.', exit: 2, status: 422 },
  control: {
    title: 'A running process',
    consequence: 'Reported by `rxray top`, `tap`, `graph --live` and `run --page`.',
    exit: 2,
    status: 404,
  },
  fatal: { title: 'Fatal', consequence: 'The run ends.', exit: 3, status: 500 },
} as const satisfies Record<string, Kind>;

export type ErrorKind = keyof typeof ERROR_KINDS;

/** One row of the table. */
interface ErrorRow extends Pick<Kind, 'exit' | 'status'> {
  readonly kind: ErrorKind;
  readonly meaning: string;
  /** What the user should do. */
  readonly remedy: string;
}

function row(kind: ErrorKind, meaning: string, remedy: string, status?: Kind['status']): ErrorRow {
  const { exit, status: usual } = ERROR_KINDS[kind];
  return { kind, meaning, remedy, exit, status: status ?? usual };
}

/**
 * All error codes, with their consequences. `npm run reference` generates `docs/errors.md` from this table, and a test
 * compares the two.
 */
export const ERRORS = {
  CONFIG_NOT_FOUND: row(
    'config',
    'The pipeline file cannot be read.',
    'Check the path; the file must be UTF-8 text of at most 1 MiB.',
  ),
  CONFIG_SYNTAX: row(
    'config',
    'The pipeline file is not valid YAML.',
    'Look at the caret and the line above it: tabs, a missing quote, a bracket left open.',
  ),
  CONFIG_UNKNOWN_KEY: row(
    'config',
    'An unknown key.',
    "The plugin's options belong under `with:`. `rxray plugins NAME` lists them.",
  ),
  CONFIG_INVALID: row(
    'config',
    'A value of the wrong type or out of range, or a missing key.',
    '`rxray plugins NAME` shows types, ranges and defaults.',
  ),
  CONFIG_UNKNOWN_PLUGIN: row(
    'config',
    'No plugin of that name and kind is built in or installed.',
    '`rxray plugins` lists what is built in. A file of your own begins with `./`.',
  ),
  CONFIG_PLUGIN_BROKEN: row(
    'config',
    'The plugin module cannot be loaded, or does not export a plugin.',
    "The message is the module's own. It needs `export default defineStage({ … })`.",
  ),
  CONFIG_PLUGIN_INCOMPATIBLE: row(
    'config',
    'The plugin was made for another version of rxray.',
    'Update the plugin, or rxray.',
  ),
  CONFIG_DUPLICATE_ID: row(
    'config',
    'Two entries share an id.',
    "Give one of them an `id:`. The default is the plugin's name.",
  ),
  CONFIG_UNKNOWN_ID: row(
    'config',
    '`from` names an id that does not exist.',
    'Name a source or a stage; a sink has no output.',
  ),
  CONFIG_CYCLE: row(
    'config',
    'The graph has a loop.',
    'The message names the loop: change one `from:` of it.',
  ),
  CONFIG_EXPRESSION: row(
    'config',
    'An expression does not parse.',
    'See [expressions](pipeline.md#expressions).',
  ),
  CONFIG_ENV_MISSING: row(
    'config',
    'An environment variable is not set and has no default.',
    'Set it, or write `${NAME:-default}`.',
  ),
  CONFIG_UNUSED: row(
    'config',
    'A stage whose output reaches no sink (a warning).',
    'Name it in a `from:`, or remove it.',
  ),
  CONFIG_PREPROCESSING: row(
    'config',
    'The stages before a model differ from those of its training (a warning).',
    "Take the stages from the bundle's card: a model whose input differs from training gives other scores.",
  ),
  CONFIG_ADVICE: row(
    'config',
    'A plugin advises against its settings or its place in the graph (a warning).',
    "The message is the plugin's own.",
  ),
  CONFIG_REFUSED: row(
    'config',
    'A plugin refused its settings or its place in the graph.',
    "The message is the plugin's own.",
  ),
  CONFIG_CREATE: row(
    'config',
    'A plugin refused its settings when it was created.',
    "The message is the plugin's own.",
  ),
  FRAME_UNREADABLE: row('frame', 'The file cannot be read.', 'Check its permissions.', 404),
  FRAME_TOO_LARGE: row(
    'frame',
    'The file or the image is larger than allowed.',
    'Raise `limits.bytes`, or the option of the stage that the message names.',
  ),
  FRAME_EMPTY: row('frame', 'The file is empty.', 'Send it again.'),
  FRAME_NOT_AN_IMAGE: row(
    'frame',
    'The file is not an image of a known format.',
    "Exclude such files with the source's `exclude`.",
  ),
  FRAME_DAMAGED: row('frame', 'The image is truncated or damaged.', 'Send it again.'),
  FRAME_UNSUPPORTED: row('frame', 'The image uses a feature that is not supported.', 'Convert it.'),
  FRAME_NO_PIXELS: row(
    'skip',
    'A DICOM object without pixels: a report, a document, a waveform, a DICOMDIR.',
    'None, unless a film was expected. `rxray run --failed` processes it again.',
  ),
  FRAME_OUTSIDE: row(
    'frame',
    'The file lies outside the watched folder (a symbolic link).',
    'Put the file itself into the folder.',
  ),
  FRAME_STAGE: row('frame', 'A stage failed on the frame.', "The message is the stage's own."),
  FRAME_EXPRESSION: row(
    'frame',
    'An expression failed on the frame.',
    'A field was missing or had another type: see [expressions](pipeline.md#expressions).',
  ),
  FRAME_CRASH: row(
    'frame',
    'The process ended three times while the film was in a stage.',
    "Check the file, and the system's log at the times when the process ended. `rxray deadletter replay` processes it again.",
  ),
  FRAME_SINK: row('frame', 'A sink refused the frame.', "The message is the sink's own."),
  SINK_UNAVAILABLE: row(
    'outage',
    'The receiver of a sink is not available, or a write timed out.',
    'Check the receiver. The films wait in the journal until it answers.',
  ),
  DEADLETTER_UNKNOWN: row(
    'deadLetter',
    'The dead letter has no film of that id.',
    '`rxray deadletter ls` lists all of them.',
  ),
  DEADLETTER_DAMAGED: row(
    'deadLetter',
    'The `reason.json` of a film in the dead letter is damaged.',
    'The copy of the film is intact: put it into the inbox again, and discard the entry.',
  ),
  BUNDLE_NOT_FOUND: row(
    'model',
    'The model bundle does not exist.',
    'Check the path, or train one: `rxray train --help`.',
  ),
  BUNDLE_DAMAGED: row(
    'model',
    'A file of the bundle is damaged or does not match the others.',
    'Copy the bundle again.',
  ),
  BUNDLE_SHAPE: row(
    'model',
    'The image does not have the size that the bundle was trained on.',
    'Put a `resize` before the model; `bundle.json` has the size.',
  ),
  BUNDLE_PLACE: row(
    'training',
    'The folder for a new bundle holds other files, or cannot be written.',
    'Give `--out` a new folder, an empty one, or one with an earlier bundle.',
  ),
  TRAINING_DATA: row(
    'training',
    'The films for training or evaluation cannot be used.',
    'The message names them and the reason.',
  ),
  TRAINING_RESUME: row(
    'training',
    'The checkpoint does not belong to this training.',
    'Resume with the same options and films, or start again without `--resume`.',
  ),
  IMPORT_REFUSED: row(
    'import',
    'The model does not match the options.',
    'The message says what the model expects or returns: correct `--labels`, `--layout`, `--size`, `--range`, `--mean` or `--std`, or raise `--timeout`.',
  ),
  CONTROL_NOT_RUNNING: row(
    'control',
    'No process is running with that state folder.',
    'Start it with `rxray run`, or name its pipeline file.',
    503,
  ),
  CONTROL_REFUSED: row(
    'control',
    'The running process refused the request.',
    "The message is the process's own.",
  ),
  CONTROL_ADDRESS: row(
    'control',
    'The page cannot be served at that address.',
    "Another program has the port, or the address is not this machine's: choose another with `--page`.",
  ),
  RUN_STOPPED: row(
    'fatal',
    'The run cannot go on: an entry with `onError: stop` failed, `maxErrors` films have failed, a model does not answer, or the engine has died.',
    'The message says which. Films that are not done come again at the next start.',
  ),
  STATE_UNWRITABLE: row(
    'fatal',
    'The folder for the journal and the dead letter cannot be written.',
    'Check its permissions and the space on the disk, or choose another folder with `state:`.',
  ),
  STATE_DAMAGED: row(
    'fatal',
    'The journal, or the key for DICOM UIDs, is damaged.',
    'A damaged journal was renamed, and the next start creates a new one: films still in the folder are processed again, and sinks ignore films that they already have. The message says what to do about the key.',
  ),
  STATE_LOCKED: row(
    'fatal',
    'Another process is using the same journal.',
    'End it, or give this pipeline a `state:` of its own.',
  ),
  OUTPUT_UNWRITABLE: row(
    'fatal',
    'A sink cannot write its output.',
    'Check the permissions and the space on the disk.',
  ),
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** A position in the pipeline file, counted from 1. */
export interface Location {
  readonly line: number;
  readonly column: number;
}

export interface ErrorDetails {
  /** The source, stage or sink that raised it. */
  readonly component?: string | undefined;
  readonly cause?: unknown;
}

/** An error with a code. The message says what was expected, what came instead, and where. */
export class RxrayError extends Error {
  readonly code: ErrorCode;
  readonly component: string | undefined;

  constructor(code: ErrorCode, message: string, { component, cause }: ErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'RxrayError';
    this.code = code;
    this.component = component;
  }

  /** Also true for errors of another copy of this class: a plugin may be loaded with its own rxray. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== RxrayError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return (
      value instanceof Error &&
      'code' in value &&
      typeof value.code === 'string' &&
      Object.hasOwn(ERRORS, value.code)
    );
  }
}

/**
 * Thrown by a sink whose receiver is temporarily unavailable. The host retries with growing waits, at the earliest
 * after `retryAfterMs`; the frames wait in the journal meanwhile.
 */
export class Unavailable extends RxrayError {
  constructor(
    message: string,
    readonly retryAfterMs = 0,
  ) {
    super('SINK_UNAVAILABLE', message);
    this.name = 'Unavailable';
  }
}

/** The message of a thrown value (libraries throw strings and numbers too). */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  if (typeof thrown === 'object' && thrown !== null && 'exception' in thrown) return String(thrown.exception);
  return String(thrown);
}

/** The kind of an RxrayError; undefined for other errors. */
export function errorKind(thrown: unknown): ErrorKind | undefined {
  return thrown instanceof RxrayError ? ERRORS[thrown.code].kind : undefined;
}

/** Whether the code means that a file is skipped, which is not a failure. */
export function isSkip(code: ErrorCode | null | undefined): boolean {
  return code != null && ERRORS[code].kind === 'skip';
}

/** Whether the error ends the run. Other errors fail one frame. */
export function isFatal(thrown: unknown): thrown is RxrayError {
  return errorKind(thrown) === 'fatal';
}

/** The exit code of a command that ends with this error; unexpected errors are fatal. */
export function exitCodeOf(thrown: unknown): number {
  return thrown instanceof RxrayError ? ERRORS[thrown.code].exit : ERROR_KINDS.fatal.exit;
}
