import { expect } from 'chai';
import { from, lastValueFrom, toArray } from 'rxjs';
import { route } from '../../../src/core/graph/route.js';
import { token } from './support.js';

describe('route', () => {
  it('lets frames pass for which the expression is true, and makes the others absent', async () => {
    const sent = [token('a'), token('b')];
    const out = await lastValueFrom(
      from(sent).pipe(
        route('s', ({ id }) => id === 'a'),
        toArray(),
      ),
    );
    expect(out.map(({ ticket, frame }) => [ticket.id, frame?.id])).to.deep.equal([
      ['a', 'a'],
      ['b', undefined],
    ]);
    expect(sent[1]?.ticket.failure).to.equal(undefined);
  });

  it('fails a frame on which the expression throws, and that one only', async () => {
    const sent = [token('a'), token('b')];
    const broken = route('s', ({ id }) => {
      if (id === 'a') throw new Error('no such field');
      return true;
    });
    const out = await lastValueFrom(from(sent).pipe(broken, toArray()));
    expect(out.map(({ frame }) => frame?.id)).to.deep.equal([undefined, 'b']);
    expect(sent[0]?.ticket.failure).to.include({
      code: 'FRAME_EXPRESSION',
      component: 's',
      message: 'no such field',
    });
  });
});
