/** What waits for its turn, first in, first out. It has no bound: the run's credit limits what is in flight. */
export class Queue<T> {
  #items: T[] = [];

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Removes the first ones, at most `limit`; all by default. */
  take(limit = Infinity): T[] {
    return this.#items.splice(0, Math.min(limit, this.#items.length));
  }
}
