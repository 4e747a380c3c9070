import { Observable, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import type { SinkInstance } from '../plugin.js';
import { isLive, type Token } from './ticket.js';

/** A token that a sink is through with; `thrown` says why it did not take the frame. */
export interface Settlement {
  /** The sink's id. */
  readonly sink: string;
  readonly token: Token;
  readonly frame: Frame | null;
  readonly thrown?: unknown;
}

/**
 * Hands frames to a sink, in order and in groups of up to `maxBatch`, one `write` at a time. A group
 * that is refused is delivered again one by one, so that only the frames at fault fail. Emits one
 * settlement per token.
 */
export function deliverTo(
  id: string,
  sink: SinkInstance,
  maxBatch: number,
  now: () => Date,
): OperatorFunction<Token, Settlement> {
  return (tokens) =>
    new Observable((subscriber) => {
      const queue: { token: Token; frame: Frame }[] = [];
      let writing = false;
      let completed = false;

      async function drain(): Promise<void> {
        writing = true;
        while (queue.length > 0) await deliver(queue.splice(0, maxBatch));
        writing = false;
        if (completed) subscriber.complete();
      }

      async function deliver(group: readonly { token: Token; frame: Frame }[]): Promise<void> {
        try {
          await sink.write(group.map(({ frame }) => frame));
        } catch (thrown) {
          if (group.length > 1) {
            for (const each of group) await deliver([each]);
            return;
          }
          for (const { token, frame } of group) subscriber.next({ sink: id, token, frame, thrown });
          return;
        }
        for (const { token, frame } of group) subscriber.next({ sink: id, token, frame });
      }

      return tokens.subscribe({
        next: (token) => {
          if (!isLive(token)) {
            subscriber.next({ sink: id, token, frame: null });
            return;
          }
          queue.push({ token, frame: { ...token.frame, completedAt: now().toISOString() } });
          if (!writing) void drain();
        },
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          completed = true;
          if (!writing) subscriber.complete();
        },
      });
    });
}
