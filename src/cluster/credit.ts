/** A limit on the sum of what is taken. One alone may exceed it. */
export class Credit {
  #taken = 0;

  constructor(private readonly limit: number) {}

  /** Returns a function that gives it back, once; undefined if there is too little left now. */
  take(amount: number): (() => void) | undefined {
    if (this.#taken > 0 && this.#taken + amount > this.limit) return undefined;
    this.#taken += amount;
    let left = amount;
    return () => {
      this.#taken -= left;
      left = 0;
    };
  }
}
