import { map, merge, Observable } from 'rxjs';
import { sealed, type Frame } from '../frame.js';
import { isLive, type Ticket, type Token } from '../flow/ticket.js';

/**
 * Joins the branches of a frame, by identity. Every branch emits one token per ticket, so a frame waits until all its
 * branches have emitted. The joined frame has the pixels and metadata of the first branch in `inputs` that has the
 * frame, and the results of all.
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

/** Joins several versions of a frame; null if there are none. */
export function combine([first, ...others]: readonly Frame[]): Frame | null {
  if (first === undefined) return null;
  return others.reduce(
    (joined, other) =>
      sealed({
        ...joined,
        meta: { ...other.meta, ...joined.meta },
        results: { ...joined.results, ...other.results },
      }),
    first,
  );
}
