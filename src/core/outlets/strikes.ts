/**
 * Counts how often a sink has failed on each frame. During an outage a failure counts only if the sink has taken other
 * frames since the last one: otherwise the sink is the cause.
 */
export class Strikes {
  #successes = 0;
  readonly #strikes = new Map<string, { readonly count: number; readonly successes: number }>();

  /** The sink has taken a group. */
  success(): void {
    this.#successes += 1;
  }

  /** The sink has failed on the frame; returns its count. */
  strike(id: string, outage: boolean): number {
    const before = this.#strikes.get(id) ?? { count: 0, successes: -1 };
    const counts = !outage || this.#successes > before.successes;
    const count = before.count + (counts ? 1 : 0);
    this.#strikes.set(id, { count, successes: this.#successes });
    return count;
  }

  forget(id: string): void {
    this.#strikes.delete(id);
  }
}
