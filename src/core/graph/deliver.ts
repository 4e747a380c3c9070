import { mergeMap, Observable, type OperatorFunction } from 'rxjs';
import type { Outlet } from '../outlets/outlet.js';
import { isLive, type SinkAnswer, type Token } from '../flow/ticket.js';

/**
 * Delivers frames to a sink: one answer per token. Completes when the outlet has finished; errors when the run cannot
 * continue. `sinks` is the number of the graph's sinks: a film that has reached all of them has passed all stages.
 */
export function deliver(sink: string, outlet: Outlet, sinks: number): OperatorFunction<Token, SinkAnswer> {
  return (tokens) =>
    new Observable((subscriber) => {
      outlet.run().then(
        () => subscriber.complete(),
        (error: unknown) => subscriber.error(error),
      );
      const subscription = tokens.pipe(mergeMap(settle)).subscribe({
        next: (answer) => subscriber.next(answer),
        error: (error: unknown) => subscriber.error(error),
        complete: () => outlet.end(),
      });
      return () => {
        outlet.close();
        subscription.unsubscribe();
      };
    });

  async function settle(token: Token): Promise<SinkAnswer> {
    const { ticket, frame } = token;
    ticket.reached.add(sink);
    if (ticket.reached.size === sinks) await ticket.passed();
    if (!isLive(token)) return { sink, token, frame: null, kind: 'skip' };
    // The sink has confirmed it, or it is parked for the sink.
    if (ticket.delivered.has(sink)) return { sink, token, frame, kind: 'park' };
    const answer = await outlet.deliver({ ...token.frame, completedAt: new Date().toISOString() });
    return { sink, token, frame, ...answer };
  }
}
