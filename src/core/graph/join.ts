import { map, merge, Observable } from 'rxjs';
import type { Frame } from '../frame.js';
import { isLive, type Ticket, type Token } from '../flow/ticket.js';

/**
 * Brings the branches of a frame together again, by identity. Every branch yields one token per
 * ticket, so a frame waits exactly until all its branches have spoken. The pixels and metadata of
 * the first branch in `inputs` that has the frame win; the results of all are kept.
 */
export function joinBranches(inputs: readonly Observable<Token>[]): Observable<Token> {
  return new Observable((subscriber) => {
    const waiting = new Map<Ticket, (Token | undefined)[]>();
    const indexed = inputs.map((input, index) => input.pipe(map((token) => ({ token, index }))));
    return merge(...indexed).subscribe({
      next: ({ token, index }) => {
        const { ticket } = token;
        const tokens = waiting.get(ticket) ?? Array<Token | undefined>(inputs.length).fill(undefined);
        tokens[index] = token;
        waiting.set(ticket, tokens);
        if (!tokens.every((each) => each !== undefined)) return;
        waiting.delete(ticket);
        const frames = tokens.filter(isLive).map(({ frame }) => frame);
        subscriber.next({ ticket, frame: ticket.failure === undefined ? combine(frames) : null });
      },
      error: (error: unknown) => subscriber.error(error),
      complete: () => subscriber.complete(),
    });
  });
}

/** One frame of several versions of it; null of none. */
export function combine([first, ...others]: readonly Frame[]): Frame | null {
  if (first === undefined) return null;
  return others.reduce(
    (joined, other) => ({
      ...joined,
      meta: { ...other.meta, ...joined.meta },
      results: { ...joined.results, ...other.results },
    }),
    first,
  );
}
