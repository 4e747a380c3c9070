/**
 * Every error that rxray raises on purpose, in one table: code → what it means. `docs/errors.md` is
 * kept equal to it by a test.
 */
export const ERROR_CODES = {
  // configuration: collected, shown with line and caret, exit code 2
  CONFIG_NOT_FOUND: 'The pipeline file cannot be read.',
  CONFIG_SYNTAX: 'The pipeline file is not valid YAML.',
  CONFIG_UNKNOWN_KEY: 'A key that is not known at this place.',
  CONFIG_INVALID: 'A value of the wrong type or out of range, or a missing key.',
  CONFIG_UNKNOWN_PLUGIN: 'No plugin of that name and kind is built in or installed.',
  CONFIG_PLUGIN_BROKEN: 'The plugin module cannot be loaded, or does not export a plugin.',
  CONFIG_PLUGIN_INCOMPATIBLE: 'The plugin was made for another version of rxray.',
  CONFIG_DUPLICATE_ID: 'Two entries share an id.',
  CONFIG_UNKNOWN_ID: '`from` names an id that does not exist.',
  CONFIG_CYCLE: 'The graph runs in a circle.',
  CONFIG_EXPRESSION: 'An expression does not parse.',
  CONFIG_ENV_MISSING: 'An environment variable is not set and has no default.',
  CONFIG_UNUSED: 'A stage whose output reaches no sink (a warning).',
  CONFIG_REFUSED: 'A plugin found fault with its settings or its place in the graph.',
  CONFIG_CREATE: 'A plugin refused its settings when it was created.',
  // frames: the file goes to the dead letter, the run goes on, exit code 1
  FRAME_UNREADABLE: 'The file cannot be read.',
  FRAME_TOO_LARGE: 'The file or the image is larger than allowed.',
  FRAME_EMPTY: 'The file is empty.',
  FRAME_NOT_AN_IMAGE: 'The file is not an image of a known format.',
  FRAME_DAMAGED: 'The image is truncated or damaged.',
  FRAME_UNSUPPORTED: 'The image uses a feature that is not supported.',
  FRAME_OUTSIDE: 'The file lies outside the watched folder (a symbolic link).',
  FRAME_STAGE: 'A stage failed on the frame.',
  FRAME_EXPRESSION: 'An expression failed on the frame.',
  FRAME_SINK: 'A sink refused the frame.',
  // the dead letter: exit code 2
  DEADLETTER_UNKNOWN: 'No film of that id is in the dead letter.',
  // models: exit code 2 when found before the start, a failed frame when found on a frame
  BUNDLE_NOT_FOUND: 'The model bundle does not exist.',
  BUNDLE_DAMAGED: 'A file of the bundle is damaged or does not fit the others.',
  BUNDLE_SHAPE: 'The image does not have the size that the bundle was trained on.',
  // training and evaluation: exit code 2
  TRAINING_DATA: 'The films for training or evaluation cannot be used.',
  TRAINING_RESUME: 'The checkpoint does not belong to this training.',
  // models from elsewhere: exit code 2
  IMPORT_REFUSED: 'The model does not fit what was said of it.',
  // looking at a running process: exit code 2
  CONTROL_NOT_RUNNING: 'No process runs the graph of that state folder.',
  CONTROL_REFUSED: 'The running process cannot give what was asked for.',
  CONTROL_ADDRESS: 'The page cannot be served at that address.',
  // fatal: the run ends, exit code 3
  RUN_STOPPED: 'The run cannot go on: an entry with `onError: stop` failed, or the engine has died.',
  STATE_UNWRITABLE: 'The folder for the journal and the dead letter cannot be written.',
  STATE_DAMAGED: 'The journal is damaged.',
  STATE_LOCKED: 'Another process is using the same journal.',
  OUTPUT_UNWRITABLE: 'A sink cannot write its output.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** A place in the pipeline file, both counted from 1. */
export interface Location {
  readonly line: number;
  readonly column: number;
}

export interface ErrorDetails {
  /** The entry of the graph that raised it. */
  readonly component?: string | undefined;
  readonly location?: Location | undefined;
  readonly cause?: unknown;
}

/** An error with a greppable code. The message says what was expected, what came instead, and where. */
export class RxrayError extends Error {
  readonly code: ErrorCode;
  readonly component: string | undefined;
  readonly location: Location | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'RxrayError';
    this.code = code;
    this.component = details.component;
    this.location = details.location;
  }

  /** Errors of another copy of this class count, too: a plugin may have been loaded with its own rxray. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== RxrayError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return (
      value instanceof Error &&
      'code' in value &&
      typeof value.code === 'string' &&
      Object.hasOwn(ERROR_CODES, value.code)
    );
  }
}

/**
 * Thrown by a sink whose receiver takes nothing now and may later: no frame is at fault. The host asks again
 * with growing waits, at the earliest after `retryAfterMs`, and the frames wait in the journal meanwhile.
 */
export class Unavailable extends Error {
  constructor(
    message: string,
    readonly retryAfterMs = 0,
  ) {
    super(message);
    this.name = 'Unavailable';
  }
}

/** The text of whatever was thrown (libraries throw strings and numbers, too). */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  if (typeof thrown === 'object' && thrown !== null && 'exception' in thrown) return String(thrown.exception);
  return String(thrown);
}

/** Whether the error ends the run: there is no place to write, or the graph wants it so. Others cost a frame. */
export function isFatal({ code }: RxrayError): boolean {
  return /^(?:STATE|OUTPUT|RUN)_/.test(code);
}
