/** First in, first out. Unbounded: the run's credit limits frames in flight. */
export class Queue<T> {
  #items: T[] = [];

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Removes and returns the first items, at most `limit`; all by default. */
  take(limit = Infinity): T[] {
    return this.#items.splice(0, Math.min(limit, this.#items.length));
  }
}
