import { handleAll, ExponentialBackoff, noop, retry } from 'cockatiel';
import type { StageNode } from '../config/pipeline.js';
import { errorKind, messageOf, RxrayError } from '../errors.js';
import type { Log } from '../plugin.js';
import { absent, type LiveToken, type Token } from '../flow/ticket.js';

/** What happens when a stage fails on a frame. */
export interface FailurePolicy {
  readonly id: string;
  readonly log: Log;
  /** Retries according to `retry:`. */
  retry<T>(attempt: () => Promise<T>): Promise<T>;
  /** The token that replaces the frame, according to `onError:`. */
  fail(token: LiveToken, thrown: unknown): Token;
}

export function failurePolicyOf(
  { id, retry: wanted, onError = 'deadLetter' }: Pick<StageNode, 'id' | 'retry' | 'onError'>,
  log: Log,
): FailurePolicy {
  const policy =
    wanted === undefined
      ? noop
      : retry(handleAll, {
          // The first attempt does not count as a retry.
          maxAttempts: wanted.attempts - 1,
          backoff: new ExponentialBackoff({
            initialDelay: wanted.backoffMs,
            maxDelay: wanted.maxBackoffMs,
          }),
        });
  return {
    id,
    log,
    retry: (attempt) => policy.execute(attempt),
    fail(token, thrown) {
      const { ticket, frame } = token;
      if (errorKind(thrown) === 'skip') {
        ticket.fail(id, thrown, 'FRAME_STAGE');
        return absent(token);
      }
      const stops = thrown instanceof RxrayError && thrown.code === 'RUN_STOPPED';
      if (onError === 'continue' && !stops) {
        log.warn(
          { stage: id, frame: ticket.id },
          `the stage failed on a film, which continues: ${messageOf(thrown)}`,
        );
        ticket.countAsStaged();
        return { ticket, frame };
      }
      const cause =
        onError === 'stop'
          ? new RxrayError('RUN_STOPPED', `${id} failed on a film: ${messageOf(thrown)}`, {
              component: id,
              cause: thrown,
            })
          : thrown;
      ticket.fail(id, cause, 'FRAME_STAGE');
      return absent(token);
    },
  };
}
