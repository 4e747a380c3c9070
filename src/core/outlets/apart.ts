import { errorKind, isFatal } from '../errors.js';

/** The items of a write, and what the write threw. */
export interface Attempt<T> {
  readonly items: readonly T[];
  readonly thrown?: unknown;
}

/**
 * Writes a group. If that fails, except by an outage or a fatal error, writes its items one by one, so that only the
 * faulty one fails. If the caller stops iterating, the rest is not written.
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
      yield { items, thrown: thrown ?? new Error('the write was rejected without a reason') };
    }
    return;
  }
  yield { items };
}
