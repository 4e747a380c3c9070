import { messageOf, RxrayError } from '../../core/errors.js';
import type { Log } from '../../core/plugin.js';
import { EngineError } from '../../engine/errors.js';

interface Disposable {
  dispose(): Promise<void>;
}

/**
 * Runs a native session. If it fails, creates a new session and retries once: a second failure is not the session's
 * fault. An engine that has died cannot be replaced: that ends the run (RUN_STOPPED), instead of failing all further
 * films.
 */
export class RebuiltOnce<S extends Disposable> {
  readonly #first: S;
  #rebuilding: Promise<S> | undefined;

  private constructor(
    private session: S,
    private readonly open: () => Promise<S>,
    private readonly log: Log,
    private readonly stage: string,
  ) {
    this.#first = session;
  }

  static async open<S extends Disposable>(
    open: () => Promise<S>,
    log: Log,
    stage: string,
  ): Promise<RebuiltOnce<S>> {
    return new RebuiltOnce(await open(), open, log, stage);
  }

  get current(): S {
    return this.session;
  }

  async use<T>(act: (session: S) => Promise<T>): Promise<T> {
    const tried = this.session;
    try {
      return await act(tried);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      if (error.code === 'worker-gone') {
        throw new RxrayError('RUN_STOPPED', error.message, { component: this.stage, cause: error });
      }
      if (error.code !== 'run-failed' || tried !== this.#first) throw error;
      this.#rebuilding ??= this.#rebuild(error);
      return act(await this.#rebuilding);
    }
  }

  async #rebuild(error: EngineError): Promise<S> {
    this.log.warn({ stage: this.stage }, `the model failed and is loaded again: ${error.message}`);
    await this.#first.dispose().catch(() => undefined);
    try {
      this.session = await this.open();
    } catch (cause) {
      const message = `the model failed and cannot be loaded again: ${messageOf(cause)}`;
      throw new RxrayError('RUN_STOPPED', message, { component: this.stage, cause });
    }
    return this.session;
  }

  async dispose(): Promise<void> {
    await this.session.dispose();
  }
}
