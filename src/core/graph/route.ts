import { map, type OperatorFunction } from 'rxjs';
import type { Frame } from '../frame.js';
import { absent, isLive, type Token } from '../flow/ticket.js';

/** Lets a frame pass when the expression is true for it. An error in the expression fails the frame: it is never true. */
export function route(component: string, when: (frame: Frame) => boolean): OperatorFunction<Token, Token> {
  return map((token) => {
    if (!isLive(token)) return absent(token);
    try {
      return when(token.frame) ? token : absent(token);
    } catch (thrown) {
      // Without results of its own, which it never was to have, it has nothing that the expression could be true of.
      if (token.ticket.duplicate) return absent(token);
      token.ticket.fail(component, thrown, 'FRAME_EXPRESSION');
      return absent(token);
    }
  });
}
