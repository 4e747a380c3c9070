import { mergeMap, of, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import type { FailurePolicy } from './failure-policy.js';
import { absent, advance, isLive, type LiveToken, type Token } from '../flow/ticket.js';

/** Runs a stage of the form one frame in, one frame out, on up to `concurrency` frames at a time. */
export function eachFrame(
  stage: FailurePolicy,
  process: (frame: Frame) => Frame | Promise<Frame>,
  concurrency: number,
): OperatorFunction<Token, Token> {
  return mergeMap((token) => (isLive(token) ? apply(token) : of(absent(token))), concurrency);

  async function apply(token: LiveToken): Promise<Token> {
    try {
      return await stage.retry(async () => advance(token, await process(token.frame)));
    } catch (thrown) {
      return stage.fail(token, thrown);
    }
  }
}
