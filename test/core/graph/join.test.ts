import { expect } from 'chai';
import { map } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { joinBranches } from '../../../src/core/graph/join.js';
import { absent, type Token } from '../../../src/core/flow/ticket.js';
import { tokens, withResult } from './support.js';

/** Shows a token as its id, with the results that it carries; absent ones as `-id`. */
const shown = map(({ ticket, frame }: Token) =>
  frame === null ? `-${ticket.id}` : [ticket.id, ...Object.keys(frame.results)].join('+'),
);

function marbles(test: Parameters<TestScheduler['run']>[0]): void {
  new TestScheduler((actual, expected) => {
    expect(actual).to.deep.equal(expected);
  }).run(test);
}

describe('joinBranches', () => {
  it('joins a frame when its last branch has emitted, in any order', () => {
    marbles(({ hot, expectObservable }) => {
      const all = tokens('ab');
      const left = hot('--a-b---|', all).pipe(map((t) => ({ ...t, frame: withResult(t.frame, 'x', 1) })));
      const right = hot('---b--a-|', all).pipe(map((t) => ({ ...t, frame: withResult(t.frame, 'y', 2) })));
      expectObservable(joinBranches([left, right]).pipe(shown)).toBe('----b-a-|', { a: 'a+x+y', b: 'b+x+y' });
    });
  });

  it('takes the branches that have the frame, and is absent when none has', () => {
    marbles(({ hot, expectObservable }) => {
      const all = tokens('ab');
      const left = hot('ab|', all).pipe(map((t) => absent(t)));
      const right = hot('ab|', all).pipe(map((t) => (t.ticket.id === 'a' ? t : absent(t))));
      expectObservable(joinBranches([left, right]).pipe(shown)).toBe('ab|', { a: 'a', b: '-b' });
    });
  });

  it('is absent when the frame failed on one of its branches', () => {
    marbles(({ hot, expectObservable }) => {
      const all = tokens('a');
      const left = hot('a-|', all);
      const right = hot('-a|', all).pipe(
        map((t) => {
          t.ticket.fail('stage', new Error('no'), 'FRAME_STAGE');
          return absent(t);
        }),
      );
      expectObservable(joinBranches([left, right]).pipe(shown)).toBe('-a|', { a: '-a' });
    });
  });

  it('keeps the pixels and metadata of the first branch', () => {
    const { a } = tokens('a');
    if (a === undefined) throw new Error('no token');
    const left = { ...a, frame: { ...a.frame, meta: { bits: 16, left: true } } };
    const right = {
      ...a,
      frame: { ...a.frame, image: { ...a.frame.image, width: 9 } as never, meta: { bits: 8, right: true } },
    };
    marbles(({ hot, expectObservable }) => {
      const joined = joinBranches([hot('-a|', { a: left }), hot('a-|', { a: right })]);
      expectObservable(joined.pipe(map(({ frame }) => [frame?.image?.width, frame?.meta]))).toBe('-a|', {
        a: [1, { bits: 16, left: true, right: true }],
      });
    });
  });

  it('passes errors on and unsubscribes from every branch', () => {
    marbles(({ hot, cold, expectObservable, expectSubscriptions }) => {
      const left = cold('-#');
      const right = hot<Token>('----|');
      expectObservable(joinBranches([left as never, right])).toBe('-#');
      expectSubscriptions(right.subscriptions).toBe('^!');
    });
  });
});
