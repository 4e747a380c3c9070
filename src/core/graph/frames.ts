import { mergeMap, of, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import { absent, advance, isLive, type LiveToken, type Token } from './ticket.js';

/** Runs a stage of the form one frame in, one frame out, on up to `concurrency` frames at a time. */
export function eachFrame(
  component: string,
  process: (frame: Frame) => Frame | Promise<Frame>,
  concurrency: number,
): OperatorFunction<Token, Token> {
  return mergeMap((token) => (isLive(token) ? apply(token) : of(absent(token))), concurrency);

  async function apply(token: LiveToken): Promise<Token> {
    try {
      return advance(token, await process(token.frame));
    } catch (thrown) {
      token.ticket.fail(component, thrown, 'FRAME_STAGE');
      return absent(token);
    }
  }
}
