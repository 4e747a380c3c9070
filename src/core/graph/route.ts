import { map, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import { absent, isLive, type Token } from '../flow/ticket.js';

/** Passes a frame if the expression is true for it. An error in the expression fails the frame. */
export function route(component: string, when: (frame: Frame) => boolean): OperatorFunction<Token, Token> {
  return map((token) => {
    if (!isLive(token)) return absent(token);
    try {
      return when(token.frame) ? token : absent(token);
    } catch (thrown) {
      // A duplicate has no results, so an expression over results is not an error.
      if (token.ticket.duplicate) return absent(token);
      token.ticket.fail(component, thrown, 'FRAME_EXPRESSION');
      return absent(token);
    }
  });
}
