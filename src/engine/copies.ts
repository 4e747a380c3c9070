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

/** The copies of a model: the first, and one in each other lane from the time when these have no pause. */
export class Copies {
  readonly #options: CopiesOptions;
  readonly #loaded: Lane[];
  #loading: Promise<void> | undefined;
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
    if (quietest.busyMs >= BUSY_MS && !this.#isReleased) this.#loading ??= this.#loadAgain();
    return quietest;
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
