import { RxrayError } from '../../core/errors.js';
import type { Log } from '../../core/plugin.js';
import { EngineError } from '../../engine/index.js';

interface Disposable {
  dispose(): Promise<void>;
}

/**
 * Runs a native session, and makes it anew when it fails: once, since what fails again is not the session's fault. An
 * engine that is gone cannot be made anew: that ends the run (RUN_STOPPED) rather than costing every film that comes.
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
    this.log.warn({ stage: this.stage }, `the model failed and is loaded anew: ${error.message}`);
    await this.#first.dispose().catch(() => undefined);
    this.session = await this.open();
    return this.session;
  }

  async dispose(): Promise<void> {
    await this.session.dispose();
  }
}
