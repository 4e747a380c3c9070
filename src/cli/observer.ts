import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { InvalidArgumentError } from 'commander';
import type { Subscription } from 'rxjs';
import type { Reloaded } from '../control/app.js';
import { ControlServer, type Listen } from '../control/serve.js';
import { Worklist } from '../control/worklist.js';
import type { Pipeline } from '../core/config/pipeline.js';
import { messageOf } from '../core/errors.js';
import { codeOf } from '../core/files.js';
import type { Engine } from '../engine/engine.js';
import { Monitor } from '../core/monitor/monitor.js';
import type { Log } from '../core/plugin.js';
import type { PipelineRun } from '../core/run.js';

const HOST = '127.0.0.1';
/** The default address of `--page`. */
export const PAGE = `${HOST}:8484`;
/** Wait before the page is tried again. */
const PAGE_AGAIN_MS = 5000;
const PAGE_DIR = fileURLToPath(new URL('../../dist/page', import.meta.url));

/** The global that OpenTelemetry's API sets when an SDK registers. */
const OPENTELEMETRY = Symbol.for('opentelemetry.js.api.1');

/** Shows a run to others: `top` and `tap` over its socket, browsers over the page, a collector of traces. */
export class Observer {
  readonly monitor = new Monitor();
  readonly #worklist: Worklist;
  readonly #server: ControlServer;
  #traces: Subscription | undefined;
  #run: PipelineRun | undefined;
  #reload: (() => Promise<Reloaded>) | undefined;
  #pageTimer: NodeJS.Timeout | undefined;
  /** Whether the run takes no more films. */
  stopping = false;

  constructor(
    private readonly pipeline: Pipeline,
    log: Log,
    engine: () => Promise<Engine>,
  ) {
    const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
    this.#worklist = new Worklist(pipeline.stateDir, this.monitor, log);
    const controlled = {
      version,
      monitor: this.monitor,
      worklist: this.#worklist,
      run: () => this.#run,
      stopping: () => this.stopping,
      reload: async () => this.#reload?.() ?? { taken: false, message: 'the graph is not running yet' },
      engine,
      pageDir: PAGE_DIR,
    };
    this.#server = new ControlServer(controlled, log);
    if (OPENTELEMETRY in globalThis) {
      void import('../control/tracing.js').then(
        ({ traceFilms }) => (this.#traces = traceFilms(this.monitor, version)),
      );
    }
  }

  /**
   * Serves the page and returns its address. If the address is not available yet (an earlier process is still ending,
   * the network is not up), logs that and tries again while the graph runs; with `orAnother`, a port in use is replaced
   * by a free one. Throws CONTROL_ADDRESS.
   */
  async servePage(listen: Listen, say: (line: string) => void): Promise<string | undefined> {
    try {
      return await this.#server.listenOnPort(listen);
    } catch (error) {
      const code = codeOf((error as Error).cause);
      if (listen.orAnother === true && code === 'EADDRINUSE') {
        say(`port ${String(listen.port)} is in use: the page gets another one`);
        return this.#server.listenOnPort({ ...listen, port: 0 });
      }
      if (code === undefined || !PASSING.has(code)) throw error;
      say(`${messageOf(error)}: the graph runs without it meanwhile`);
    }
    const again = async (): Promise<void> => {
      try {
        say(`the page is at ${await this.#server.listenOnPort(listen)}`);
      } catch {
        this.#pageTimer = setTimeout(() => void again(), PAGE_AGAIN_MS).unref();
      }
    };
    this.#pageTimer = setTimeout(() => void again(), PAGE_AGAIN_MS).unref();
    return undefined;
  }

  /** The run has begun: this process holds the state folder. */
  async observe(run: PipelineRun, reload: () => Promise<Reloaded>): Promise<void> {
    this.#run = run;
    this.#reload = reload;
    await this.#server.listenOnSocket(this.pipeline.stateDir);
  }

  async close(): Promise<void> {
    clearTimeout(this.#pageTimer);
    this.#traces?.unsubscribe();
    await this.#server.close();
    await this.#worklist.close();
  }
}

/** With these errors the address may become available. */
const PASSING: ReadonlySet<string> = new Set(['EADDRINUSE', 'EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN']);

/** `8484`, `127.0.0.1:8484`, `[::1]:8484`. */
export function parseListen(value: string): Listen {
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:]+)):)?(\d+)$/.exec(value) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw new InvalidArgumentError(`expected a port or host:port, got "${value}"`);
  }
  return { host: bracketed ?? plain ?? HOST, port };
}
