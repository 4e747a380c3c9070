/** The codes of engine errors: stable strings. */
export type EngineErrorCode =
  | 'missing-kernel'
  | 'symbolic-read'
  | 'random-in-trace'
  | 'frozen-batch'
  | 'trace-failed'
  | 'bad-model'
  | 'bad-feed'
  | 'missing-state'
  | 'device-unavailable'
  | 'missing-package'
  | 'worker-gone'
  | 'run-failed';

/** The engine's error class. The message says what was expected and what came instead. */
export class EngineError extends Error {
  override readonly name = 'EngineError';

  constructor(
    readonly code: EngineErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
