import { errorKind, isFatal } from '../errors.js';

/** What came of a write: the items that were in it, and what it threw. */
export interface Attempt<T> {
  readonly items: readonly T[];
  readonly thrown?: unknown;
}

/**
 * Writes a group. When that fails, and neither an outage nor a fatal error is the reason, writes its items one by one,
 * so that only the one at fault fails. Whoever stops iterating leaves the rest unwritten.
 */
export async function* apart<T>(
  items: readonly T[],
  write: (items: readonly T[]) => Promise<void>,
): AsyncGenerator<Attempt<T>> {
  try {
    await write(items);
  } catch (thrown) {
    if (items.length > 1 && !isFatal(thrown) && errorKind(thrown) !== 'outage') {
      for (const item of items) yield* apart([item], write);
    } else {
      yield { items, thrown: thrown ?? new Error('it was rejected without a reason') };
    }
    return;
  }
  yield { items };
}
