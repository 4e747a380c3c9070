import { mergeMap, of, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import type { FailurePolicy } from './failure-policy.js';
import { absent, advance, isLive, type LiveToken, type Token } from '../flow/ticket.js';

/**
 * Runs a stage of the form one frame in, one frame out, on up to `concurrency` frames at a time. `aheadBytes` says what
 * is held already of what stages behind it will make of a frame.
 */
export function eachFrame(
  stage: FailurePolicy,
  process: (frame: Frame) => Frame | Promise<Frame>,
  concurrency: number,
  aheadBytes: (made: Frame) => number = () => 0,
): OperatorFunction<Token, Token> {
  return mergeMap((token) => (isLive(token) ? apply(token) : of(absent(token))), concurrency);

  async function apply(token: LiveToken): Promise<Token> {
    try {
      return await stage.retry(async () => {
        const made = await process(token.frame);
        const next = advance(token, made);
        token.ticket.hold(aheadBytes(made));
        return next;
      });
    } catch (thrown) {
      return stage.fail(token, thrown);
    }
  }
}
