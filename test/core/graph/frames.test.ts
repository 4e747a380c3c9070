import { expect } from 'chai';
import { from, lastValueFrom, toArray } from 'rxjs';
import { eachFrame } from '../../../src/core/graph/frames.js';
import { stageNode, token, withResult } from './support.js';

describe('eachFrame', () => {
  it('fails only the frames on which the stage throws', async () => {
    const stage = eachFrame(
      stageNode(),
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
    [
      'a malformed image, of samples that no other stage knows',
      (f) => ({
        ...f,
        image: { width: 1, height: 1, channels: 1, data: new Uint8ClampedArray(1) as never },
      }),
    ],
  ] as [string, Parameters<typeof eachFrame>[1]][]) {
    it(`fails a frame for which the stage returns ${title}`, async () => {
      const sent = token('a');
      const out = await lastValueFrom(from([sent]).pipe(eachFrame(stageNode(), process, 1)));
      expect(out.frame).to.equal(null);
      expect(sent.ticket.failure?.message).to.match(/did not return the frame|malformed image/);
    });
  }

  it('retries according to `retry:`, and no more often', async () => {
    const retry = { attempts: 3, backoffMs: 1, maxBackoffMs: 2 };
    let calls = 0;
    const failing = (left: number) =>
      eachFrame(
        stageNode({ retry }),
        (f) => {
          calls += 1;
          if (left-- > 0) throw new Error('not yet');
          return f;
        },
        1,
      );
    const [fine, lost] = [token('a'), token('b')];
    await lastValueFrom(from([fine]).pipe(failing(2)));
    await lastValueFrom(from([lost]).pipe(failing(3)));
    expect([fine.ticket.live, lost.ticket.live, calls]).to.deep.equal([true, false, 6]);
  });

  it('lets a frame continue unchanged with `onError: continue`', async () => {
    const sent = token('a');
    const stage = eachFrame(stageNode({ onError: 'continue' }), () => Promise.reject(new Error('no')), 1);
    expect(await lastValueFrom(from([sent]).pipe(stage))).to.deep.equal(sent);
    expect([sent.ticket.live, sent.ticket.staged]).to.deep.equal([true, true]);
  });
});
