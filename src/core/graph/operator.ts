import {
  lastValueFrom,
  Observable,
  of,
  Subject,
  Subscription,
  throwIfEmpty,
  type OperatorFunction,
} from 'rxjs';
import type { Frame } from '../frame.js';
import type { OperatorStage } from '../plugin.js';
import type { FailurePolicy } from './failure-policy.js';
import { GroupFailure } from '../whole-groups.js';
import { absent, advance, isLive, type LiveToken, type Token } from '../flow/ticket.js';

/**
 * Runs a stage that is a whole RxJS operator. If it errors, the frames inside are processed again, each alone, so that
 * only the faulty one fails; later frames get a new subscription, as they do if the operator completes before its
 * input.
 */
export function throughOperator(
  { id: component, log, fail: failed }: FailurePolicy,
  stage: OperatorStage,
): OperatorFunction<Token, Token> {
  return (input) =>
    new Observable((subscriber) => {
      const subscription = new Subscription();
      const inside = new Map<string, LiveToken>();
      /** The operator's input; undefined while it is not subscribed. */
      let entry: Subject<Frame> | undefined;
      let recovering = 0;
      let completed = false;

      function enter(token: LiveToken): void {
        inside.set(token.frame.id, token);
        token.ticket.countAsStaged();
        if (entry === undefined) connect();
        // If the subscription failed at once, the frame is already retried alone.
        if (inside.has(token.frame.id)) entry?.next(token.frame);
      }

      function connect(): void {
        const frames = new Subject<Frame>();
        entry = frames;
        const leave = (): LiveToken[] => {
          if (entry === frames) entry = undefined;
          const left = [...inside.values()];
          inside.clear();
          return left;
        };
        subscription.add(
          frames.pipe(stage.operator).subscribe({
            next: (out) => {
              const token = inside.get(out.id);
              if (token === undefined) {
                log.warn(
                  { frame: out.id },
                  `the operator of ${component} emitted a frame that was not inside it: ignored`,
                );
                return;
              }
              inside.delete(out.id);
              emit(token, out);
            },
            error: (thrown: unknown) => {
              const suspects = leave();
              if (thrown instanceof GroupFailure) {
                // The films of other groups stay together.
                for (const token of suspects) {
                  if (thrown.ids.has(token.frame.id)) fail(token, thrown.cause);
                  else enter(token);
                }
                if (completed) entry?.complete();
                finish();
                return;
              }
              recovering += 1;
              void retryAlone(suspects, thrown).finally(() => {
                recovering -= 1;
                finish();
              });
            },
            complete: () => {
              for (const token of leave()) {
                fail(token, new Error('the operator ended without emitting the frame'));
              }
              finish();
            },
          }),
        );
      }

      async function retryAlone(suspects: readonly LiveToken[], thrown: unknown): Promise<void> {
        const [only, ...others] = suspects;
        // A single frame must be the faulty one.
        if (only !== undefined && others.length === 0) {
          fail(only, thrown);
          return;
        }
        for (const token of suspects) {
          const alone = of(token.frame).pipe(
            stage.operator,
            throwIfEmpty(() => new Error('the operator did not emit the frame')),
          );
          try {
            const out = await lastValueFrom(alone);
            emit(token, out);
          } catch (error) {
            fail(token, error);
          }
        }
      }

      function emit(token: LiveToken, out: Frame): void {
        let next: Token;
        try {
          next = advance(token, out);
        } catch (error) {
          fail(token, error);
          return;
        }
        subscriber.next(next);
      }

      function fail(token: LiveToken, thrown: unknown): void {
        subscriber.next(failed(token, thrown));
      }

      function finish(): void {
        if (completed && recovering === 0 && entry === undefined) subscriber.complete();
      }

      subscription.add(
        input.subscribe({
          next: (token) => {
            if (isLive(token)) enter(token);
            else subscriber.next(absent(token));
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            completed = true;
            entry?.complete();
            finish();
          },
        }),
      );
      return subscription;
    });
}
