import { availableParallelism } from 'node:os';
import type { Done, Lane } from './lane.js';
import type { Request } from './protocol.js';

interface CopiesOptions {
  /** The lane that has the model from the start, and its state. */
  readonly first: Lane;
  /** The other lanes that may have it. */
  readonly more: () => readonly Lane[];
  readonly load: (lane: Lane) => Promise<unknown>;
  /** Called when it could not be loaded again. It is not tried a second time. */
  readonly onFailure: (reason: string) => void;
}

/** For so long a model's lanes must have had no pause before it is loaded again, which takes memory. */
const BUSY_MS = 250;
/** Share of all processors from which this process uses them fully: another copy could not add anything. */
const FULL = 0.95;

/**
 * The copies of a model: the first, and one in each other lane from the time when these have no pause although the
 * processors have.
 */
export class Copies {
  readonly #options: CopiesOptions;
  readonly #loaded: Lane[];
  #loading: Promise<void> | undefined;
  #sample = sampleNow();
  #isReleased = false;

  constructor(options: CopiesOptions) {
    this.#options = options;
    this.#loaded = [options.first];
  }

  async call(request: Request, priority: number, name: string): Promise<Done> {
    const { first } = this.#options;
    if (request.type === 'run') return this.#quietest().call(request, priority, name);
    if (request.type !== 'release') return first.call(request, priority, name);
    this.#isReleased = true;
    await this.#loading;
    const [done] = await Promise.all(this.#loaded.map((lane) => lane.call(request, priority, name)));
    return done as Done;
  }

  #quietest(): Lane {
    const quietest = this.#loaded.reduce((best, lane) => (lane.calls < best.calls ? lane : best));
    if (this.#loading === undefined && !this.#isReleased && this.#isWorthwhile(quietest)) {
      this.#loading = this.#loadAgain();
    }
    return quietest;
  }

  #isWorthwhile({ calls, busyMs }: Lane): boolean {
    const [before, now] = [this.#sample, sampleNow()];
    if (calls > 0 && now.ms - before.ms < BUSY_MS) return false;
    this.#sample = now;
    const most = FULL * availableParallelism() * (now.ms - before.ms);
    return busyMs >= BUSY_MS && now.cpuMs - before.cpuMs < most;
  }

  async #loadAgain(): Promise<void> {
    const { more, load, onFailure } = this.#options;
    try {
      for (const lane of more()) {
        await load(lane);
        this.#loaded.push(lane);
      }
    } catch (error) {
      onFailure(error instanceof Error ? error.message : String(error));
    }
  }
}

/** Processor time of all threads of this process. */
function sampleNow(): { readonly ms: number; readonly cpuMs: number } {
  const { user, system } = process.cpuUsage();
  return { ms: performance.now(), cpuMs: (user + system) / 1000 };
}
