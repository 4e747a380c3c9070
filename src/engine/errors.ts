/** What went wrong in the engine; stable strings that callers may switch on. */
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

/** The only error the engine throws on purpose. The message says what was expected and what came instead. */
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
