import { expect } from 'chai';
import { from, lastValueFrom, toArray } from 'rxjs';
import { eachFrame } from '../../../src/core/graph/frames.js';
import { token, withResult } from './support.js';

describe('eachFrame', () => {
  it('costs only the frames on which the stage throws', async () => {
    const stage = eachFrame(
      's',
      (f) => {
        if (f.id === 'b') throw new Error('cannot do this one');
        return withResult(f, 's', 1);
      },
      2,
    );
    const sent = [...'abc'].map((id) => token(id));
    const out = await lastValueFrom(from(sent).pipe(stage, toArray()));
    expect(out.map(({ frame }) => frame?.id)).to.have.members(['a', undefined, 'c']);
    expect(sent[1]?.ticket.failure).to.include({ code: 'FRAME_STAGE', component: 's' });
  });

  for (const [title, process] of [
    ['another frame', (f) => ({ ...f, id: 'other' })],
    ['nothing', () => undefined as never],
    [
      'a malformed image',
      (f) => ({ ...f, image: { width: 2, height: 2, channels: 1, data: new Uint8Array(3) } }),
    ],
  ] as [string, Parameters<typeof eachFrame>[1]][]) {
    it(`fails a frame for which the stage returns ${title}`, async () => {
      const sent = token('a');
      const out = await lastValueFrom(from([sent]).pipe(eachFrame('s', process, 1)));
      expect(out.frame).to.equal(null);
      expect(sent.ticket.failure?.message).to.match(/did not return the frame|malformed image/);
    });
  }
});
