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
import type { Log, OperatorStage } from '../plugin.js';
import { absent, isLive, type Token } from './ticket.js';

/**
 * Runs a stage that is a whole RxJS operator. When it errors, the frames that were inside run again,
 * each alone through the operator, so that only the guilty one fails; frames that come later go
 * through a fresh subscription.
 */
export function throughOperator(
  component: string,
  stage: OperatorStage,
  log: Log,
): OperatorFunction<Token, Token> {
  return (input) =>
    new Observable((subscriber) => {
      const subscription = new Subscription();
      const inside = new Map<string, Token & { readonly frame: Frame }>();
      let recovering = 0;
      let completed = false;
      let entry = connect();

      function connect(): Subject<Frame> {
        const frames = new Subject<Frame>();
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
              const suspects = [...inside.values()];
              inside.clear();
              recovering += 1;
              if (!completed) entry = connect();
              void retryAlone(suspects, thrown).finally(() => {
                recovering -= 1;
                finish();
              });
            },
            complete: finish,
          }),
        );
        return frames;
      }

      async function retryAlone(
        suspects: readonly (Token & { readonly frame: Frame })[],
        thrown: unknown,
      ): Promise<void> {
        for (const token of suspects) {
          try {
            // A lone suspect is the guilty one: there is nobody else to blame.
            if (suspects.length === 1) throw thrown;
            const nothing = new Error('the operator did not emit the frame');
            emit(
              token,
              await lastValueFrom(
                of(token.frame).pipe(
                  stage.operator,
                  throwIfEmpty(() => nothing),
                ),
              ),
            );
          } catch (error) {
            token.ticket.fail(component, error, 'FRAME_STAGE');
            subscriber.next(absent(token));
          }
        }
      }

      function emit({ ticket, frame }: Token & { readonly frame: Frame }, out: Frame): void {
        ticket.charge(out, frame);
        subscriber.next({ ticket, frame: out });
      }

      function finish(): void {
        if (!completed || recovering > 0) return;
        for (const token of inside.values()) {
          token.ticket.fail(
            component,
            new Error('the operator ended without emitting the frame'),
            'FRAME_STAGE',
          );
          subscriber.next(absent(token));
        }
        inside.clear();
        subscriber.complete();
      }

      subscription.add(
        input.subscribe({
          next: (token) => {
            if (!isLive(token)) {
              subscriber.next(absent(token));
              return;
            }
            inside.set(token.frame.id, token);
            entry.next(token.frame);
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            completed = true;
            entry.complete();
          },
        }),
      );
      return subscription;
    });
}
